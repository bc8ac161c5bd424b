"""A batcher with no clock of its own: whatever queued while a run was busy is the next batch.

Every accepted caller ends exactly once: with a row, with the error of its own item, with
`DeadlineExceeded` at its own deadline, with its own cancellation, or with `Unavailable` when the
batcher, or the thread of its run, goes away. A caller who has left frees its place in the queue at
once and costs no compute.

A batch that fails is halved until only its bad items fail. Items of one key that are in flight at
the same time are computed once.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Sequence
from typing import Final, Generic, Never, Protocol, TypeVar

from attar.errors import AttarError, BackendError, DeadlineExceeded, Unavailable
from attar.inputs import Priority

from .request_queue import Entry, Flow, QueueObserver, RequestQueue, Reservation, Waiting
from .run_thread import Lost
from .supervisor import Supervisor

_LOG = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

# Items that are queued, or answered, before others run on the loop: some 4 us each.
_AT_ONCE: Final = 64

_RENEW_EVERY_S: Final = 1.0


class Observer(QueueObserver, Protocol):
    """What a batcher reports of its work, besides what its queue does."""

    def batch(self, size: int, tokens: int, padded_tokens: int, seconds: float) -> None:
        """Count one run."""

    def expired(self) -> None:
        """Count one accepted call that met its deadline unanswered."""

    def cancelled(self) -> None:
        """Count one accepted call whose caller left."""

    def lost(self) -> None:
        """Count one thread that hung or died and was replaced."""


class Batcher(Generic[T, R]):
    """One blocking `run`, many callers: `run` gets a list of items and gives a row for each.

    `cost` is an item's length in tokens; a batch of n items costs n * longest. At most
    `max_queue_items` items and `max_queue_tokens` tokens wait; `max_batch_tokens` bounds a batch.
    `request_queue` says in which order items go, and `supervisor` what becomes of a run that takes
    longer than `run_timeout_s`.
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
        self._cost = cost
        self._max_batch_tokens = max_batch_tokens
        self._observer = observer
        self._supervisor = Supervisor(run, renew, run_timeout_s=run_timeout_s)
        self._queue: RequestQueue[T, R] = RequestQueue(
            cost,
            key,
            max_items=max_queue_items,
            max_tokens=max_queue_tokens,
            aging_s=aging_s,
            observer=observer,
            notify=self._notify,
        )
        self._running: list[Entry[T, R]] = []
        self._serving = False
        self._closing: str | None = None  # why new callers are refused for good
        self._fault: str | None = None  # why they are until `serve` is called again
        # Of those who wait until the queue, the run or the admission has changed.
        self._changes: list[asyncio.Future[None]] = []
        # The callers who wait for room, first come first served; bulk ones hold up their like only.
        self._admission_locks = {"interactive": asyncio.Lock(), "bulk": asyncio.Lock()}
        # Large calls take turns: else one round of the loop has a slice of each of them.
        self._turn = asyncio.Lock()

    @property
    def serving(self) -> bool:
        """Whether `serve` is at work and takes new callers."""
        return self._serving and self._closing is None

    @property
    def waiting(self) -> tuple[int, int]:
        """Items in the queue and their tokens; may be read from any thread."""
        return len(self._queue), self._queue.tokens

    @property
    def idle(self) -> bool:
        """Whether nothing is queued or running."""
        return not len(self._queue) and not self._running

    async def __call__(self, item: T, *, deadline: float | None = None) -> R:
        """Answer one item by `deadline` (loop time, seconds), or raise why not."""
        (outcome,) = await self.submit_all([item], deadline=deadline)
        if isinstance(outcome, AttarError):
            raise outcome
        return outcome

    async def submit_all(
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
        requested = list(items)
        self._refuse_if_closed()
        if deadline is not None and deadline <= now:
            self._observer.expired()
            raise DeadlineExceeded("the deadline had passed on arrival; allow more time")
        reservation = Reservation() if wait else self._queue.reserve(requested)
        waiting: list[Waiting[T, R]] = []
        try:
            async with asyncio.timeout_at(deadline):
                if wait:
                    await self._append_in_turn(requested, waiting, priority, deadline)
                else:
                    await self._append(requested, waiting, reservation, priority, deadline)
                outcomes = await self._outcomes(waiting)
        except TimeoutError:
            self._observer.expired()
            raise DeadlineExceeded("unanswered at the deadline; allow more time") from None
        except asyncio.CancelledError:
            self._observer.cancelled()
            raise
        finally:
            self._queue.release(reservation, reservation.items, reservation.tokens)
            self._queue.leave(waiting)
        for outcome in outcomes:
            if isinstance(outcome, Unavailable):  # no fault of one item
                raise Unavailable(*outcome.args)
        return outcomes

    def refuse_if_full(self) -> None:
        """Raise `Overloaded` where no item finds room: early, while that costs little."""
        self._queue.require_room(1, 1)

    async def serve(self) -> Never:
        """Run batches until cancelled; whatever ends it, everybody waiting is answered.

        After it has died it may be called again.
        """
        self._serving, self._fault = True, None
        try:
            self._supervisor.start()
            while True:
                while not len(self._queue):
                    await self._change()
                if batch := self._next_batch():
                    await self._run(batch)
                    self._running = batch = []  # an idle loop must not keep the items alive
                    self._notify()
        except asyncio.CancelledError:
            self._closing = self._closing or "the batcher has stopped; retry elsewhere"
            raise
        except BaseException:
            self._fault = "the batcher has died; retry when it is ready again"
            raise
        finally:
            self._serving = False
            self._give_up([*self._running, *self._queue.entries()], self._refusal or "")
            self._running = []
            self._supervisor.close()
            self._notify()

    async def close(self, *, drain: bool) -> None:
        """Refuse new callers; answer those accepted, with `Unavailable` unless `drain`."""
        self._closing = self._closing or "the server is draining; retry elsewhere"
        if not (drain and self._serving):
            self._give_up(self._queue.entries(), self._closing)
        self._notify()
        while not self.idle:
            await self._change()
        self._supervisor.close()

    @property
    def _refusal(self) -> str | None:
        return self._closing or self._fault

    def _refuse_if_closed(self) -> None:
        if self._refusal is not None:
            self._observer.rejected(Unavailable.reason)
            raise Unavailable(self._refusal)

    async def _append(
        self,
        items: list[T],
        waiting: list[Waiting[T, R]],
        reservation: Reservation,
        priority: Priority,
        deadline: float | None,
    ) -> None:
        """Queue items that have a reservation."""
        if len(items) > _AT_ONCE:  # the reservation took as long as some of them do
            await _next_turn(self._turn)
        flow = Flow()
        async for some in _in_slices(items, self._turn):
            self._refuse_if_closed()
            for item in some:
                waiting.append(self._queue.append(item, priority, deadline, flow))
                self._queue.release(reservation, 1, self._cost(item))

    async def _append_in_turn(
        self,
        items: list[T],
        waiting: list[Waiting[T, R]],
        priority: Priority,
        deadline: float | None,
    ) -> None:
        """Queue items one by one as there is room, after those who wait for it already."""
        now = asyncio.get_running_loop().time()
        priority_time = self._queue.priority_time(priority, now)
        flow = Flow()
        async with self._admission_locks[priority]:
            async for some in _in_slices(items, self._turn):
                for item in some:
                    await self._room(item, priority_time)
                    waiting.append(self._queue.append(item, priority, deadline, flow))

    async def _room(self, item: T, priority_time: float) -> None:
        """Wait until the queue has room for one item, or needs none; until its turn, let others."""
        loop = asyncio.get_running_loop()
        cost = self._cost(item)
        others = self._admission_locks["interactive"]
        # An empty queue takes any one item: nobody waits for room that never comes.
        while (
            len(self._queue)
            and not self._queue.has(item)
            and (not self._queue.fits(1, cost) or (loop.time() < priority_time and others.locked()))
        ):
            await self._change()
        self._refuse_if_closed()

    async def _outcomes(self, waiting: list[Waiting[T, R]]) -> list[R | AttarError]:
        outcomes: list[R | AttarError] = []
        async for some in _in_slices(waiting, self._turn):
            outcomes += [await waiter for _, waiter in some]
        return outcomes

    def _next_batch(self) -> list[Entry[T, R]]:
        self._running = self._queue.next_batch(self._max_batch_tokens)
        if self._running:
            self._notify()
        return self._running

    def _give_up(self, entries: Iterable[Entry[T, R]], why: str) -> None:
        for entry in entries:
            self._queue.forget(entry)
            entry.fail(lambda: Unavailable(why))
        self._queue.remove(self._queue.entries())

    async def _run(self, batch: list[Entry[T, R]]) -> bool:
        """Run a batch, and halves of it if it fails; tell whether it ran whole."""
        for entry in batch:
            if not entry.waiters:  # left while another half ran: nobody may join it now
                self._queue.forget(entry)
        batch = [entry for entry in batch if entry.waiters]
        if not batch:
            return False
        start = time.perf_counter()
        try:
            rows = await self._supervisor.attempt([entry.item for entry in batch])
        except Lost as lost:
            await self._replace_thread(batch, lost)
            return False
        costs = [entry.cost for entry in batch]
        self._observer.batch(
            len(batch), sum(costs), len(batch) * max(costs), time.perf_counter() - start
        )
        if isinstance(rows, list):
            # Its own lock: the next run does not wait for the turns of large calls.
            async for some in _in_slices([*zip(batch, rows, strict=True)], asyncio.Lock()):
                for entry, row in some:
                    self._queue.forget(entry)
                    entry.resolve(row)
            return True
        if len(batch) > 1 and not isinstance(rows, Unavailable):
            await self._halve(batch)
            return False
        for entry in batch:
            self._queue.forget(entry)
            entry.fail(lambda: _failure(rows))
        return False

    async def _halve(self, batch: list[Entry[T, R]]) -> None:
        """Answer a batch that failed as a whole by its halves.

        Where the first half is good the fault is in the second, so that is halved at once: one bad
        item of n costs at most 2 * log2(n) runs more.
        """
        middle = len(batch) // 2
        if await self._run(batch[:middle]) and len(batch) - middle > 1:
            await self._halve(batch[middle:])
        else:
            await self._run(batch[middle:])

    async def _replace_thread(self, batch: list[Entry[T, R]], lost: Lost) -> None:
        """Answer the callers of a run that is given up, and go on with a new thread."""
        _LOG.error("a run of %d items is given up: %s", len(batch), lost)
        self._observer.lost()
        for entry in batch:
            self._queue.forget(entry)
            entry.fail(lambda: Unavailable(f"the run was given up, {lost}; retry"))
        self._supervisor.give_up()
        while (error := await self._supervisor.renewed()) is not None:
            _LOG.error("the model cannot be loaded again: %r", error)
            self._give_up(self._queue.entries(), "the model is being loaded again; retry later")
            await asyncio.sleep(_RENEW_EVERY_S)

    def _notify(self) -> None:
        changes, self._changes = self._changes, []
        for changed in changes:
            if not changed.done():  # the caller that waited has left
                changed.set_result(None)

    async def _change(self) -> None:
        self._changes.append(changed := asyncio.get_running_loop().create_future())
        await changed


async def _next_turn(turn: asyncio.Lock) -> None:
    """Let others run on the loop, and those who wait for the same turn go first."""
    async with turn:
        await asyncio.sleep(0)


async def _in_slices(items: list[T], turn: asyncio.Lock) -> AsyncIterator[list[T]]:
    """Give some items, and take a new turn before the next ones."""
    for start in range(0, len(items), _AT_ONCE):
        if start:
            await _next_turn(turn)
        yield items[start : start + _AT_ONCE]


def _failure(error: BaseException) -> AttarError:
    """Give one caller its own error for a failed run; that nothing answers is no item's fault."""
    if isinstance(error, Unavailable):
        return Unavailable(*error.args)
    own = BackendError(str(error) if isinstance(error, AttarError) else f"a run failed: {error!r}")
    own.__cause__ = error
    return own
