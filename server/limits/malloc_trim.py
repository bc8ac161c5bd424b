"""Trimming malloc: memory that large requests have freed goes back to the system.

glibc keeps what is freed, in an arena for each thread, for requests that may never come. Where the
C library is another one nothing here does anything.
"""

import asyncio
import ctypes
import gc
import time
from typing import TYPE_CHECKING, Final

import psutil

if TYPE_CHECKING:
    from ..admission import Admission  # which imports gRPC, and the store's process does not

_LOOK_EVERY_S: Final = 1.0
_LOOKS: Final = 3  # after the last call: an answer may still be on its way when its call has ended
_GROWTH: Final = 1.02  # over the least that was ever resident after a trim: less is not worth one
_SHARE: Final = 0.01  # of one core, at most
# mallopt's numbers. By default both thresholds grow with what is freed, and once 32 MB were, an
# arena keeps 64 MB.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGE: Final = 2**20
_C: Final = ctypes.CDLL(None)
_IS_GLIBC: Final = hasattr(_C, "malloc_trim")


def keep_no_large_blocks() -> None:
    """Let glibc give what is large back as soon as it is freed."""
    if _IS_GLIBC:
        _C.mallopt(_TRIM_THRESHOLD, _LARGE)
        _C.mallopt(_MMAP_THRESHOLD, _LARGE)


def trim() -> float:
    """Give back all that is free; gives the seconds of a core that it took.

    It walks the free lists without Python's lock.
    """
    began = time.thread_time()
    if _IS_GLIBC:
        _C.malloc_trim(0)
    return time.thread_time() - began


async def keep_small(admission: "Admission") -> None:
    """Trim while there are calls and for a while after, until cancelled.

    Cycles are looked for too, once nobody has called for a while. That stops everything while it
    looks, so it looks at nothing that was there before the first call: some 40 ms less.
    """
    gc.collect()
    gc.freeze()
    if not _IS_GLIBC:
        return
    keep_no_large_blocks()
    process = psutil.Process()
    least = process.memory_info().rss
    looks = ended = 0
    pause_s = _LOOK_EVERY_S
    while True:
        await asyncio.sleep(pause_s)
        pause_s = _LOOK_EVERY_S
        busy = admission.in_flight > 0 or admission.ended > ended
        looks, ended = _LOOKS if busy else max(0, looks - 1), admission.ended
        if looks and process.memory_info().rss > least * _GROWTH:
            began = time.thread_time()
            if not busy:
                gc.collect()
            spent_s = time.thread_time() - began + await asyncio.to_thread(trim)
            pause_s = max(pause_s, spent_s / _SHARE)
            least = min(least, process.memory_info().rss)
