"""Small jobs: those that come while a thread works share the next turn of that thread.

To wake a thread, and the loop after it, costs more than to tokenise a sentence. A job that never
ends, as a tokenizer's pattern may at some text, is given up: its threads are the hop's own, so that
those of others are there for them.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar

from attar.errors import Unavailable

from ..cooperative import LARGE_JOBS
from .run_thread import Lost, RunThread

R = TypeVar("R")

_Job = tuple[Callable[[], Any], "asyncio.Future[Any]"]
_Outcome = tuple[Any, BaseException | None]

_MOST_HUNG: Final = 2  # threads that take a core each and give nothing; then no job is begun


class CoalescingExecutor:
    """The jobs of one thing, for one loop."""

    def __init__(self, name: str = "hop", *, timeout_s: float | None = None) -> None:
        """Begin with nothing to do; a job is given up after `timeout_s`."""
        self._name, self._timeout_s = name, timeout_s
        self._jobs: list[_Job] = []
        self._working: asyncio.Task[None] | None = None
        self._worker = RunThread(name)
        self._hung: list[RunThread] = []
        self._large = asyncio.Semaphore(LARGE_JOBS)
        self._alone: set[asyncio.Task[_Outcome]] = set()

    async def __call__(self, job: Callable[[], R]) -> R:
        """Give what a small job returns, or raise what it raises, from a thread.

        Raises Unavailable where it was given up, or others were that run still.
        """
        result: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._jobs.append((job, result))
        if self._working is None:
            self._working = asyncio.create_task(self._work(), name="small jobs")
        return await result

    async def alone(self, job: Callable[[], R]) -> R:
        """Give what a large job returns, from a thread of its own; raises as a small one's does."""
        task = asyncio.create_task(self._by_itself(job), name="a large job")
        self._alone.add(task)  # it goes on, and counts, where its caller leaves
        task.add_done_callback(self._alone.discard)
        value, error = await asyncio.shield(task)
        if error is not None:
            raise error
        result: R = value
        return result

    def close(self) -> None:
        """Let the thread of small jobs end."""
        self._worker.close()

    async def _by_itself(self, job: Callable[[], Any]) -> _Outcome:
        async with self._large:
            worker = RunThread(self._name)
            (outcome,) = await self._run(worker, [job])
            worker.close()
            return outcome

    async def _work(self) -> None:
        while self._jobs:
            jobs, self._jobs = self._jobs, []
            outcomes = await self._run(self._worker, [job for job, _ in jobs])
            for (_, result), (value, error) in zip(jobs, outcomes, strict=True):
                if result.done():  # its caller has left
                    continue
                if error is not None:
                    result.set_exception(error)
                else:
                    result.set_result(value)
        self._working = None

    async def _run(self, worker: RunThread, jobs: list[Callable[[], Any]]) -> list[_Outcome]:
        self._hung = [one for one in self._hung if one.alive]
        if len(self._hung) >= _MOST_HUNG:
            hung = Unavailable(f"{self._name}: {len(self._hung)} of its jobs do not end; retry")
            return [(None, hung)] * len(jobs)
        try:
            return await worker.run(partial(_all, jobs), timeout_s=self._timeout_s)
        except Lost as lost:
            self._hung.append(worker)
            worker.close()
            if worker is self._worker:
                self._worker = RunThread(self._name)
            given_up = Unavailable(f"{self._name}: {lost}; retry, or leave an item out")
            return [(None, given_up)] * len(jobs)
        except RuntimeError as ended:  # the process ends, and has no threads any more
            return [(None, ended)] * len(jobs)


def _all(jobs: list[Callable[[], Any]]) -> list[_Outcome]:
    return [_attempt(job) for job in jobs]


def _attempt(job: Callable[[], Any]) -> _Outcome:
    try:
        return job(), None
    except BaseException as error:
        return None, error
