"""The request queue: items that wait for a run, who waits for each, and how many there may be.

Interactive calls share the model equally, whatever the number of their items, by start-time fair
queueing (Goyal, Vin and Cheng, SIGCOMM 1996). An item starts at the virtual time at which the items
of its call before it have finished, and the item with the lowest start goes first. Virtual time is
the tokens that each waiting call has received: the round number of Demers, Keshav and Shenker
(SIGCOMM 1989). So a call of one item does not wait for all items of a large call that came earlier,
and calls of one item go in the order of their arrival. No item starves: virtual time grows with
each batch, and a later call starts at the present virtual time.

A bulk item goes when no interactive one waits. `aging_s` after its arrival it becomes an
interactive item that arrives at that moment.
"""

import asyncio
from bisect import bisect_left, insort
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

from attar.errors import AttarError, InvalidInput, Overloaded
from attar.inputs import Priority

from .batching import select_batch, window_size

T = TypeVar("T")
R = TypeVar("R")

# A batch is selected from so many items at most: its cost must not grow with the queue.
_WINDOW: Final = 512


class QueueObserver(Protocol):
    """What a queue reports; `reason` is the refusing error's."""

    def waited(self, seconds: float) -> None:
        """Count one item's time in the queue."""

    def rejected(self, reason: str) -> None:
        """Count one call refused at admission."""

    def shared(self) -> None:
        """Count one item that joined an equal one in flight."""


@dataclass(slots=True)
class Reservation:
    """Room for so many items and tokens, kept for a call whose items are still being queued."""

    items: int = 0
    tokens: int = 0


@dataclass(slots=True, eq=False)
class Flow:
    """The items of one call, in the sense of fair queueing."""

    finish: float = 0.0  # virtual time at which the last of its items finishes, tokens
    waiting: int = 0  # interactive items in the queue


@dataclass(slots=True, eq=False)
class Entry(Generic[T, R]):
    """One item to compute, and everybody who waits for it.

    A waiter is the future of one caller's outcome: a value even when it is an error, for a future
    with an error as its result is never "not retrieved", so leavers leave nothing behind.
    """

    item: T
    key: Hashable | None  # equal keys are equal items; None equals nothing
    cost: int
    queued: float  # loop time, s
    flow: Flow
    deadline: float | None  # the latest of its callers'; None: one of them has none
    waiters: "set[asyncio.Future[R | AttarError]]" = field(default_factory=set)
    lane: Priority | None = None  # None: it does not wait in the queue
    priority_time: float = 0.0  # loop time at which it is an interactive item, s
    rank: tuple[float, float, int] = (0.0, 0.0, 0)  # virtual start, priority time, number

    def join(self, waiter: "asyncio.Future[R | AttarError]", *, deadline: float | None) -> None:
        """Let one more caller wait, who may have more time."""
        self.waiters.add(waiter)
        if deadline is None or (self.deadline is not None and deadline > self.deadline):
            self.deadline = deadline

    def resolve(self, row: R) -> None:
        """Give everybody the row."""
        self._settle(lambda: row)

    def fail(self, error: Callable[[], AttarError]) -> None:
        """Give everybody an error of their own: a shared one would collect all the tracebacks."""
        self._settle(error)

    def _settle(self, outcome: "Callable[[], R | AttarError]") -> None:
        for waiter in self.waiters:
            if not waiter.done():  # a caller who is leaving has cancelled it
                waiter.set_result(outcome())
        self.waiters.clear()


Waiting: TypeAlias = tuple[Entry[T, R], "asyncio.Future[R | AttarError]"]
"""An entry, and the future of one caller in it."""


class RequestQueue(Generic[T, R]):
    """Two lanes of entries, bounded in items and tokens; `notify` is called when they change."""

    def __init__(
        self,
        cost: Callable[[T], int],
        key: Callable[[T], Hashable | None],
        *,
        max_items: int,
        max_tokens: int,
        aging_s: float,
        observer: QueueObserver,
        notify: Callable[[], None],
    ) -> None:
        """Be empty; `cost` is an item's length in tokens, and items of an equal `key` are one."""
        self._cost = cost
        self._key = key
        self._max_items = max_items
        self._max_tokens = max_tokens
        self._aging_s = aging_s
        self._observer = observer
        self._notify = notify
        self._interactive: list[Entry[T, R]] = []  # by rank
        self._bulk: dict[Entry[T, R], None] = {}  # a set in the order of arrival
        self._flows = 0  # with interactive items in the queue
        self._virtual_time = 0.0  # tokens
        self._numbers = count()
        self._in_flight: dict[Hashable, Entry[T, R]] = {}  # queued or running, by key
        self._reserved = Reservation()
        self.tokens = 0

    def __len__(self) -> int:
        """Give the number of items that wait."""
        return len(self._interactive) + len(self._bulk)

    def entries(self) -> list[Entry[T, R]]:
        """Give what waits, interactive items first."""
        return [*self._interactive, *self._bulk]

    def priority_time(self, priority: Priority, now: float) -> float:
        """When an item that comes now has its turn among the interactive ones, loop time."""
        return now + (self._aging_s if priority == "bulk" else 0.0)

    def has(self, item: T) -> bool:
        """Whether an equal item is in flight."""
        return self._key(item) in self._in_flight

    def fits(self, items: int, tokens: int) -> bool:
        """Whether so much more has room."""
        items, tokens = items + self._reserved.items, tokens + self._reserved.tokens
        return len(self) + items <= self._max_items and self.tokens + tokens <= self._max_tokens

    def require_room(self, items: int, tokens: int) -> None:
        """Raise `Overloaded` where so much more has no room."""
        if not self.fits(items, tokens):
            self._observer.rejected(Overloaded.reason)
            raise Overloaded(
                f"{len(self)} items of {self.tokens} tokens are waiting, of at most"
                f" {self._max_items} and {self._max_tokens}; retry later"
            )

    def reserve(self, requested: Sequence[T]) -> Reservation:
        """Keep room for the items of a call; what is in flight already takes none.

        Raises `Overloaded` where they have none now, and InvalidInput where they never have.
        """
        keys, costs = [*map(self._key, requested)], [*map(self._cost, requested)]
        own = dict(zip(keys, costs, strict=True))
        for key in own.keys() & self._in_flight.keys():
            del own[key]
        alone = [cost for key, cost in zip(keys, costs, strict=True) if key is None]
        own.pop(None, None)
        items, tokens = len(own) + len(alone), sum(own.values()) + sum(alone)
        if items > self._max_items or tokens > self._max_tokens:
            raise InvalidInput(
                f"{items} items of {tokens} tokens never fit a queue of {self._max_items}"
                f" items and {self._max_tokens} tokens; send fewer at a time"
            )
        self.require_room(items, tokens)
        self._reserved.items += items
        self._reserved.tokens += tokens
        return Reservation(items, tokens)

    def release(self, reservation: Reservation, items: int, tokens: int) -> None:
        """Keep so much of a reservation no longer: it is taken, or not needed."""
        items, tokens = min(items, reservation.items), min(tokens, reservation.tokens)
        for one in (reservation, self._reserved):
            one.items -= items
            one.tokens -= tokens

    def append(
        self, item: T, priority: Priority, deadline: float | None, flow: Flow
    ) -> "Waiting[T, R]":
        """Join the equal item that is in flight, or else queue this one of the call `flow`."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[R | AttarError] = loop.create_future()
        key = self._key(item)
        entry = None if key is None else self._in_flight.get(key)
        if entry is not None:
            entry.join(waiter, deadline=deadline)
            self._observer.shared()
            if priority == "interactive" and self._starts_earlier(entry, flow):
                self._dequeue(entry)
                entry.flow = flow
                self._enqueue(entry, priority, loop.time())
            return entry, waiter
        now = loop.time()
        entry = Entry(item, key, self._cost(item), now, flow, deadline, {waiter})
        if key is not None:
            self._in_flight[key] = entry
        self._enqueue(entry, priority, self.priority_time(priority, now))
        return entry, waiter

    def leave(self, waiting: "Iterable[Waiting[T, R]]") -> None:
        """Let the waiters go that have no outcome yet, and the entries that nobody waits for."""
        leaving = [(entry, waiter) for entry, waiter in waiting if entry.waiters]
        if leaving:
            for entry, waiter in leaving:
                entry.waiters.discard(waiter)
            self.remove(entry for entry, _ in leaving if not entry.waiters)

    def remove(self, entries: Iterable[Entry[T, R]]) -> None:
        """Take entries out for good: nobody can join them any more."""
        for entry in entries:
            if entry.lane is not None:
                self._dequeue(entry)
                self.forget(entry)
        self._notify()

    def forget(self, entry: Entry[T, R]) -> None:
        """Let nobody join an entry any more."""
        if entry.key is not None and self._in_flight.get(entry.key) is entry:
            del self._in_flight[entry.key]

    def next_batch(self, budget: int) -> list[Entry[T, R]]:
        """Take the next batch out of the queue, without those whose deadline has just passed."""
        now = asyncio.get_running_loop().time()
        for entry in list(islice(self._bulk, _WINDOW)):
            if entry.priority_time <= now:
                self._dequeue(entry)
                self._enqueue(entry, "interactive", entry.priority_time)
        # Bulk fills no interactive batch up: it would make it longer.
        waiting = self._interactive[:_WINDOW] or list(islice(self._bulk, _WINDOW))
        late = [e for e in waiting if e.deadline is not None and e.deadline <= now]
        self.remove(late)  # their callers' own timers are due, and say so
        waiting = [entry for entry in waiting if entry not in late] if late else waiting
        if not waiting:
            return []
        costs = [entry.cost for entry in waiting]
        costs = costs[: window_size(costs, budget)]
        batch = [waiting[i] for i in select_batch(costs, budget)]
        if batch[0].lane == "interactive":
            tokens = sum(entry.cost for entry in batch)
            self._virtual_time = max(self._virtual_time, batch[0].rank[0]) + tokens / self._flows
        for entry in batch:
            self._dequeue(entry)
            self._observer.waited(now - entry.queued)
        return batch

    def _starts_earlier(self, entry: Entry[T, R], flow: Flow) -> bool:
        """Whether a waiting item would start earlier as an interactive item of the call `flow`."""
        if entry.lane == "interactive":
            return max(self._virtual_time, flow.finish) < entry.rank[0]
        return entry.lane == "bulk"

    def _enqueue(self, entry: Entry[T, R], lane: Priority, priority_time: float) -> None:
        entry.lane, entry.priority_time = lane, priority_time
        if lane == "bulk":
            self._bulk[entry] = None
        else:
            flow = entry.flow
            start = max(self._virtual_time, flow.finish)
            flow.finish = start + entry.cost
            self._flows += not flow.waiting
            flow.waiting += 1
            entry.rank = start, priority_time, next(self._numbers)
            insort(self._interactive, entry, key=_rank)
        self.tokens += entry.cost
        self._notify()

    def _dequeue(self, entry: Entry[T, R]) -> None:
        if entry.lane == "bulk":
            del self._bulk[entry]
        else:
            del self._interactive[bisect_left(self._interactive, entry.rank, key=_rank)]
            entry.flow.waiting -= 1
            self._flows -= not entry.flow.waiting
        entry.lane = None
        self.tokens -= entry.cost


def _rank(entry: Entry[T, R]) -> tuple[float, float, int]:
    return entry.rank
