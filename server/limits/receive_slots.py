"""Receive slots: how many gRPC messages are received at a time, each up to the limit.

gRPC keeps what has come of a message until it is complete, and does not say how long it is. Until
it is asked for a message it lets some KiB of it come, so the handlers of unary calls ask in turn.
Those of streams do not: a stream on which nothing comes may last, and would keep its turn.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from attar.errors import Overloaded

from .fair_shares import FairShares

CALLS_AT_ONCE: Final = 16
PROBES_AT_ONCE: Final = 2
MAX_WAITING: Final = 1024
FAIR_HOLD_S: Final = 1.0
"""For how long one message may keep out a caller that has none coming."""


@dataclass(eq=False, slots=True)
class _Slot:
    """A message that is coming."""

    caller: str
    end: asyncio.Timeout
    began: float  # loop time
    cut: bool = False


class ReceiveSlots:
    """The messages that come at a time, in turns, and who waits for one.

    One caller has as many as are free, in the order of its calls; callers that wait take turns.
    """

    def __init__(self, limit: int, *, max_hold_s: float, wait_s: float) -> None:
        """Let so many come at a time, each for `max_hold_s` where its caller's own next waits.

        That waits for `wait_s` at most.
        """
        self._max_hold_s = max_hold_s
        self._wait_s = wait_s
        self._shares = FairShares("", limit, what="")
        self._queued = FairShares("", MAX_WAITING, what="")
        self._coming: dict[_Slot, None] = {}  # oldest first
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def slot(self, caller: str) -> AsyncIterator[None]:
        """Let a message come in the block, once it is its turn.

        Raises Overloaded where it is cut short, too many wait, or it waits for too long.
        """
        if caller in self._waiting or not self._shares.take(caller):
            await self._wait(caller)
        end = asyncio.timeout(None)
        slot = _Slot(caller, end, asyncio.get_running_loop().time())
        self._coming[slot] = None
        try:
            async with end:
                yield
        except TimeoutError:
            if not end.expired():
                raise
            raise Overloaded(
                "the message was too long in coming while others waited to send theirs; retry later"
            ) from None
        finally:
            del self._coming[slot]
            self._give(caller)
            del slot, end  # which know the task: its error would keep it, and so the message

    async def _wait(self, caller: str) -> None:
        """Wait for a turn, which the caller then has."""
        if not self._queued.take(caller):
            raise Overloaded("too many messages wait to be received; retry later")
        loop = asyncio.get_running_loop()
        mine: asyncio.Future[None] = loop.create_future()
        queue = self._waiting.setdefault(caller, deque())
        queue.append(mine)
        latest = loop.time() + self._wait_s
        try:
            while not (await asyncio.wait((mine,), timeout=min(FAIR_HOLD_S, self._wait_s)))[0]:
                if loop.time() >= latest:
                    raise Overloaded("others' messages left no time for this one; retry later")
                if queue[0] is mine:
                    self._make_room(caller)
        except BaseException:
            if mine.done():
                self._give(caller)
            else:
                queue.remove(mine)
                if not queue:
                    del self._waiting[caller]
            raise
        finally:
            self._queued.give(caller)

    def _make_room(self, caller: str) -> None:
        """Cut short the oldest message of who has most; of its own where the caller has some."""
        own = self._shares.held_by(caller) > 0
        latest = asyncio.get_running_loop().time() - (self._max_hold_s if own else FAIR_HOLD_S)
        late = [
            slot
            for slot in self._coming
            if slot.began <= latest and not slot.cut and (slot.caller == caller or not own)
        ]
        if late:
            oldest = max(late, key=lambda slot: self._shares.held_by(slot.caller))
            oldest.cut = True
            oldest.end.reschedule(latest)

    def _give(self, caller: str) -> None:
        """Take back a turn, and give those who wait what is free."""
        self._shares.give(caller)
        for other in tuple(self._waiting):
            queue = self._waiting[other]
            if self._shares.take(other):
                queue.popleft().set_result(None)
                del self._waiting[other]  # to the end of the round
                if queue:
                    self._waiting[other] = queue
