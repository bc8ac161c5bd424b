"""Cooperative steps: long work leaves the event loop, and gives up the interpreter often.

Another thread alone is not enough: one call of C that holds the interpreter for 100 ms stops the
loop as if it ran there. So what is long is done in steps, and between two of them others run.
"""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from typing import Final, TypeVar

R = TypeVar("R")

SMALL_BYTES: Final = 2**12
"""What is no larger costs less than to wake a thread, and is done where it is."""
STEP: Final = 2**13
"""Values that are converted between two moments in which others run."""
STEP_BYTES: Final = 2**15
"""Bytes that are read between two such moments."""
_MOMENT_S: Final = 5e-5
_NICE: Final = 5  # a third of the processor, at least, next to another thread that wants all of it


def lower_priority() -> None:
    """Let the loop's thread go before this one: it refuses what this one has no time for.

    Where all processors are busy it would else fall behind, and refusals with it.
    """
    if sys.platform == "linux":  # the one system where a thread has a niceness of its own
        own = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, own, os.getpriority(os.PRIO_PROCESS, own) + _NICE)


def available_cores() -> int:
    """How many cores this process may use."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return allowed or 1


LARGE_JOBS: Final = max(1, available_cores() // 2)
"""How many large jobs work at a time; others wait. A small call is handed from thread to thread
three times, and each time waits behind every thread that wants the processor. Next to ten large
requests on one core its p99 was 90 ms with six such threads, and 30 ms with one."""

# Not asyncio's own threads: there one-word texts would wait behind the long jobs.
_THREADS: Final = ThreadPoolExecutor(
    LARGE_JOBS, thread_name_prefix="attar-large", initializer=lower_priority
)
_REQUEST_BYTES: ContextVar[int] = ContextVar("request_bytes", default=0)


async def off_the_loop(size: int, job: Callable[[], R]) -> R:
    """Give what `job` returns or raise what it raises; in a thread where `size`, bytes, is large.

    A caller who leaves takes a job along that has not begun; one that has begun is awaited, so that
    what it holds is counted as long as it holds it.
    """
    if size <= SMALL_BYTES:
        return job()
    begun = _THREADS.submit(copy_context().run, job)
    try:
        return await asyncio.shield(asyncio.wrap_future(begun))
    except asyncio.CancelledError:
        if not begun.cancel():
            await asyncio.wait((asyncio.wrap_future(begun),))
        raise
    finally:
        del begun, job  # or an error, which it keeps, keeps both by its traceback


def request_bytes() -> int:
    """Give the size of the gRPC message that is being answered; 0 where there is none."""
    return _REQUEST_BYTES.get()


def came(size: int) -> None:
    """Keep the size of the message that is answered from here on, in this task."""
    _REQUEST_BYTES.set(size)


def steps(count: int, step: int = STEP) -> Iterator[slice]:
    """Give the ranges of `count` values to work on, letting other threads run between them."""
    for start in range(0, count, step):
        if start:
            give_way()
        yield slice(start, start + step)


def give_way() -> None:
    """Let other threads have the interpreter, for 50 us; on the loop, which waits for none, not."""
    if asyncio._get_running_loop() is None:  # noqa: SLF001 (of asyncio's public names)
        time.sleep(_MOMENT_S)
