"""A hop takes small jobs off the loop: those that came during one hop share the next.

To wake a thread, and the loop after it, costs more than to tokenise a sentence.
"""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

R = TypeVar("R")

_Job = tuple[Callable[[], Any], "asyncio.Future[Any]"]


class Hop:
    """One thread's worth of small jobs, for one loop."""

    def __init__(self) -> None:
        """Begin with nothing to do."""
        self._jobs: list[_Job] = []
        self._working: asyncio.Task[None] | None = None

    async def __call__(self, job: Callable[[], R]) -> R:
        """Give what `job` returns, or raise what it raises, from a thread."""
        result: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._jobs.append((job, result))
        if self._working is None:
            self._working = asyncio.create_task(self._work(), name="small jobs")
        return await result

    async def _work(self) -> None:
        while self._jobs:
            jobs, self._jobs = self._jobs, []
            try:
                found = await asyncio.to_thread(_all, [job for job, _ in jobs])
            except RuntimeError as ended:  # the process ends, and has no threads any more
                found = [(None, ended)] * len(jobs)
            for (_, result), (value, error) in zip(jobs, found, strict=True):
                if result.done():  # its caller has left
                    continue
                if error is not None:
                    result.set_exception(error)
                else:
                    result.set_result(value)
        self._working = None


def _all(jobs: list[Callable[[], Any]]) -> list[tuple[Any, BaseException | None]]:
    return [_attempt(job) for job in jobs]


def _attempt(job: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return job(), None
    except BaseException as error:  # noqa: BLE001 (its caller raises it)
        return None, error
