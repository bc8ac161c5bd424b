"""The request context: what is known of the call that is answered, whatever its protocol.

The edge of each protocol opens one (`answering`), and everything beneath finds it (`current`): a
use case reports what it cost, an error names its request id, and the log, the traces and the key's
quota read these reports.
"""

import random
import re
import time
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final, Literal

from .limits.working_memory import WorkingMemory

PhaseName = Literal["queue", "tokenize", "infer"]
# What a caller chose goes into logs and headers as it is, so nothing but plain words may.
_REQUEST_ID: Final = re.compile(r"[\w.:/+=-]{1,128}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a call's time, in seconds of `time.perf_counter`."""

    name: PhaseName
    start: float
    end: float


class Meter:
    """What a call's key may use; this one lets everything pass."""

    def refuse_used_up(self, items: int) -> None:
        """Raise RateLimited where so many items, or any token, would be too much; count nothing."""

    def take(self, *, requests: int = 0, items: int = 0, tokens: int = 0) -> None:
        """Count these, or raise RateLimited and count none."""


def _untraced(_phase: Phase) -> None:
    """Report to nobody."""


def _unheard() -> None:
    """Note nothing."""


@dataclass(slots=True, kw_only=True)
class RequestContext:
    """One call: under which id, by which key, and what it has cost so far."""

    rpc: str
    request_id: str
    key: str = ""
    caller: str = ""  # whose share of what all hold it takes of
    meter: Meter = field(default_factory=Meter)
    working: WorkingMemory | None = None  # what it takes memory of; None where nobody counts
    held: int = 0  # bytes of that
    trace: Callable[[Phase], None] = _untraced
    heard: Callable[[], None] = _unheard  # of a stream: something came, or was taken
    began: float = field(default_factory=time.perf_counter)
    items: int = 0
    tokens: int = 0
    messages: int = 0
    fields: Container[str] = ()  # the names of its request's fields
    seconds: dict[PhaseName, float] = field(default_factory=dict)

    def message(self) -> None:
        """Count a message of a stream as a request, but the first: the stream was one already."""
        if self.messages:
            self.meter.take(requests=1)
        self.messages += 1

    def foresee(self, items: int) -> None:
        """Refuse items that the key may not use, before any work is done; raises RateLimited."""
        self.meter.refuse_used_up(items)

    def begin(self, items: int, tokens: int = 0) -> None:
        """Count items and their tokens before they are run, refused ones too.

        Raises RateLimited and counts none.
        """
        self.meter.take(items=items, tokens=tokens)
        self.items += items

    def hold(self, size: int) -> None:
        """Take `size` bytes of memory more, before they are made, until `let_go` or its end.

        Raises Overloaded where there is no room now, and InvalidInput where there never is.
        """
        if self.working is not None:
            self.working.take(size, self.caller, own=self.held)
            self.held += size

    async def hold_more(self, size: int) -> None:
        """Take `size` bytes more once there is room, for a request that was let in and read.

        Raises Overloaded where none will be, and InvalidInput where there never is.
        """
        if self.working is not None:
            await self.working.grow(size, self.caller, own=self.held)
            self.held += size

    @contextmanager
    def arriving(self) -> Iterator[Callable[[int], None]]:
        """Give what holds as `hold` does, for bytes of a request that ends in this block."""
        size = 0

        def hold(more: int) -> None:
            nonlocal size
            if self.working is not None:
                self.working.take_arriving(more, self.caller, own=self.held, of_it=size)
                self.held += more
                size += more

        try:
            yield hold
        finally:
            if self.working is not None and size:
                self.working.give_arriving(size, self.caller)

    async def wait_to_hold(self, size: int, *, received: int) -> None:
        """Take `size` bytes once there is room, for a message that has `received` until then."""
        if self.working is not None:
            await self.working.wait(size, self.caller, received=received)
            self.held += size

    def let_go(self, size: int) -> None:
        """Give back `size` bytes of what it holds, at most all of that."""
        if self.working is not None:
            released = min(size, self.held)
            self.held -= released
            self.working.give(released, self.caller)

    def spent(self, tokens: int, *phases: Phase) -> None:
        """Keep what items cost once they are done."""
        self.tokens += tokens
        for phase in phases:
            self.seconds[phase.name] = self.seconds.get(phase.name, 0) + phase.end - phase.start
            self.trace(phase)


_CURRENT: ContextVar[RequestContext | None] = ContextVar("call", default=None)


def current() -> RequestContext:
    """The call being answered; outside of any, one that nobody reads."""
    return _CURRENT.get() or RequestContext(rpc="", request_id=new_id())


@contextmanager
def answering(call: RequestContext) -> Iterator[RequestContext]:
    """Make `call` the current one of this task and of those it starts."""
    token = _CURRENT.set(call)
    try:
        yield call
    finally:
        _CURRENT.reset(token)


def new_id() -> str:
    """Give a request an id; nobody is kept from guessing it, and it costs no call of the system."""
    return f"{random.getrandbits(128):032x}"


def request_id(header: str | None) -> str:
    """The caller's own id where it is plain, or a new one: 1 to 128 of A-Za-z0-9_.:/+=-."""
    return header if header and _REQUEST_ID.fullmatch(header) else new_id()
