"""Working: the memory that requests in work are made into, estimated before it is taken."""

import asyncio
from typing import Final

from attar.errors import InvalidInput, Overloaded

SETTING: Final = "max_working_bytes"


class Working:
    """A bound on what all calls together hold; each call keeps its own `Share`."""

    def __init__(self, limit: int) -> None:
        """Let calls hold `limit` bytes together."""
        self._limit = limit
        self._held = 0
        self._freed = asyncio.Event()

    @property
    def held(self) -> int:
        """Bytes that calls hold now."""
        return self._held

    def take(self, size: int) -> None:
        """Hold `size` bytes more; raises Overloaded where others leave no room for them.

        Raises InvalidInput where there would be none with nobody else.
        """
        self._refuse_too_large(size)
        if size > self._limit - self._held:
            raise Overloaded(
                f"the requests in work take {self._held} bytes of {SETTING}, {self._limit}, and "
                f"this one {size}; retry later"
            )
        self._held += size

    async def wait(self, size: int) -> None:
        """Hold `size` bytes more once there is room; raises InvalidInput where there never is."""
        self._refuse_too_large(size)
        while size > self._limit - self._held:
            self._freed.clear()
            await self._freed.wait()
        self._held += size

    def give(self, size: int) -> None:
        """Hold `size` bytes less."""
        self._held -= size
        self._freed.set()

    def _refuse_too_large(self, size: int) -> None:
        if size > self._limit:
            raise InvalidInput(
                f"the request takes {size} bytes of memory and its answer, more than {SETTING}, "
                f"{self._limit}; send less"
            )
