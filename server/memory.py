"""Memory: what large requests have left behind goes back to the system.

glibc keeps what is freed, in an arena for each thread, for requests that may never come.
"""

import asyncio
import ctypes
import gc
import time
from typing import Final

import psutil

from .door import Door

_LOOK_EVERY_S: Final = 1.0
_LOOKS: Final = 3  # after the last call: an answer may still be on its way when its call has ended
_GROWTH: Final = 1.02  # over the least that was ever resident after a trim: less is not worth one
_SHARE: Final = 0.01  # of one core, at most
# mallopt's numbers. By default both thresholds grow with what is freed, and once 32 MB were, an
# arena keeps 64 MB.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGE: Final = 2**20


async def keep_small(door: Door) -> None:
    """Trim the heap while there are calls and for a while after, until cancelled.

    A trim walks the free lists, in a thread and without Python's lock; cycles are looked for where
    nobody waits. Where the C library is not glibc nothing is done.
    """
    glibc = ctypes.CDLL(None)
    if not hasattr(glibc, "malloc_trim"):
        return
    glibc.mallopt(_TRIM_THRESHOLD, _LARGE)
    glibc.mallopt(_MMAP_THRESHOLD, _LARGE)
    process = psutil.Process()
    least = process.memory_info().rss
    looks = ended = 0
    pause_s = _LOOK_EVERY_S
    while True:
        await asyncio.sleep(pause_s)
        pause_s = _LOOK_EVERY_S
        busy = door.in_flight > 0 or door.ended > ended
        looks, ended = _LOOKS if busy else max(0, looks - 1), door.ended
        if looks and process.memory_info().rss > least * _GROWTH:
            began = time.thread_time()
            if not door.in_flight:
                gc.collect()
            spent_s = time.thread_time() - began + await asyncio.to_thread(_trim, glibc)
            pause_s = max(pause_s, spent_s / _SHARE)
            least = min(least, process.memory_info().rss)


def _trim(glibc: ctypes.CDLL) -> float:
    """Give all that is free back; gives the seconds of a core that it took."""
    began = time.thread_time()
    glibc.malloc_trim(0)
    return time.thread_time() - began
