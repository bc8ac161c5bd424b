"""The sampler: which rows meet at a step, as a pure function of the step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from attar.errors import InvalidInput

Item = TypeVar("Item")
WINDOW = 8  # batches sorted together: fewer pad more, more make an epoch's batches alike


def seed_at(seed: int, *path: int) -> int:
    """Give a 64-bit seed for one path in a run, such as (seed, step); paths are uncorrelated.

    Raises InvalidInput when a number is below 0.
    """
    if min(seed, *path, 0) < 0:
        raise InvalidInput(f"a seed must be 0 or more; got {(seed, *path)}")
    return int(np.random.SeedSequence([seed, *path]).generate_state(1, np.uint64)[0])


def evenly(items: Sequence[Item], count: int) -> list[Item]:
    """Pick `count` items, or all if there are fewer, from all over a corpus that is in order."""
    count = min(count, len(items))
    return [items[index * len(items) // count] for index in range(count)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampler:
    """Uniform batches without replacement: every epoch is a new order of all `items` rows.

    The rows of step s depend on (seed, s) alone, so resuming needs nothing but the step. Batches
    are whole: the rows left over at the end of an epoch wait for a later one. With `lengths`, one
    an item, batches are cut from windows of `WINDOW` batches sorted by length, and their order is
    shuffled, so that padding to the longest wastes little while company changes with the epoch.
    """

    items: int
    batch_size: int
    seed: int
    lengths: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.batch_size <= self.items:
            raise InvalidInput(
                f"batch_size must be in [1, items]; got {self.batch_size} of {self.items} items"
            )
        if self.lengths is not None and len(self.lengths) != self.items:
            raise InvalidInput(
                f"lengths must be one an item; got {len(self.lengths)} of {self.items} items"
            )

    @property
    def steps_per_epoch(self) -> int:
        """How many batches one pass over the rows gives."""
        return self.items // self.batch_size

    def __call__(self, step: int) -> Tensor:
        """Give the (batch_size,) int64 rows of step `step`, from 0."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        generator = torch.Generator().manual_seed(seed_at(self.seed, epoch))
        rows = torch.randperm(self.items, generator=generator)
        rows = rows[: self.steps_per_epoch * self.batch_size]
        if self.lengths is not None:
            lengths = torch.tensor(self.lengths)
            windows = torch.split(rows, WINDOW * self.batch_size)
            rows = torch.cat([w[lengths[w].argsort(stable=True)] for w in windows])
            batch = int(torch.randperm(self.steps_per_epoch, generator=generator)[batch])
        return rows[batch * self.batch_size :][: self.batch_size]
