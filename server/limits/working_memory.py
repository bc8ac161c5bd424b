"""Working memory: the bytes that requests are read into, estimated before they are taken."""

import asyncio
from typing import Final

from attar.errors import InvalidInput, Overloaded

from .fair_shares import FairShares

# One caller may hold nearly all, for a few large requests are that: what is left to others, here
# one part in 257, has room for hundreds of small ones.
_ALPHA: Final = 256
SETTING: Final = "max_working_bytes"
_WAITING_PART: Final = 4  # of the limit: what may wait in addition
_ARRIVING_PART: Final = 2  # of the limit: what is not read yet may have of it
_TIMEOUT_S: Final = 30.0  # of a whole request, for its neighbours to end


class WorkingMemory:
    """A bound on the bytes that all calls together hold."""

    def __init__(self, limit: int) -> None:
        """Let calls hold `limit` bytes together."""
        self._limit = limit
        self._waiting = 0
        self._growing: dict[object, int] = {}  # bytes of calls that wait for more, in their order
        self._shares = FairShares(SETTING, limit, what="bytes", alpha=_ALPHA)
        # A caller decides how long a request takes to arrive, so here nobody may have nearly all.
        self._arriving = FairShares(
            SETTING, limit // _ARRIVING_PART, what="bytes of requests that are not read yet"
        )

    @property
    def held(self) -> int:
        """Bytes that calls hold now."""
        return self._shares.total

    def take(self, size: int, caller: str, *, own: int = 0) -> None:
        """Hold `size` more bytes than `own` for a caller; raises Overloaded where there is no room.

        Raises InvalidInput where there would be none with nobody else.
        """
        self._refuse_too_large(size + own)
        if not self._shares.take(caller, size, own=own):
            raise self._refusal(size)

    def take_arriving(self, size: int, caller: str, *, own: int, of_it: int) -> None:
        """Hold `size` bytes as `take` does, of a request of which `of_it` bytes have arrived.

        Raises Overloaded too where those that are not read yet have too much.
        """
        self._refuse_too_large(size + own)
        if not self._arriving.take(caller, size, own=of_it):
            raise Overloaded(
                f"requests that are not read yet take {self._arriving.total} bytes of {SETTING}, "
                f"{self._limit}; they may take half of it, and those of one caller as much as they "
                "leave free; retry later"
            )
        try:
            self.take(size, caller, own=own)
        except Overloaded:
            self._arriving.give(caller, size)
            raise

    def give_arriving(self, size: int, caller: str) -> None:
        """Count a request of `size` bytes no more among those that are not read yet."""
        self._arriving.give(caller, size)

    async def grow(self, size: int, caller: str, *, own: int) -> None:
        """Hold `size` bytes more for a call that holds `own`, once its neighbours have ended.

        Where all wait for each other, the last that came is refused. Raises Overloaded then and
        when others take too long, and InvalidInput where there is never room.
        """
        self._refuse_too_large(size + own)
        if self._shares.take(caller, size, own=own):
            return
        me = object()
        self._growing[me] = own
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                while not self._shares.take(caller, size, own=own):
                    if self.held <= sum(self._growing.values()) and me is [*self._growing][-1]:
                        raise self._refusal(size)
                    await self._shares.change()
        except TimeoutError:
            raise self._refusal(size) from None
        finally:
            del self._growing[me]

    async def wait(self, size: int, caller: str, *, received: int) -> None:
        """Hold `size` bytes for a caller once there is room; what waits has `received` until then.

        Raises Overloaded where too much waits already, and InvalidInput where there is never room.
        """
        self._refuse_too_large(size)
        if self._shares.take(caller, size):
            return
        if received > self._limit // _WAITING_PART - self._waiting:
            raise Overloaded(
                f"messages of {self._waiting} bytes wait for room in {SETTING}, {self._limit}, and "
                f"this one has {received}; retry later"
            )
        self._waiting += received
        try:
            await self._shares.wait(caller, size)
        finally:
            self._waiting -= received

    def give(self, size: int, caller: str) -> None:
        """Hold `size` bytes less for a caller."""
        self._shares.give(caller, size)

    def _refusal(self, size: int) -> Overloaded:
        return Overloaded(
            f"the requests in work take {self.held} bytes of {SETTING}, {self._limit}, and this "
            f"one {size}; retry later"
        )

    def _refuse_too_large(self, size: int) -> None:
        if size > self._limit:
            raise InvalidInput(
                f"the request takes {size} bytes of memory, more than {SETTING}, "
                f"{self._limit}; send less"
            )
