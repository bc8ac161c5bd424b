"""Working: the memory that requests in work are made into, estimated before it is taken."""

import asyncio
from typing import Final

from attar.errors import InvalidInput, Overloaded

SETTING: Final = "max_working_bytes"
_WAITING_PART: Final = 4  # of the limit: what may wait beside it


class Working:
    """A bound on what all calls together hold; each call keeps its own `Share`."""

    def __init__(self, limit: int) -> None:
        """Let calls hold `limit` bytes together."""
        self._limit = limit
        self._held = self._waiting = 0
        self._freed = asyncio.Event()

    @property
    def held(self) -> int:
        """Bytes that calls hold now."""
        return self._held

    def take(self, size: int, *, own: int = 0) -> None:
        """Hold `size` bytes beside `own`; raises Overloaded where others leave no room for them.

        Raises InvalidInput where there would be none with nobody else.
        """
        self._refuse_too_large(size + own)
        if size > self._limit - self._held:
            raise Overloaded(
                f"the requests in work take {self._held} bytes of {SETTING}, {self._limit}, and "
                f"this one {size}; retry later"
            )
        self._held += size

    async def wait(self, size: int, *, kept: int) -> None:
        """Hold `size` bytes more once there is room, for what has `kept` bytes until then.

        Raises Overloaded where too much waits already, and InvalidInput where there is never room.
        """
        self._refuse_too_large(size)
        if size <= self._limit - self._held:
            self._held += size
            return
        if kept > self._limit // _WAITING_PART - self._waiting:
            raise Overloaded(
                f"messages of {self._waiting} bytes wait for room in {SETTING}, {self._limit}, and "
                f"this one has {kept}; retry later"
            )
        self._waiting += kept
        try:
            while size > self._limit - self._held:
                self._freed.clear()
                await self._freed.wait()
        finally:
            self._waiting -= kept
        self._held += size

    def give(self, size: int) -> None:
        """Hold `size` bytes less."""
        self._held -= size
        self._freed.set()

    def _refuse_too_large(self, size: int) -> None:
        if size > self._limit:
            raise InvalidInput(
                f"the request takes {size} bytes of memory, more than {SETTING}, "
                f"{self._limit}; send less"
            )
