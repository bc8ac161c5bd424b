"""Fair shares: how much of a limit each caller holds, so that nobody holds all of it.

A caller may hold as much as is left free. Alone it reaches half of the limit, and with n others
each reaches one part in n + 2: as much is always left for who comes next. These are the dynamic
thresholds of Choudhury and Hahne (IEEE/ACM Transactions on Networking 6(2), 1998), with alpha 1.

Who has no key is a connection, and one address has as many as it likes. All of an address together
hold at most eight times what is free, so that eight ninths of a limit are the most that it reaches.
"""

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Final

from attar.errors import Overloaded

SLOWEST_BYTES_PER_S: Final = 2**16  # of a caller who takes an answer: 0.5 Mbit/s
SHORT_BYTES: Final = 2**16
"""An answer this short is never refused: what it reports, a write above all, has been done."""
_TURN_S: Final = 5.0  # for the answers before to be taken: 64 MiB of them at 107 Mbit/s
_ADDRESS_ALPHA: Final = 8  # times a caller's: who comes by the same proxy is not held back
_IPV6_PREFIX: Final = 64  # bits: what one subscriber has at the least


def ip(caller: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address of a caller, which is written as one or as gRPC does, `ipv4:127.0.0.1:5`."""
    scheme, _, rest = caller.partition(":")
    if scheme in ("ipv4", "ipv6"):
        caller = rest.rpartition(":")[0].replace("%5B", "[").replace("%5D", "]").strip("[]")
    try:
        address = ipaddress.ip_address(caller)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


@lru_cache(maxsize=4096)
def origin(caller: str) -> str:
    """Where a caller comes from: its address, of IPv6 the network; a key is its own origin."""
    address = ip(caller)
    if isinstance(address, ipaddress.IPv6Address):
        network = ipaddress.ip_network((int(address), _IPV6_PREFIX), strict=False)
        return str(network.network_address)
    return caller if address is None else str(address)


class FairShares:
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
        self._held_at = Counter[str]()  # by origin
        self._changed: asyncio.Event | None = None  # while somebody waits

    @property
    def full(self) -> bool:
        """Whether nothing is left for anybody."""
        return self.total >= self._limit

    @contextmanager
    def held(self, caller: str) -> Iterator[Callable[[], None]]:
        """Let a caller hold one more in this block; raises Overloaded where it may not.

        Gives what is to be called whenever the caller says or takes something.
        """
        if not self.take(caller):
            raise self.refusal(caller)
        try:
            yield lambda: None
        finally:
            self.give(caller)

    def held_by(self, caller: str) -> int:
        """How much a caller holds."""
        return self._held[caller]

    def has_room(self, caller: str) -> bool:
        """Whether another caller of the same origin could take something."""
        free = self._limit - self.total
        return free > 0 and self._held_at[origin(caller)] < _ADDRESS_ALPHA * self._alpha * free

    def take(self, caller: str, amount: int = 1, *, own: int = 0) -> bool:
        """Let a caller hold so much more, or give False and change nothing.

        What is larger than the limit passes where nothing is held but `own`, which it belongs to.
        """
        free = self._limit - self.total
        most = self._alpha * free
        fits = amount <= free and self._held[caller] + amount <= most
        fits = fits and self._held_at[origin(caller)] + amount <= _ADDRESS_ALPHA * most
        if not fits and self.total > own:
            return False
        self.hold(caller, amount)
        return True

    def hold(self, caller: str, amount: int) -> None:
        """Count so much more of a caller's, whether it fits or not."""
        self._held[caller] += amount
        self._held_at[origin(caller)] += amount
        self.total += amount

    async def wait(self, caller: str, amount: int) -> None:
        """Let a caller hold so much more once it fits."""
        while not self.take(caller, amount):
            await self.change()

    async def change(self) -> None:
        """Wait until somebody gives something back."""
        if self._changed is None:
            self._changed = asyncio.Event()
        await self._changed.wait()

    def give(self, caller: str, amount: int = 1) -> None:
        """Take back so much of what a caller holds, and try those who wait again."""
        for held, name in ((self._held, caller), (self._held_at, origin(caller))):
            held[name] -= amount
            if not held[name]:
                del held[name]
        self.total -= amount
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    def refusal(self, caller: str) -> Overloaded:
        """The error for a caller that may hold no more now."""
        return Overloaded(
            f"this caller has {self._held[caller]} {self._what} and all callers {self.total}, of "
            f"{self._setting}, {self._limit}; one may hold as much as is free, and all "
            "of one address eight times that, so retry later"
        )


class ResponseRoom:
    """The bytes that one answer holds, from before it is made until it is taken."""

    def __init__(self, shares: FairShares, caller: str, *, wait: bool = False) -> None:
        """Hold nothing yet; with `wait` bytes that do not fit are waited for, else for a moment."""
        self.held = 0
        self.reserved = asyncio.Event()
        self._shares = shares
        self._caller = caller
        self._wait = wait

    def next(self) -> "ResponseRoom":
        """Room for another answer of the same caller, which waits for it."""
        return ResponseRoom(self._shares, self._caller, wait=True)

    async def take(self, size: int) -> None:
        """Hold the bytes of an answer that is to be made, once those before it are taken.

        Raises Overloaded where that takes too long.
        """
        if size <= SHORT_BYTES and not self._wait:
            self.settle(size)
            return
        try:
            async with asyncio.timeout(None if self._wait else _TURN_S):
                await self._shares.wait(self._caller, size)
        except TimeoutError:
            raise self._shares.refusal(self._caller) from None
        self.held += size
        self.reserved.set()

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
        self.reserved.set()
        if self.held:
            self._shares.give(self._caller, self.held)
            self.held = 0


ROOM: Final[ContextVar[ResponseRoom | None]] = ContextVar("room", default=None)


def room() -> ResponseRoom:
    """The room of the answer being made; outside of any call, one that nobody shares."""
    return ROOM.get() or ResponseRoom(FairShares("", 0, what=""), "")
