"""A run thread runs one thing at a time for the event loop, and can be replaced by another.

A run that hangs inside a backend cannot be stopped from Python. So nobody waits for its thread: it
is a daemon, the caller that gave it up starts a new one, and a late result is dropped.
"""

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

from ..cooperative import lower_priority

R = TypeVar("R")


class Lost(Exception):
    """A run gave no result in time, or its thread ended; the worker is not to be used again."""


class RunThread:
    """One daemon thread; `run` is called from one loop, and not twice at a time."""

    def __init__(self, name: str) -> None:
        """Start nothing yet."""
        self._jobs: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._waiting: tuple[asyncio.AbstractEventLoop, asyncio.Future[Any]] | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    @property
    def alive(self) -> bool:
        """Whether its thread still is: one that was given up may be for as long as it hangs."""
        return self._thread.is_alive()

    async def run(self, job: Callable[[], R], *, timeout_s: float | None) -> R:
        """Give what `job`, which must not raise, returns from the thread.

        Raises Lost after `timeout_s`, or when the thread has ended or ends meanwhile. A
        caller who cancels this leaves a job that runs to its end, and must not use this again.
        """
        loop = asyncio.get_running_loop()
        result: asyncio.Future[R | Lost] = loop.create_future()
        # A thread on its way out says so before it looks who waits, and this one waits before it
        # asks: one of the two sees the other. Asking whether it is alive would leave a gap.
        self._waiting = loop, result
        self._jobs.put(job)
        if self._thread.ident is None:
            self._thread.start()
        elif self._ended:
            raise Lost("its thread has ended")
        # As asyncio.timeout, at half of its cost.
        timer = None if timeout_s is None else loop.call_later(timeout_s, _lose, result, timeout_s)
        try:
            outcome = await result
        finally:
            if timer is not None:
                timer.cancel()
        if isinstance(outcome, Lost):
            raise outcome
        return outcome

    def close(self) -> None:
        """Let the thread end after what it runs now."""
        self._jobs.put(None)

    def _work(self) -> None:
        lower_priority()
        try:
            while (job := self._jobs.get()) is not None:
                self._deliver(job())
                del job  # it holds its callers' items, and the next may be long in coming
        finally:  # on its way out, by whatever end, somebody may be waiting still
            self._ended = True
            self._deliver(Lost("its thread has ended"))

    def _deliver(self, outcome: object) -> None:
        if self._waiting is None:
            return
        loop, result = self._waiting
        try:
            loop.call_soon_threadsafe(_settle, result, outcome)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return


def _lose(result: "asyncio.Future[Any]", timeout_s: float) -> None:
    _settle(result, Lost(f"no result in {timeout_s:g} s"))


def _settle(result: "asyncio.Future[Any]", outcome: object) -> None:
    if not result.done():
        result.set_result(outcome)
