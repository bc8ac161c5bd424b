"""A batcher with no clock of its own: whatever queued while a run was busy is the next batch.

Every accepted caller ends exactly once: with a row, with the error of the run it was in, with
`DeadlineExceeded` at its own deadline, with its own cancellation, or with `Unavailable` when the
batcher goes away. A caller who has left frees its place in the queue at once and costs no compute.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Generic, Literal, Never, Protocol, TypeAlias, TypeVar

from attar.errors import (
    AttarError,
    BackendError,
    DeadlineExceeded,
    InvalidInput,
    Overloaded,
    Unavailable,
)

Priority: TypeAlias = Literal["interactive", "bulk"]
T = TypeVar("T")
R = TypeVar("R")

# A batch that is mostly padding costs more than the run it saves: cut there, whatever the budget.
_MAX_PADDING: Final = 0.5


class Observer(Protocol):
    """What a batcher tells about its work; `reason` is the refusing error's."""

    def batch(self, size: int, tokens: int, padded_tokens: int, seconds: float) -> None:
        """Count one run."""

    def waited(self, seconds: float) -> None:
        """Count one item's time in the queue."""

    def rejected(self, reason: str) -> None:
        """Count one call refused at the door."""

    def expired(self) -> None:
        """Count one accepted call that met its deadline unanswered."""

    def cancelled(self) -> None:
        """Count one accepted call whose caller left."""


@dataclass(frozen=True, slots=True, eq=False)
class _Entry(Generic[T, R]):
    """One item in the queue and the future of its outcome: a value even when it is an error.

    A future with an error as its result is never "not retrieved", so leavers leave nothing behind.
    """

    item: T
    cost: int
    deadline: float | None
    queued: float
    outcome: "asyncio.Future[R | AttarError]"

    def settle(self, outcome: R | AttarError) -> None:
        """Answer, unless the caller has left."""
        if not self.outcome.done():
            self.outcome.set_result(outcome)


def cut(costs: Sequence[int], budget: int) -> list[int]:
    """Choose the next batch among queued costs, oldest first: positions in `costs`, 0 among them.

    The oldest is always in, so nobody starves: whoever has p others in front is out within p + 1
    batches. Around it the batch grows over the costs sorted by length, each time by the neighbour
    that adds the least padding, while n * longest stays within `budget` and at most half of it is
    padding. An item dearer than the budget makes a batch of its own.
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
            if total <= budget and total - used <= _MAX_PADDING * total
        ]
        if not allowed:
            return sorted(order[first : last + 1])
        _, first, last, tokens = min(allowed)


class Batcher(Generic[T, R]):
    """One blocking `run`, many callers: `run` gets a list of items and gives a row for each.

    `cost` is an item's length in tokens; a batch of n items costs n * longest. At most
    `max_queue_items` items and `max_queue_tokens` tokens wait; `max_batch_tokens` cuts a batch.
    """

    def __init__(
        self,
        run: Callable[[list[T]], Sequence[R]],
        cost: Callable[[T], int],
        *,
        max_batch_tokens: int,
        max_queue_items: int,
        max_queue_tokens: int,
        observer: Observer,
    ) -> None:
        """Hold the limits; nothing runs before `serve` does."""
        self._run = run
        self._cost = cost
        self._max_batch_tokens = max_batch_tokens
        self._max_queue_items = max_queue_items
        self._max_queue_tokens = max_queue_tokens
        self._observer = observer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="attar-run")
        self._queue: dict[_Entry[T, R], None] = {}  # a set that remembers who came first
        self._running: list[_Entry[T, R]] = []
        self._queued_tokens = 0
        self._serving = False
        self._refusal: str | None = None  # why new callers are refused; None while they are not
        self._changed = asyncio.Event()  # pulsed when the queue, the run or the door has changed
        self._turn = asyncio.Lock()  # the callers who wait for room, first come first served

    @property
    def serving(self) -> bool:
        """Whether `serve` is at work and takes new callers."""
        return self._serving and self._refusal is None

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
        priority: Priority = "interactive",  # noqa: ARG002 (every caller is served in its turn)
    ) -> list[R | AttarError]:
        """Answer items in order, each with its row or the error of the run it was in.

        Without `wait` the queue takes all of them or refuses the call with `Overloaded`; with it,
        the call waits for room, in turn with the others who do, and may be longer than the queue.
        Raises `DeadlineExceeded` when one of them is unanswered at `deadline`, `Unavailable` when
        the batcher is closing or gone.
        """
        loop = asyncio.get_running_loop()
        entries: list[_Entry[T, R]] = [
            _Entry(item, self._cost(item), deadline, loop.time(), loop.create_future())
            for item in items
        ]
        self._refuse_if_closed()
        if deadline is not None and deadline <= loop.time():
            self._observer.expired()
            raise DeadlineExceeded("the deadline had passed on arrival; allow more time")
        if not wait:
            self._admit(entries)
        try:
            async with asyncio.timeout_at(deadline):
                if wait:
                    await self._admit_in_turn(entries)
                outcomes = [await entry.outcome for entry in entries]
        except TimeoutError:
            self._observer.expired()
            raise DeadlineExceeded("unanswered at the deadline; allow more time") from None
        except asyncio.CancelledError:
            self._observer.cancelled()
            raise
        finally:
            self._remove(entries)
            for entry in entries:
                entry.outcome.cancel()  # a no-op on one that is answered
        for outcome in outcomes:
            if isinstance(outcome, Unavailable):  # the batcher went away: no fault of one item
                raise Unavailable(*outcome.args)
        return outcomes

    async def serve(self) -> Never:
        """Run batches until cancelled; whatever ends it, everybody waiting is answered."""
        self._serving = True
        try:
            while True:
                while not self._queue:
                    await self._change()
                if batch := self._take():
                    await self._answer(batch)
        except asyncio.CancelledError:
            self._stop("the batcher has stopped; retry elsewhere")
            raise
        except BaseException:
            self._stop("the batcher has died; retry when it is ready again")
            raise

    async def close(self, *, drain: bool) -> None:
        """Refuse new callers; answer those accepted, with `Unavailable` unless `drain`."""
        self._refusal = self._refusal or "the server is draining; retry elsewhere"
        if not (drain and self._serving):
            self._give_up(list(self._queue), self._refusal)
        self._pulse()
        while self._queue or self._running:
            await self._change()
        self._thread.shutdown(wait=False)

    def _refuse_if_closed(self) -> None:
        if self._refusal is not None:
            self._observer.rejected(Unavailable.reason)
            raise Unavailable(self._refusal)

    def _admit(self, entries: list[_Entry[T, R]]) -> None:
        items, tokens = len(entries), sum(entry.cost for entry in entries)
        if items > self._max_queue_items or tokens > self._max_queue_tokens:
            raise InvalidInput(
                f"{items} items of {tokens} tokens never fit a queue of {self._max_queue_items}"
                f" items and {self._max_queue_tokens} tokens; send fewer at a time"
            )
        if not self._fits(items, tokens):
            self._observer.rejected(Overloaded.reason)
            raise Overloaded(
                f"{len(self._queue)} items of {self._queued_tokens} tokens are waiting, of at most"
                f" {self._max_queue_items} and {self._max_queue_tokens}; retry later"
            )
        for entry in entries:
            self._enqueue(entry)

    async def _admit_in_turn(self, entries: list[_Entry[T, R]]) -> None:
        async with self._turn:
            for entry in entries:
                # An empty queue takes any one item: nobody waits for room that never comes.
                while self._queue and not self._fits(1, entry.cost):
                    await self._change()
                self._refuse_if_closed()
                self._enqueue(entry)

    def _fits(self, items: int, tokens: int) -> bool:
        return (
            len(self._queue) + items <= self._max_queue_items
            and self._queued_tokens + tokens <= self._max_queue_tokens
        )

    def _enqueue(self, entry: _Entry[T, R]) -> None:
        self._queue[entry] = None
        self._queued_tokens += entry.cost
        self._pulse()

    def _remove(self, entries: Iterable[_Entry[T, R]]) -> None:
        for entry in entries:
            if entry in self._queue:
                del self._queue[entry]
                self._queued_tokens -= entry.cost
        self._pulse()

    def _give_up(self, entries: Iterable[_Entry[T, R]], why: str) -> None:
        for entry in entries:
            entry.settle(Unavailable(why))
        self._remove(entries)

    def _stop(self, why: str) -> None:
        self._serving = False
        self._refusal = self._refusal or why
        self._give_up([*self._running, *self._queue], self._refusal)
        self._running = []
        self._thread.shutdown(wait=False)
        self._pulse()

    def _take(self) -> list[_Entry[T, R]]:
        """Take the next batch out of the queue, without those whose deadline has just passed."""
        now = asyncio.get_running_loop().time()
        late = [e for e in self._queue if e.deadline is not None and e.deadline <= now]
        self._remove(late)  # their callers' own timers are due, and say so
        waiting = list(self._queue)
        if not waiting:
            return []
        batch = [waiting[i] for i in cut([e.cost for e in waiting], self._max_batch_tokens)]
        self._remove(batch)
        self._running = batch
        for entry in batch:
            self._observer.waited(now - entry.queued)
        return batch

    async def _answer(self, batch: list[_Entry[T, R]]) -> None:
        loop = asyncio.get_running_loop()
        start = time.perf_counter()
        rows = await loop.run_in_executor(self._thread, self._attempt, [e.item for e in batch])
        costs = [entry.cost for entry in batch]
        self._observer.batch(
            len(batch), sum(costs), len(batch) * max(costs), time.perf_counter() - start
        )
        for position, entry in enumerate(batch):
            # An exception of one's own: a shared one would collect every caller's traceback.
            entry.settle(rows[position] if isinstance(rows, list) else _failure(rows))
        self._running = []
        self._pulse()

    def _attempt(self, items: list[T]) -> list[R] | BaseException:
        """Run one batch, in the thread; what it raises is an answer, lest `serve` end with it."""
        try:
            rows = list(self._run(items))
        except BaseException as error:  # noqa: BLE001 - whatever a run raises belongs to its batch
            return error
        if len(rows) != len(items):
            return BackendError(
                f"a run gave {len(rows)} rows for {len(items)} items; this is a bug in attar"
            )
        return rows

    def _pulse(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _change(self) -> None:
        await self._changed.wait()


def _failure(error: BaseException) -> AttarError:
    """Give one caller its own error for a failed run."""
    own = BackendError(str(error) if isinstance(error, AttarError) else f"a run failed: {error!r}")
    own.__cause__ = error
    return own
