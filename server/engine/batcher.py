"""A batcher with no clock of its own: whatever queued while a run was busy is the next batch.

Every accepted caller ends exactly once: with a row, with the error of its own item, with
`DeadlineExceeded` at its own deadline, with its own cancellation, or with `Unavailable` when the
batcher, or the worker of its run, goes away. A caller who has left frees its place in the queue at
once and costs no compute.

A batch that fails is halved until only its bad items fail. Items of one key that are in flight at
the same time are computed once. Interactive items go first, and bulk ones after `aging_s` as they
do.
"""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice
from typing import Final, Generic, Never, Protocol, TypeAlias, TypeVar

from attar.errors import (
    AttarError,
    BackendError,
    DeadlineExceeded,
    InvalidInput,
    Overloaded,
    Unavailable,
)
from attar.inputs import Priority

from .run_thread import Lost, RunThread

_LOG = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

# Padding is computed like text, so a longer batch pays only while it pads less than the runs cost
# that it saves. Whoever wants larger batches has dear runs: hence a share of the budget.
_MAX_PADDING: Final = 0.1

# How many of the oldest a batch is cut from at most: its cost must not grow with the queue.
_WINDOW: Final = 512

# The part of the queue that it is cut from, the oldest: whoever came last passes nobody. A larger
# one pads less, and who is of no common length waits longer.
_PART: Final = 1 / 3

# Items that are queued, or answered, before others run on the loop: some 4 us each.
_AT_ONCE: Final = 64

# A worker that hangs keeps its thread and its session. A few may; then only a new process helps.
_MAX_HANGING: Final = 4
_RENEW_EVERY_S: Final = 1.0


class Observer(Protocol):
    """What a batcher tells about its work; `reason` is the refusing error's."""

    def batch(self, size: int, tokens: int, padded_tokens: int, seconds: float) -> None:
        """Count one run."""

    def waited(self, seconds: float) -> None:
        """Count one item's time in the queue."""

    def rejected(self, reason: str) -> None:
        """Count one call refused at admission."""

    def expired(self) -> None:
        """Count one accepted call that met its deadline unanswered."""

    def cancelled(self) -> None:
        """Count one accepted call whose caller left."""

    def shared(self) -> None:
        """Count one item that joined an equal one in flight."""

    def lost(self) -> None:
        """Count one worker that hung or died and was replaced."""


@dataclass(slots=True)
class _Room:
    """So many items and tokens."""

    items: int = 0
    tokens: int = 0


@dataclass(slots=True, eq=False)
class _Entry(Generic[T, R]):
    """One item to compute, and everybody who waits for it.

    A seat is the future of one caller's outcome: a value even when it is an error, for a future
    with an error as its result is never "not retrieved", so leavers leave nothing behind.
    """

    item: T
    key: Hashable | None  # equal keys are equal items; None equals nothing
    cost: int
    queued: float
    turn: float  # loop time, s: who has the lower one goes first
    priority: Priority  # the lane it waits in
    deadline: float | None  # the latest of its callers'; None: one of them has none
    seats: "set[asyncio.Future[R | AttarError]]" = field(default_factory=set)

    def join(self, seat: "asyncio.Future[R | AttarError]", *, deadline: float | None) -> None:
        """Let one more caller wait, who may have more time."""
        self.seats.add(seat)
        if deadline is None or (self.deadline is not None and deadline > self.deadline):
            self.deadline = deadline

    def answer(self, row: R) -> None:
        """Give everybody the row."""
        self._settle(lambda: row)

    def fail(self, error: Callable[[], AttarError]) -> None:
        """Give everybody an error of their own: a shared one would collect all the tracebacks."""
        self._settle(error)

    def _settle(self, outcome: "Callable[[], R | AttarError]") -> None:
        for seat in self.seats:
            if not seat.done():  # a caller who is leaving has cancelled it
                seat.set_result(outcome())
        self.seats.clear()


def cut(costs: Sequence[int], budget: int) -> list[int]:
    """Choose the next batch among queued costs, oldest first: positions in `costs`, 0 among them.

    The oldest is always in, so nobody starves: whoever has p others in front is out within p + 1
    batches. Around it the batch grows over the costs sorted by length, each time by the neighbour
    that adds the least padding, while n * longest stays within `budget` and the padding within a
    tenth of it. An item dearer than the budget makes a batch of its own.
    """
    # Among equals the older stands nearer to the oldest, on either side of it.
    order = sorted(range(len(costs)), key=lambda i: (costs[i], i if costs[i] >= costs[0] else -i))
    first = last = order.index(0)
    tokens = costs[0]
    while True:
        wider = []
        if first > 0:
            wider.append((first - 1, last, tokens + costs[order[first - 1]]))
        if last + 1 < len(order):
            wider.append((first, last + 1, tokens + costs[order[last + 1]]))
        padded = [(stop - start + 1) * costs[order[stop]] for start, stop, _ in wider]
        allowed = [
            (total - used, start, stop, used)
            for total, (start, stop, used) in zip(padded, wider, strict=True)
            if total <= budget and total - used <= _MAX_PADDING * budget
        ]
        if not allowed:
            return sorted(order[first : last + 1])
        _, first, last, tokens = min(allowed)


def oldest(costs: Sequence[int], budget: int) -> int:
    """Tell how many of the queued costs, oldest first, a batch is cut from.

    A third of them, or as many as fill the budget if that is more.
    """
    filling = next((n for n, total in enumerate(accumulate(costs), 1) if total >= budget), None)
    return max(filling or len(costs), math.ceil(len(costs) * _PART))


class Batcher(Generic[T, R]):
    """One blocking `run`, many callers: `run` gets a list of items and gives a row for each.

    `cost` is an item's length in tokens; a batch of n items costs n * longest. At most
    `max_queue_items` items and `max_queue_tokens` tokens wait; `max_batch_tokens` cuts a batch.

    Interactive items go in the order they came. A bulk item goes when no interactive one waits; at
    the latest `aging_s` after it came it has its turn as if it were interactive and had come then.
    So it starves never: from then on only those go before it who came before that moment, and with
    p of them it is out within p + 1 batches.

    A run that takes longer than `run_timeout_s` is given up with its thread; `renew` then runs in
    the new one, before anything else does, and makes `run` usable again.
    """

    def __init__(
        self,
        run: Callable[[list[T]], Sequence[R]],
        cost: Callable[[T], int],
        *,
        key: Callable[[T], Hashable | None] = lambda _: None,
        renew: Callable[[], None] = lambda: None,
        max_batch_tokens: int,
        max_queue_items: int,
        max_queue_tokens: int,
        aging_s: float = 1.0,
        run_timeout_s: float | None = None,
        observer: Observer,
    ) -> None:
        """Hold the limits; nothing runs before `serve` does."""
        self._run = run
        self._cost = cost
        self._key = key
        self._renew = renew
        self._max_batch_tokens = max_batch_tokens
        self._max_queue_items = max_queue_items
        self._max_queue_tokens = max_queue_tokens
        self._aging_s = aging_s
        self._run_timeout_s = run_timeout_s
        self._observer = observer
        self._worker = RunThread("attar-run")
        self._hanging: list[RunThread] = []
        # Each lane is a set that remembers who came first, which is the order of its turns.
        self._lanes: dict[Priority, dict[_Entry[T, R], None]] = {"interactive": {}, "bulk": {}}
        self._running: list[_Entry[T, R]] = []
        self._in_flight: dict[Hashable, _Entry[T, R]] = {}  # queued or running, by key
        self._queued_tokens = 0
        self._promised = _Room()  # to calls that are still being queued
        self._serving = False
        self._closing: str | None = None  # why new callers are refused for good
        self._fault: str | None = None  # why they are until `serve` is called again
        # Of those who wait until the queue, the run or the admission has changed.
        self._watching: list[asyncio.Future[None]] = []
        # The callers who wait for room, first come first served; bulk ones hold up their like only.
        self._turns = {"interactive": asyncio.Lock(), "bulk": asyncio.Lock()}

    @property
    def serving(self) -> bool:
        """Whether `serve` is at work and takes new callers."""
        return self._serving and self._closing is None

    @property
    def waiting(self) -> tuple[int, int]:
        """Items in the queue and their tokens; may be read from any thread."""
        return self._queued, self._queued_tokens

    @property
    def idle(self) -> bool:
        """Whether nothing is queued or running."""
        return not self._queued and not self._running

    @property
    def _queued(self) -> int:
        return sum(map(len, self._lanes.values()))

    async def __call__(self, item: T, *, deadline: float | None = None) -> R:
        """Answer one item by `deadline` (loop time, seconds), or raise why not."""
        (outcome,) = await self.many([item], deadline=deadline)
        if isinstance(outcome, AttarError):
            raise outcome
        return outcome

    async def many(
        self,
        items: Iterable[T],
        *,
        deadline: float | None = None,
        wait: bool = False,
        priority: Priority = "interactive",
    ) -> list[R | AttarError]:
        """Answer items in order, each with its row or the error that it alone made a run raise.

        Without `wait` the queue takes all of them or refuses the call with `Overloaded`; with it,
        the call waits for room, in turn with the others who do, and may be longer than the queue.
        Raises `DeadlineExceeded` when one of them is unanswered at `deadline`, `Unavailable` when
        the batcher is closing or gone, or a run of theirs was given up.
        """
        now = asyncio.get_running_loop().time()
        asked = list(items)
        self._refuse_if_closed()
        if deadline is not None and deadline <= now:
            self._observer.expired()
            raise DeadlineExceeded("the deadline had passed on arrival; allow more time")
        turn = now + self._lag(priority)
        room = _Room() if wait else self._promise(asked)
        taken: list[_Seat[T, R]] = []
        try:
            async with asyncio.timeout_at(deadline):
                if wait:
                    async with self._turns[priority]:
                        async for some in _by_and_by(asked):
                            for item in some:
                                await self._room(item, turn)
                                taken.append(self._take_seat(item, priority, deadline))
                else:
                    await self._seat(asked, taken, room, priority, deadline)
                outcomes = await _outcomes(taken)
        except TimeoutError:
            self._observer.expired()
            raise DeadlineExceeded("unanswered at the deadline; allow more time") from None
        except asyncio.CancelledError:
            self._observer.cancelled()
            raise
        finally:
            self._redeem(room, room.items, room.tokens)
            self._leave(taken)
        for outcome in outcomes:
            if isinstance(outcome, Unavailable):  # no fault of one item
                raise Unavailable(*outcome.args)
        return outcomes

    def refuse_if_full(self) -> None:
        """Raise `Overloaded` where no item finds room: early, while that costs little."""
        self._require_room(1, 1)

    async def serve(self) -> Never:
        """Run batches until cancelled; whatever ends it, everybody waiting is answered.

        After it has died it may be called again.
        """
        self._worker = RunThread("attar-run")
        self._serving, self._fault = True, None
        try:
            self._refuse_to_hang_more()
            while True:
                while not self._queued:
                    await self._change()
                if batch := self._take():
                    await self._answer(batch)
                    self._running = batch = []  # an idle loop must not keep the items alive
                    self._pulse()
        except asyncio.CancelledError:
            self._closing = self._closing or "the batcher has stopped; retry elsewhere"
            raise
        except BaseException:
            self._fault = "the batcher has died; retry when it is ready again"
            raise
        finally:
            self._serving = False
            self._give_up([*self._running, *self._waiting()], self._refusal or "")
            self._running = []
            self._worker.close()
            self._pulse()

    async def close(self, *, drain: bool) -> None:
        """Refuse new callers; answer those accepted, with `Unavailable` unless `drain`."""
        self._closing = self._closing or "the server is draining; retry elsewhere"
        if not (drain and self._serving):
            self._give_up(self._waiting(), self._closing)
        self._pulse()
        while not self.idle:
            await self._change()
        self._worker.close()

    @property
    def _refusal(self) -> str | None:
        return self._closing or self._fault

    def _refuse_if_closed(self) -> None:
        if self._refusal is not None:
            self._observer.rejected(Unavailable.reason)
            raise Unavailable(self._refusal)

    def _promise(self, asked: list[T]) -> _Room:
        """Keep room for a call, or refuse it; what is in flight already takes none."""
        keys, costs = [*map(self._key, asked)], [*map(self._cost, asked)]
        own = dict(zip(keys, costs, strict=True))
        for key in own.keys() & self._in_flight.keys():
            del own[key]
        alone = [cost for key, cost in zip(keys, costs, strict=True) if key is None]
        own.pop(None, None)
        items, tokens = len(own) + len(alone), sum(own.values()) + sum(alone)
        if items > self._max_queue_items or tokens > self._max_queue_tokens:
            raise InvalidInput(
                f"{items} items of {tokens} tokens never fit a queue of {self._max_queue_items}"
                f" items and {self._max_queue_tokens} tokens; send fewer at a time"
            )
        self._require_room(items, tokens)
        self._promised.items += items
        self._promised.tokens += tokens
        return _Room(items, tokens)

    def _redeem(self, room: _Room, items: int, tokens: int) -> None:
        """Keep so much of a promise no longer: it is taken, or not needed."""
        items, tokens = min(items, room.items), min(tokens, room.tokens)
        for one in (room, self._promised):
            one.items -= items
            one.tokens -= tokens

    def _require_room(self, items: int, tokens: int) -> None:
        if not self._fits(items, tokens):
            self._observer.rejected(Overloaded.reason)
            raise Overloaded(
                f"{self._queued} items of {self._queued_tokens} tokens are waiting, of at most"
                f" {self._max_queue_items} and {self._max_queue_tokens}; retry later"
            )

    async def _room(self, item: T, turn: float) -> None:
        """Wait until the queue has room for one item, or needs none; until its turn, let others."""
        loop = asyncio.get_running_loop()
        cost, key = self._cost(item), self._key(item)
        others = self._turns["interactive"]
        # An empty queue takes any one item: nobody waits for room that never comes.
        while (
            self._queued
            and key not in self._in_flight
            and (not self._fits(1, cost) or (loop.time() < turn and others.locked()))
        ):
            await self._change()
        self._refuse_if_closed()

    def _fits(self, items: int, tokens: int) -> bool:
        items, tokens = items + self._promised.items, tokens + self._promised.tokens
        return (
            self._queued + items <= self._max_queue_items
            and self._queued_tokens + tokens <= self._max_queue_tokens
        )

    async def _seat(
        self,
        items: list[T],
        taken: "list[_Seat[T, R]]",
        room: _Room,
        priority: Priority,
        deadline: float | None,
    ) -> None:
        """Take the seats of items that were promised room."""
        if len(items) > _AT_ONCE:  # the promise took as long as some seats do
            await asyncio.sleep(0)
        async for some in _by_and_by(items):
            self._refuse_if_closed()
            for item in some:
                taken.append(self._take_seat(item, priority, deadline))
                self._redeem(room, 1, self._cost(item))

    def _leave(self, taken: "list[_Seat[T, R]]") -> None:
        """Give up the seats of those that are not answered."""
        leaving = [(entry, seat) for entry, seat in taken if entry.seats]
        if leaving:
            for entry, seat in leaving:
                entry.seats.discard(seat)
            self._remove(entry for entry, _ in leaving if not entry.seats)

    def _take_seat(self, item: T, priority: Priority, deadline: float | None) -> "_Seat[T, R]":
        """Join the equal item that is in flight, or else queue this one."""
        loop = asyncio.get_running_loop()
        seat: asyncio.Future[R | AttarError] = loop.create_future()
        key = self._key(item)
        entry = None if key is None else self._in_flight.get(key)
        if entry is not None:
            entry.join(seat, deadline=deadline)
            self._observer.shared()
            if priority == "interactive" and entry in self._lanes["bulk"]:
                self._dequeue(entry)
                self._enqueue(entry, priority, loop.time())
            return entry, seat
        now = loop.time()
        entry = _Entry(item, key, self._cost(item), now, now, priority, deadline, {seat})
        if key is not None:
            self._in_flight[key] = entry
        self._enqueue(entry, priority, now)
        return entry, seat

    def _lag(self, priority: Priority) -> float:
        return self._aging_s if priority == "bulk" else 0.0

    def _enqueue(self, entry: _Entry[T, R], priority: Priority, now: float) -> None:
        entry.priority, entry.turn = priority, now + self._lag(priority)
        self._lanes[priority][entry] = None
        self._queued_tokens += entry.cost
        self._pulse()

    def _remove(self, entries: Iterable[_Entry[T, R]]) -> None:
        """Take entries out of the queue for good: nobody can join them any more."""
        for entry in entries:
            if entry in self._lanes[entry.priority]:
                self._dequeue(entry)
                self._forget(entry)
        self._pulse()

    def _dequeue(self, entry: _Entry[T, R]) -> None:
        del self._lanes[entry.priority][entry]
        self._queued_tokens -= entry.cost

    def _forget(self, entry: _Entry[T, R]) -> None:
        if entry.key is not None and self._in_flight.get(entry.key) is entry:
            del self._in_flight[entry.key]

    def _give_up(self, entries: Iterable[_Entry[T, R]], why: str) -> None:
        for entry in entries:
            self._forget(entry)
            entry.fail(lambda: Unavailable(why))
        self._remove(self._waiting())

    def _waiting(self) -> list[_Entry[T, R]]:
        return [entry for lane in self._lanes.values() for entry in lane]

    def _take(self) -> list[_Entry[T, R]]:
        """Take the next batch out of the queue, without those whose deadline has just passed."""
        now = asyncio.get_running_loop().time()
        lanes = {name: list(islice(lane, _WINDOW)) for name, lane in self._lanes.items()}
        # Bulk fills no interactive batch up: it would make it longer.
        aged = [entry for entry in lanes["bulk"] if entry.turn <= now]
        waiting = lanes["interactive"] + aged if lanes["interactive"] or aged else lanes["bulk"]
        late = [e for e in waiting if e.deadline is not None and e.deadline <= now]
        self._remove(late)  # their callers' own timers are due, and say so
        waiting = [entry for entry in waiting if entry not in late] if late else waiting
        if not waiting:
            return []
        waiting.sort(key=lambda entry: entry.turn)
        costs = [entry.cost for entry in waiting]
        costs = costs[: oldest(costs, self._max_batch_tokens)]
        batch = [waiting[i] for i in cut(costs, self._max_batch_tokens)]
        for entry in batch:
            self._dequeue(entry)
            self._observer.waited(now - entry.queued)
        self._running = batch
        self._pulse()
        return batch

    async def _answer(self, batch: list[_Entry[T, R]]) -> bool:
        """Run a batch, and halves of it if it fails; tell whether it ran whole."""
        for entry in batch:
            if not entry.seats:  # left while another half ran: nobody may join it now
                self._forget(entry)
        batch = [entry for entry in batch if entry.seats]
        if not batch:
            return False
        start = time.perf_counter()
        items = [entry.item for entry in batch]
        try:
            rows = await self._worker.run(
                lambda: self._attempt(items), timeout_s=self._run_timeout_s
            )
        except Lost as lost:
            await self._replace_worker(batch, lost)
            return False
        costs = [entry.cost for entry in batch]
        self._observer.batch(
            len(batch), sum(costs), len(batch) * max(costs), time.perf_counter() - start
        )
        if isinstance(rows, list):
            async for some in _by_and_by([*zip(batch, rows, strict=True)]):
                for entry, row in some:
                    self._forget(entry)
                    entry.answer(row)
            return True
        if len(batch) > 1 and not isinstance(rows, Unavailable):
            await self._halve(batch)
            return False
        for entry in batch:
            self._forget(entry)
            entry.fail(lambda: _failure(rows))
        return False

    async def _halve(self, batch: list[_Entry[T, R]]) -> None:
        """Answer a batch that failed as a whole by its halves.

        Where the first half is good the fault is in the second, so that is halved at once: one bad
        item of n costs at most 2 * log2(n) runs more.
        """
        middle = len(batch) // 2
        if await self._answer(batch[:middle]) and len(batch) - middle > 1:
            await self._halve(batch[middle:])
        else:
            await self._answer(batch[middle:])

    async def _replace_worker(self, batch: list[_Entry[T, R]], lost: Lost) -> None:
        """Answer the callers of a run that is given up, and go on with a new worker."""
        _LOG.error("a run of %d items is given up: %s", len(batch), lost)
        self._observer.lost()
        self._worker.close()  # so its thread ends, should its run ever do
        self._hanging.append(self._worker)
        for entry in batch:
            self._forget(entry)
            entry.fail(lambda: Unavailable(f"the run was given up, {lost}; retry"))
        self._refuse_to_hang_more()
        while (error := await self._renewed()) is not None:
            _LOG.error("the model cannot be loaded again: %r", error)
            self._give_up(self._waiting(), "the model is being loaded again; retry later")
            await asyncio.sleep(_RENEW_EVERY_S)

    def _refuse_to_hang_more(self) -> None:
        self._hanging = [worker for worker in self._hanging if worker.alive]
        if len(self._hanging) > _MAX_HANGING:
            raise RuntimeError(f"{len(self._hanging)} runs hang; this process needs a restart")

    async def _renewed(self) -> BaseException | None:
        """Start a worker and make `run` usable in it; give what went wrong, if anything did."""

        def renew() -> BaseException | None:
            try:
                self._renew()
            except BaseException as error:
                return error
            return None

        self._worker = RunThread("attar-run")
        try:
            error = await self._worker.run(renew, timeout_s=self._run_timeout_s)
        except Lost as lost:
            error = lost
        if error is not None:
            self._worker.close()
        return error

    def _attempt(self, items: list[T]) -> list[R] | BaseException:
        """Run one batch, in the thread, which what it raises must not end: that is an answer."""
        try:
            rows = list(self._run(items))
        except BaseException as error:
            return error
        if len(rows) != len(items):
            return BackendError(
                f"a run gave {len(rows)} rows for {len(items)} items; this is a bug in attar"
            )
        return rows

    def _pulse(self) -> None:
        watching, self._watching = self._watching, []
        for changed in watching:
            if not changed.done():  # who waited has left
                changed.set_result(None)

    async def _change(self) -> None:
        self._watching.append(changed := asyncio.get_running_loop().create_future())
        await changed


async def _by_and_by(items: list[T]) -> AsyncIterator[list[T]]:
    """Give some items, and let others run on the loop before the next."""
    for start in range(0, len(items), _AT_ONCE):
        if start:
            await asyncio.sleep(0)
        yield items[start : start + _AT_ONCE]


async def _outcomes(taken: "list[_Seat[T, R]]") -> list[R | AttarError]:
    outcomes: list[R | AttarError] = []
    async for some in _by_and_by(taken):
        outcomes += [await seat for _, seat in some]
    return outcomes


_Seat: TypeAlias = tuple[_Entry[T, R], "asyncio.Future[R | AttarError]"]


def _failure(error: BaseException) -> AttarError:
    """Give one caller its own error for a failed run; that nothing answers is no item's fault."""
    if isinstance(error, Unavailable):
        return Unavailable(*error.args)
    own = BackendError(str(error) if isinstance(error, AttarError) else f"a run failed: {error!r}")
    own.__cause__ = error
    return own
