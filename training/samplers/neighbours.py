"""Temporal neighbours: windows of one series at fixed distances in time, as pairs or triples.

Before and after a frame: Goulão and Oliveira 2022 (TOV-VICReg), arXiv:2209.10901. The state k steps
on: Zheng et al., NeurIPS 2023 (TACO), arXiv:2306.13229; Cui et al., NeurIPS 2024 (DynaMo),
arXiv:2409.12192.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from attar.errors import InvalidInput

from ..sampler import Sampler


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """Batches of windows with their neighbours, without replacement of the window at offset 0.

    `lengths` are the windows that each series has, whose rows follow one another, series by series.
    `offsets` are in windows: (0, k) gives pairs, (-k, 0, k) triples. All are of one series, so that
    a window too close to its ends has no neighbours and is left out. The rows of step s depend on
    (seed, s) alone.
    """

    lengths: tuple[int, ...]
    offsets: tuple[int, ...]
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        places = len(self.places)
        if not 1 <= self.batch_size <= places:
            raise InvalidInput(
                f"batch_size must be in [1, {places}], the windows that have neighbours at "
                f"{self.offsets} in their series; got {self.batch_size}"
            )

    @property
    def places(self) -> Int[Tensor, " places"]:
        """The rows at offset 0: all whose neighbours are in their series."""
        lengths = torch.tensor(self.lengths, dtype=torch.int64)
        length = lengths.repeat_interleave(lengths)  # (rows,)
        at = torch.arange(len(length)) - (lengths.cumsum(0) - lengths).repeat_interleave(lengths)
        first, last = min((0, *self.offsets)), max((0, *self.offsets))
        return ((at + first >= 0) & (at + last < length)).nonzero()[:, 0]

    @property
    def steps_per_epoch(self) -> int:
        """How many batches one pass over the windows gives."""
        return len(self.places) // self.batch_size

    def __call__(self, step: int) -> Int[Tensor, "b offsets"]:
        """Give the int64 rows of step `step`, from 0, one item's windows a row."""
        places = self.places
        rows = Sampler(items=len(places), batch_size=self.batch_size, seed=self.seed)(step)
        return places[rows][:, None] + torch.tensor(self.offsets)
