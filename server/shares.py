"""Shares: how much of a limit each caller holds, so that nobody holds all of it.

A caller may hold as much as is left free. Alone it reaches half of the limit, and with n others
each reaches one part in n + 2: as much is always left for who comes next. These are the dynamic
thresholds of Choudhury and Hahne (IEEE/ACM Transactions on Networking 6(2), 1998), with alpha 1.
"""

import asyncio
from collections import Counter
from contextvars import ContextVar
from typing import Final

from attar.errors import Overloaded

SLOWEST_BYTES_PER_S: Final = 2**16  # of a caller who takes an answer: 0.5 Mbit/s
SHORT_BYTES: Final = 2**16
"""An answer as short is never refused: what it tells of, a write above all, has been done."""


class Shares:
    """A limit, and what of it is held by whom."""

    def __init__(self, setting: str, limit: int, *, what: str, alpha: int = 1) -> None:
        """Share `limit`, the value of a setting; `what` is held, as in `calls in flight`.

        A caller may hold `alpha` times what is free: more of it for one, and less left for others.
        """
        self._alpha = alpha
        self.total = 0
        self._setting = setting
        self._limit = limit
        self._what = what
        self._held = Counter[str]()
        self._changed = asyncio.Event()

    @property
    def full(self) -> bool:
        """Whether nothing is left for anybody."""
        return self.total >= self._limit

    def take(self, caller: str, amount: int = 1, *, own: int = 0) -> bool:
        """Let a caller hold so much more, or give False and change nothing.

        What is larger than the limit passes where nothing is held but `own`, which it belongs to.
        """
        free = self._limit - self.total
        fits = amount <= free and self._held[caller] + amount <= self._alpha * free
        if not fits and self.total > own:
            return False
        self.hold(caller, amount)
        return True

    def hold(self, caller: str, amount: int) -> None:
        """Count so much more of a caller's, whether it fits or not."""
        self._held[caller] += amount
        self.total += amount

    async def wait(self, caller: str, amount: int) -> None:
        """Let a caller hold so much more once it fits."""
        while not self.take(caller, amount):
            await self._changed.wait()

    def give(self, caller: str, amount: int = 1) -> None:
        """Take back so much of what a caller holds, and try those who wait again."""
        self._held[caller] -= amount
        if not self._held[caller]:
            del self._held[caller]
        self.total -= amount
        self._changed.set()
        self._changed = asyncio.Event()

    def refusal(self, caller: str) -> Overloaded:
        """What tells a caller that it may hold no more now."""
        return Overloaded(
            f"this caller has {self._held[caller]} {self._what} and all callers {self.total}, of "
            f"{self._setting}, {self._limit}; one may hold as much as is free, so retry later"
        )


class Room:
    """The bytes that one answer holds, from before it is made until it is taken."""

    def __init__(self, shares: Shares, caller: str, *, wait: bool = False) -> None:
        """Hold nothing yet; with `wait` bytes that do not fit are waited for, else refused."""
        self.held = 0
        self.asked = asyncio.Event()
        self._shares = shares
        self._caller = caller
        self._wait = wait

    def next(self) -> "Room":
        """Room for another answer of the same caller, which waits for it."""
        return Room(self._shares, self._caller, wait=True)

    async def take(self, size: int) -> None:
        """Hold the bytes of an answer that is to be made; raises Overloaded where it cannot."""
        if self._wait:
            await self._shares.wait(self._caller, size)
            self.held += size
            self.asked.set()
        else:
            self.settle(size)

    def settle(self, size: int) -> None:
        """Hold what an answer has turned out to be; raises Overloaded where that is too much."""
        more = size - self.held
        if more < 0:
            self._shares.give(self._caller, -more)
        elif size <= SHORT_BYTES:
            self._shares.hold(self._caller, more)
        elif more > 0 and not self._shares.take(self._caller, more, own=self.held):
            raise self._shares.refusal(self._caller)
        self.held = size

    def leave(self) -> None:
        """Hold nothing any more."""
        self.asked.set()
        if self.held:
            self._shares.give(self._caller, self.held)
            self.held = 0


ROOM: Final[ContextVar[Room | None]] = ContextVar("room", default=None)


def room() -> Room:
    """The room of the answer being made; outside of any call, one that nobody shares."""
    return ROOM.get() or Room(Shares("", 0, what=""), "")
