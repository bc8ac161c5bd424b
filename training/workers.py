"""Worker processes: they make batches ahead, which come in the order of their steps."""

import multiprocessing
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from attar.errors import AttarError, NotSupported


@dataclass(frozen=True, slots=True)
class _Failed:
    """What stands in the place of a batch that cannot be made."""

    error: AttarError


class _Batches(Dataset[Any]):
    def __init__(self, batches: Callable[[int], Any]) -> None:
        self._batches = batches

    def __getitem__(self, step: int) -> Any:
        try:
            return self._batches(step)
        except AttarError as error:  # whole: a loader adds the worker's traceback to the message
            return _Failed(error)


def batches_ahead(batches: Callable[[int], Any], steps: range, workers: int) -> Iterator[Any]:
    """Give the batch of each step, made by `workers` processes while earlier ones are trained on.

    They are forked from this one, so they share its memory, and each holds two batches at most.
    Without workers a batch is made when it is wanted; batches and their order are the same. An
    error of a batch is raised at its step. Raises NotSupported on a system that has no fork.
    """
    if workers == 0 or not steps:
        yield from map(batches, steps)
        return
    if "fork" not in multiprocessing.get_all_start_methods():
        raise NotSupported("this system cannot fork worker processes; leave workers at 0")
    with warnings.catch_warnings():
        # Of more workers than cores, and of threads in a process that forks: loaders keep to one.
        warnings.simplefilter("ignore")
        loader = iter(
            DataLoader(
                _Batches(batches),
                batch_size=None,
                sampler=steps,
                num_workers=workers,
                collate_fn=_as_it_is,
                generator=torch.Generator(),  # or the loader draws from that of the run
                multiprocessing_context="fork",
            )
        )
    for batch in loader:
        if isinstance(batch, _Failed):
            raise batch.error
        yield batch


def _as_it_is(batch: Any) -> Any:
    return batch
