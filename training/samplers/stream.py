"""A stream of domains: batches of one domain for its steps, then of the next one.

The setting of continued pretraining: Singh et al. 2025, arXiv:2503.02844.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Self

import torch
from torch import Tensor

from attar.errors import InvalidInput

from ..sampler import Sampler, seed_at


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DomainStream:
    """Uniform batches without replacement of each of `domains` in turn, (items,) int64 rows each.

    Domain i has `steps[i]` steps; the last one goes on after them. The rows of step s depend on
    (seed, s) alone.
    """

    domains: tuple[Tensor, ...]
    steps: tuple[int, ...]
    batch_size: int
    seed: int

    @classmethod
    def of_sizes(cls, sizes: Sequence[int], *, steps: int, batch_size: int, seed: int) -> Self:
        """Give domains of so many rows each, one after another, for `steps` each."""
        domains = torch.split(torch.arange(sum(sizes)), [*sizes])
        return cls(domains=domains, steps=(steps,) * len(sizes), batch_size=batch_size, seed=seed)

    def __post_init__(self) -> None:
        if len(self.domains) != len(self.steps) or not self.steps or min(self.steps) < 1:
            raise InvalidInput(
                "steps must be at least 1 for each domain, of at least one; "
                f"got {self.steps} for {len(self.domains)} domains"
            )
        least = min(len(rows) for rows in self.domains)
        if not 1 <= self.batch_size <= least:
            raise InvalidInput(
                f"batch_size must be in [1, {least}], the smallest domain's items; "
                f"got {self.batch_size}"
            )

    def domain(self, step: int) -> int:
        """Give the number of the domain that step `step` is of."""
        return min(bisect_right(list(accumulate(self.steps)), step), len(self.steps) - 1)

    def __call__(self, step: int) -> Tensor:
        """Give the (batch_size,) int64 rows of step `step`, from 0."""
        domain = self.domain(step)
        rows = self.domains[domain]
        sampler = Sampler(
            items=len(rows), batch_size=self.batch_size, seed=seed_at(self.seed, domain)
        )
        return rows[sampler(step - sum(self.steps[:domain]))]
