"""Composing: a run from a method, its batches and the numbers that every run has."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from .data.source import Rows
from .distributed import shard
from .loop import Training, as_it_is
from .method import Method
from .optimisers import adamw
from .sampler import Sampler
from .schedules import warmup_cosine


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """The numbers of every run; a recipe gives them values and adds those of its method.

    The rate rises to `rate` over `warmup` steps and falls to 0 along half a cosine.
    """

    steps: int
    seed: int = 0
    batch_size: int
    rate: float
    warmup: int
    weight_decay: float

    def only(self, *names: str) -> dict[str, Any]:
        """Give some of the settings, to pass on under their own names."""
        return {name: getattr(self, name) for name in names}


def compose(
    method: Method[Any],
    settings: RunSettings,
    *,
    items: Callable[[Tensor], Any],
    rows: Callable[[int], Tensor],
    probe: Callable[[], dict[str, float]],
    views: Callable[[Any, int], Any] = as_it_is,
    optimiser: Optimizer | None = None,
) -> Training[Any]:
    """Compose the run that trains a method.

    `rows` gives the (batch_size,) rows of a step, `items` what is at this process's part of them,
    and `views` makes the method's batch of that, by default the items themselves. `probe`
    gives figures by name. The optimiser is AdamW where none is given.
    """
    return Training(
        method=method,
        batches=lambda step: items(shard(rows(step))),
        views=views,
        optimiser=optimiser or adamw(method, weight_decay=settings.weight_decay),
        rate=warmup_cosine(settings.rate, settings.warmup, settings.steps),
        steps=settings.steps,
        seed=settings.seed,
        probe=lambda _step: probe(),
    )


def compose_rows(
    method: Method[Any],
    settings: RunSettings,
    items: Rows,
    *,
    probe: Callable[[], dict[str, float]],
    views: Callable[[Any, int], Any] = as_it_is,
) -> Training[Any]:
    """Compose the run that trains a method on uniform batches of a source's items."""
    rows = uniform(len(items), settings)
    return compose(method, settings, items=items.__getitem__, rows=rows, probe=probe, views=views)


def uniform(
    count: int, settings: RunSettings, *, lengths: tuple[int, ...] | None = None
) -> Sampler:
    """Give the rows of each step: uniform batches of `count` items, those of like length together.

    See `Sampler`; without `lengths`, any items are together.
    """
    size, seed = settings.batch_size, settings.seed
    return Sampler(items=count, batch_size=size, seed=seed, lengths=lengths)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw initial weights from `seed`; torch's global generator is put back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
