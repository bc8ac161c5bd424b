"""Composing: a run from a method, its batches and the numbers that every run has."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from .data.source import Source
from .distributed import shard, step_generator
from .loop import Training, as_it_is
from .method import Method
from .optimisers import adamw
from .probes.encoder import probe_encoder
from .sampler import Sampler
from .schedules import warmup_cosine


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """The numbers of every run, for small data; a recipe changes some and adds its method's.

    The rate rises to `rate` over `warmup` steps and falls to 0 along half a cosine.
    """

    steps: int = 200
    seed: int = 0
    batch_size: int = 64
    rate: float = 2e-3
    warmup: int = 20  # steps
    weight_decay: float = 0.01

    def only(self, *names: str) -> dict[str, Any]:
        """Give some of the settings, to pass on under their own names."""
        return {name: getattr(self, name) for name in names}


class Items(Protocol):
    """What a run trains on, by row numbers: a tensor, rows read from a file, pairs of texts."""

    def __len__(self) -> int:
        """Give how many items there are."""

    def __getitem__(self, rows: Tensor, /) -> Any:
        """Give the items at (b,) int64 `rows`."""


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
    items: Items,
    *,
    probe: Callable[[], dict[str, float]],
    views: Callable[[Any, int], Any] = as_it_is,
    lengths: tuple[int, ...] | None = None,
) -> Training[Any]:
    """Compose the run that trains a method on batches of items; see `uniform` for `lengths`."""
    rows = uniform(len(items), settings, lengths=lengths)
    return compose(method, settings, items=items.__getitem__, rows=rows, probe=probe, views=views)


def compose_source(
    method: Method[Any],
    settings: RunSettings,
    data: Source,
    *,
    views: Callable[[Any, int], Any] = as_it_is,
) -> Training[Any]:
    """Compose the run that trains a method on a source, which probes what is exported too.

    The probe gives RankMe and, with labels, accuracies.
    """
    probe = partial(probe_encoder, method.exported, data)
    return compose_rows(method, settings, data.train, views=views, probe=probe)


def step_views(
    view: Callable[..., Any], settings: RunSettings, *names: str
) -> Callable[[Any, int], Any]:
    """Give the views of a step: `view(items, generator, ...)` with the settings of these names.

    The generator depends on the seed, the step and the process alone (`step_generator`).
    """
    own = settings.only(*names)
    return lambda items, step: view(items, step_generator(settings.seed, step), **own)


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
