"""Stream slots: a caller with few streams takes a slot from the caller with most.

A stream may last, so shares alone do not do: nine callers, each of whom takes what it may, hold
every place, and keep it. Where none is free, the stream that was silent for longest of those of the
caller that has most is ended for one of a caller that has fewer.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from attar.errors import Overloaded

from .fair_shares import FairShares, origin

SILENT_S: Final = 10.0
"""A stream on which nothing came or was taken for so long makes room for a caller with fewer."""


@dataclass(slots=True, eq=False)
class _Slot:
    caller: str
    heard_s: float  # loop time at which something came, or was taken, last
    lost: bool = False


class StreamSlots(FairShares):
    """Shares of a limit on streams, each held by the task that answers it."""

    def __init__(self, setting: str, limit: int, *, what: str) -> None:
        """Share `limit`, the value of a setting; `what` is held, as in `streams open`."""
        super().__init__(setting, limit, what=what)
        self._slots: dict[asyncio.Task[Any], _Slot] = {}

    @property
    def full(self) -> bool:
        """Never: a caller may be let in at the cost of another."""
        return False

    @contextmanager
    def held(self, caller: str) -> Iterator[Callable[[], None]]:
        """Hold a place for the current task; raises Overloaded where there is none, or it is lost.

        Gives what is to be called whenever something came on the stream, or was taken.
        """
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a stream is answered in a task")
        loop = task.get_loop()
        if not self.take(caller) and not self._took(caller, loop.time()):
            raise self.refusal(caller)
        slot = self._slots[task] = _Slot(caller, loop.time())

        def heard() -> None:
            slot.heard_s = loop.time()

        try:
            yield heard
        except asyncio.CancelledError:
            if not slot.lost:
                raise
            task.uncancel()
            raise Overloaded(
                f"the stream has made room for another caller: this one had the most {self._what} "
                "when there was no more room, or nothing came on it; retry later"
            ) from None
        finally:
            if not slot.lost:
                del self._slots[task]
                self.give(caller)

    def _took(self, caller: str, now_s: float) -> bool:
        """Take a slot from a caller with more, where none is free; return whether one was taken."""
        if self.has_room(caller):
            return False
        own = origin(caller)
        theirs = [entry for entry in self._slots.items() if origin(entry[1].caller) == own]
        held = self.held_by(caller)

        def spare(slot: _Slot) -> int:
            """How many more its caller has, less one where something came on it lately."""
            return self.held_by(slot.caller) - held - (now_s - slot.heard_s < SILENT_S)

        most = max(
            theirs or self._slots.items(),
            key=lambda entry: (spare(entry[1]), -entry[1].heard_s),
            default=None,
        )
        if most is None or spare(most[1]) < 1:
            return False
        task, slot = most
        slot.lost = True
        del self._slots[task]
        self.give(slot.caller)
        self.hold(caller, 1)
        task.cancel()
        return True
