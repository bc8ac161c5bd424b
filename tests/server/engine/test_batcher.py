"""The batcher's promises; above all, that every accepted caller ends exactly once."""

import asyncio
import ctypes
import math
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.errors import (
    AttarError,
    BackendError,
    DeadlineExceeded,
    InvalidInput,
    Overloaded,
    Unavailable,
)
from attar.inputs import Priority
from attar.server.engine.batcher import Batcher
from attar.server.engine.batching import select_batch, window_size
from attar.server.engine.request_queue import Flow, RequestQueue

from ...support.models import Clumsy, Tally

DEADLINE_S = 10.0  # seconds until a test that hangs says so


class Backend:
    """A run that answers -item, keeps its batches, and holds each until let go."""

    def __init__(self, *, held: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[threading.Thread] = set()  # an ended one's number is used again
        self.started = threading.Semaphore(0)
        self.let_go = threading.Semaphore(0)
        self.held = held

    def __call__(self, items: list[int]) -> list[int]:
        self.batches.append(items)
        self.threads.add(threading.current_thread())
        self.started.release()
        if self.held:
            assert self.let_go.acquire(timeout=DEADLINE_S)
        return [-item for item in items]

    async def busy(self) -> None:
        """Wait until one more run has begun."""
        assert await asyncio.to_thread(self.started.acquire, timeout=DEADLINE_S)


def make(
    run: Callable[[list[int]], Sequence[int]],
    *,
    tokens: int = 1000,
    items: int = 100,
    queue_tokens: int = 100_000,
    observer: Tally | None = None,
    sharing: bool = False,
    aging_s: float = 1.0,
    run_timeout_s: float | None = None,
    renew: Callable[[], None] = lambda: None,
) -> Batcher[int, int]:
    """Batch ints, each of which is its own length, and its own key where equal ones are shared."""
    return Batcher(
        run,
        lambda item: item,
        key=lambda item: item if sharing else None,
        renew=renew,
        aging_s=aging_s,
        run_timeout_s=run_timeout_s,
        max_batch_tokens=tokens,
        max_queue_items=items,
        max_queue_tokens=queue_tokens,
        observer=observer or Tally(),
    )


def play(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run a scenario on a loop of its own, and fail rather than hang."""
    asyncio.run(asyncio.wait_for(scenario(), DEADLINE_S))


async def settle() -> None:
    """Let every task that can go on do so."""
    for _ in range(10):
        await asyncio.sleep(0)


async def queued(batcher: Batcher[int, int], items: int) -> None:
    """Wait until so many items are in the queue."""
    for _ in range(10_000):
        if batcher.waiting[0] >= items:
            return
        await asyncio.sleep(0)
    raise AssertionError(batcher.waiting)


async def stop(serving: "asyncio.Task[None]") -> None:
    """Cancel a serve loop."""
    serving.cancel()
    await asyncio.wait([serving])


# ------------------------------------------------------------------------------ forming a batch

lengths = st.lists(st.integers(1, 512), min_size=1, max_size=60)


@given(lengths, st.integers(1, 4096))
def test_a_batch_has_the_oldest_stays_in_its_budget_and_pads_a_tenth_of_it(
    costs: list[int], budget: int
) -> None:
    chosen = select_batch(costs, budget)
    assert chosen[0] == 0
    assert chosen == sorted(set(chosen))
    padded = len(chosen) * max(costs[i] for i in chosen)
    assert len(chosen) == 1 or padded <= budget
    assert 10 * (padded - sum(costs[i] for i in chosen)) <= budget


@given(lengths, st.integers(1, 4096))
def test_nobody_starves(costs: list[int], budget: int) -> None:
    waiting, rounds = list(enumerate(costs)), 0
    while waiting:
        taken = set(select_batch([cost for _, cost in waiting], budget))
        assert all(position >= rounds for i, (position, _) in enumerate(waiting) if i in taken)
        waiting = [entry for i, entry in enumerate(waiting) if i not in taken]
        rounds += 1
    assert rounds <= len(costs)


def test_a_batch_takes_neighbours_in_length_and_the_older_among_equals() -> None:
    assert select_batch([100, 5, 100, 6, 98, 98], 300) == [0, 2, 4]
    assert select_batch([8, 8, 8, 8], 16) == [0, 1]


def test_a_batch_that_would_pad_more_than_a_tenth_of_the_budget_is_cut() -> None:
    assert select_batch([8] * 20 + [512], 100_000) == list(range(20))
    assert select_batch([8] * 20 + [512], 110_000) == list(range(21))


@given(lengths, st.integers(1, 4096))
def test_a_batch_is_cut_from_a_third_of_the_queue_or_from_what_fills_the_budget(
    costs: list[int], budget: int
) -> None:
    count = window_size(costs, budget)
    assert 1 <= count <= len(costs)
    assert 3 * count >= len(costs)
    assert count == len(costs) or sum(costs[:count]) >= budget
    assert 3 * (count - 1) < len(costs) or sum(costs[: count - 1]) < budget


# ------------------------------------------------------------------------------ the life of a call


def test_whatever_queued_while_a_run_was_busy_is_the_next_batch() -> None:
    async def scenario() -> None:
        backend, tally = Backend(held=True), Tally()
        batcher = make(backend, observer=tally)
        serving = asyncio.create_task(batcher.serve())
        first = asyncio.create_task(batcher(10))
        await backend.busy()
        others = [asyncio.create_task(batcher(n)) for n in (10, 9, 10, 8)]
        await settle()
        backend.let_go.release(2)
        assert await first == -10
        assert await asyncio.gather(*others) == [-10, -9, -10, -8]
        assert backend.batches == [[10], [10, 9, 10, 8]]
        assert tally.batches == [(1, 10, 10), (4, 37, 40)]
        assert tally.counts == {"waited": 5}
        assert threading.current_thread() not in backend.threads
        assert len(backend.threads) == 1
        await stop(serving)

    play(scenario)


def test_a_cancelled_caller_costs_no_compute_and_does_not_disturb_its_batch_mates() -> None:
    async def scenario() -> None:
        backend, tally = Backend(held=True), Tally()
        batcher = make(backend, observer=tally)
        serving = asyncio.create_task(batcher.serve())
        running = [asyncio.create_task(batcher.submit_all([1, 2])), asyncio.create_task(batcher(2))]
        await backend.busy()
        queued = [asyncio.create_task(batcher(n)) for n in (3, 4, 5)]
        await settle()
        running[1].cancel()  # in the run
        queued[1].cancel()  # in the queue
        await settle()
        backend.let_go.release(2)
        assert await running[0] == [-1, -2]
        assert [await queued[0], await queued[2]] == [-3, -5]
        assert backend.batches == [[1, 2, 2], [3, 5]]
        assert tally.counts["cancelled"] == 2
        await stop(serving)

    play(scenario)


def test_an_expired_caller_costs_no_compute() -> None:
    async def scenario() -> None:
        backend, tally = Backend(held=True), Tally()
        batcher = make(backend, observer=tally)
        serving = asyncio.create_task(batcher.serve())
        now = asyncio.get_running_loop().time()
        with pytest.raises(DeadlineExceeded, match="on arrival"):
            await batcher(7, deadline=now)
        first = asyncio.create_task(batcher(1))
        await backend.busy()
        with pytest.raises(DeadlineExceeded, match="allow more time"):
            await batcher(7, deadline=now + 0.02)
        last = asyncio.create_task(batcher(2, deadline=now + 2 * DEADLINE_S))
        await settle()
        backend.let_go.release(2)
        assert [await first, await last] == [-1, -2]
        assert backend.batches == [[1], [2]]
        assert tally.counts["expired"] == 2
        await stop(serving)

    play(scenario)


@pytest.mark.parametrize("error", [ValueError("bad tensor"), StopIteration(), SystemExit(1)])
def test_a_failing_run_reaches_its_own_batch_only(error: BaseException) -> None:
    async def scenario() -> None:
        def run(items: list[int]) -> list[int]:
            if 13 in items:
                raise error
            return [-item for item in items]

        batcher = make(run, tokens=13)  # 13 is a batch of its own
        failing = [asyncio.create_task(batcher(13)) for _ in range(2)]
        others = asyncio.create_task(batcher.submit_all([5, 6, 13, 5]))
        await settle()
        serving = asyncio.create_task(batcher.serve())
        for task in failing:
            with pytest.raises(BackendError, match="a run failed") as caught:
                await task
            assert caught.value.__cause__ is error
        five, six, thirteen, other = await others
        assert [five, six, other] == [-5, -6, -5]
        assert isinstance(thirteen, BackendError)
        assert await batcher(4) == -4
        await stop(serving)

    play(scenario)


@pytest.mark.parametrize("rows", [[], [1, 2, 3]])
def test_a_wrong_number_of_rows_is_an_error_and_not_a_hang(rows: list[int]) -> None:
    async def scenario() -> None:
        batcher = make(lambda items: rows if 1 in items else [0] * len(items))
        serving = asyncio.create_task(batcher.serve())
        outcomes = await batcher.submit_all([1, 1])
        assert [str(outcome) for outcome in outcomes] == [
            f"a run gave {len(rows)} rows for 1 items; this is a bug in attar"
        ] * 2
        assert outcomes[0] is not outcomes[1]
        assert await batcher(2) == 0
        await stop(serving)

    play(scenario)


# ------------------------------------------------------------------------------ admission


@pytest.mark.parametrize(("items", "tokens"), [(3, 1000), (100, 30)])
def test_a_full_queue_refuses_and_a_leaver_makes_room(items: int, tokens: int) -> None:
    async def scenario() -> None:
        tally = Tally()
        batcher = make(Backend(), items=items, queue_tokens=tokens, observer=tally)
        waiting = [asyncio.create_task(batcher(10)) for _ in range(3)]
        await settle()
        with pytest.raises(Overloaded, match="3 items of 30 tokens are waiting"):
            await batcher(10)
        assert tally.counts["OVERLOADED"] == 1
        waiting[0].cancel()
        await settle()
        late = asyncio.create_task(batcher(10))
        await settle()
        serving = asyncio.create_task(batcher.serve())
        assert list(await asyncio.gather(waiting[1], waiting[2], late)) == [-10] * 3
        await stop(serving)

    play(scenario)


def test_a_call_is_admitted_whole_or_not_at_all() -> None:
    async def scenario() -> None:
        backend = Backend()
        batcher = make(backend, items=4)
        with pytest.raises(InvalidInput, match="5 items of 5 tokens never fit a queue of 4 items"):
            await batcher.submit_all([1] * 5)
        waiting = asyncio.create_task(batcher.submit_all([1, 1]))
        await settle()
        with pytest.raises(Overloaded):
            await batcher.submit_all([2, 2, 2])
        serving = asyncio.create_task(batcher.serve())
        assert await waiting == [-1, -1]
        assert backend.batches == [[1, 1]]
        await stop(serving)

    play(scenario)


def test_a_call_that_waits_for_room_may_be_longer_than_the_queue() -> None:
    async def scenario() -> None:
        backend = Backend()
        batcher = make(backend, items=4, queue_tokens=12, tokens=12)
        serving = asyncio.create_task(batcher.serve())
        calls = [list(range(1, 30)), [40], list(range(30, 1, -1))]
        answers = await asyncio.gather(*(batcher.submit_all(call, wait=True) for call in calls))
        assert answers == [[-item for item in call] for call in calls]
        assert max(map(len, backend.batches)) <= 4
        await stop(serving)

    play(scenario)


# ------------------------------------------------------------------------------ the end


def test_draining_finishes_what_was_accepted_and_refuses_new() -> None:
    async def scenario() -> None:
        backend, tally = Backend(held=True), Tally()
        batcher = make(backend, observer=tally)
        serving = asyncio.create_task(batcher.serve())
        first = asyncio.create_task(batcher(1))
        await backend.busy()
        second = asyncio.create_task(batcher(2))
        await settle()
        closing = asyncio.create_task(batcher.close(drain=True))
        await settle()
        assert not batcher.serving
        with pytest.raises(Unavailable, match="draining"):
            await batcher(3)
        assert tally.counts["UNAVAILABLE"] == 1
        assert not closing.done()
        backend.let_go.release(2)
        assert [await first, await second] == [-1, -2]
        await closing
        await batcher.close(drain=True)  # again is harmless
        await stop(serving)

    play(scenario)


def test_closing_without_a_drain_answers_those_who_wait() -> None:
    async def scenario() -> None:
        backend = Backend(held=True)
        batcher = make(backend, items=2)
        serving = asyncio.create_task(batcher.serve())
        running = asyncio.create_task(batcher(1))
        await backend.busy()
        queued = asyncio.create_task(batcher.submit_all([2, 3]))
        outside = asyncio.create_task(batcher.submit_all([4], wait=True))
        await settle()
        closing = asyncio.create_task(batcher.close(drain=False))
        for task in (queued, outside):
            with pytest.raises(Unavailable):
                await task
        backend.let_go.release()
        assert await running == -1
        await closing
        assert backend.batches == [[1]]
        await stop(serving)

    play(scenario)


def test_the_death_of_the_loop_answers_everybody_and_is_visible() -> None:
    async def scenario() -> None:
        backend = Backend(held=True)
        batcher = make(backend, observer=Clumsy())
        serving = asyncio.create_task(batcher.serve())
        running = asyncio.create_task(batcher(1))
        await backend.busy()
        states = [batcher.serving]
        queued = asyncio.create_task(batcher(2))
        await settle()
        backend.let_go.release()
        for task in (running, queued):
            with pytest.raises(Unavailable, match="has died"):
                await task
        with pytest.raises(ZeroDivisionError):
            await serving
        assert [*states, batcher.serving] == [True, False]
        with pytest.raises(Unavailable, match="has died"):
            await batcher(3)
        again = asyncio.create_task(batcher.serve())
        await settle()
        assert batcher.serving
        await stop(again)
        await batcher.close(drain=True)  # does not wait for the dead

    play(scenario)


# ------------------------------------------------------------------------------ a batch that fails


class Poisoned(Backend):
    """A run that fails whenever a bad item is in it."""

    def __init__(self, bad: set[int]) -> None:
        super().__init__()
        self.bad = bad

    def __call__(self, items: list[int]) -> list[int]:
        rows = super().__call__(items)
        if self.bad & set(items):
            raise ValueError(sorted(self.bad & set(items)))
        return rows


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 80), st.data())
def test_in_a_batch_that_fails_every_good_item_is_answered_and_every_bad_one_fails_alone(
    size: int, data: st.DataObject
) -> None:
    bad = data.draw(st.sets(st.integers(1, size)))

    async def scenario() -> None:
        backend = Poisoned(bad)
        batcher = make(backend, tokens=10**6)
        serving = asyncio.create_task(batcher.serve())
        outcomes = await batcher.submit_all([size, *range(1, size)])
        for item, outcome in zip([size, *range(1, size)], outcomes, strict=True):
            if item in bad:
                assert isinstance(outcome, BackendError)
                assert str(outcome) == f"a run failed: ValueError([{item}])"
            else:
                assert outcome == -item
        await stop(serving)

    play(scenario)


@given(st.integers(1, 64), st.data())
def test_one_bad_item_of_n_costs_at_most_twice_log2_n_runs_more(
    size: int, data: st.DataObject
) -> None:
    bad = data.draw(st.integers(101, 100 + size))

    async def scenario() -> None:
        backend = Poisoned({bad})
        batcher = make(backend, tokens=10**6)
        waiting = [asyncio.create_task(batcher(100 + i + 1)) for i in range(size)]
        await settle()
        serving = asyncio.create_task(batcher.serve())
        await asyncio.gather(*waiting, return_exceptions=True)
        assert len(backend.batches[0]) == size
        assert len(backend.batches) - 1 <= 2 * math.log2(size)
        await stop(serving)

    play(scenario)


def test_of_a_thousand_callers_the_one_with_poison_fails() -> None:
    async def scenario() -> None:
        backend = Poisoned({113})
        batcher = make(backend, tokens=64 * 120, items=1000, queue_tokens=10**6)
        serving = asyncio.create_task(batcher.serve())
        items = [113 if i == 613 else 100 + i % 13 for i in range(1000)]
        ends = await asyncio.gather(*map(batcher, items), return_exceptions=True)
        assert [end for i, end in enumerate(ends) if i != 613] == [
            -item for i, item in enumerate(items) if i != 613
        ]
        assert isinstance(ends[613], BackendError)
        await stop(serving)

    play(scenario)


def test_a_run_without_a_backend_is_not_halved_and_its_callers_may_retry() -> None:
    async def scenario() -> None:
        runs: list[int] = []

        def run(items: list[int]) -> list[int]:
            runs.append(len(items))
            raise Unavailable("nobody answers at example:1")

        batcher = make(run)
        serving = asyncio.create_task(batcher.serve())
        with pytest.raises(Unavailable, match="nobody answers"):
            await batcher.submit_all([1] * 8)
        assert runs == [8]
        await stop(serving)

    play(scenario)


# ------------------------------------------------------------------------------ who goes first


def test_interactive_items_go_before_bulk_ones_that_came_earlier() -> None:
    async def scenario() -> None:
        backend = Backend(held=True)
        batcher = make(backend)
        serving = asyncio.create_task(batcher.serve())
        first = asyncio.create_task(batcher(1))
        await backend.busy()
        bulk = asyncio.create_task(batcher.submit_all([10, 11], priority="bulk"))
        await settle()
        urgent = asyncio.create_task(batcher.submit_all([12, 13]))
        await settle()
        backend.let_go.release(3)
        await asyncio.gather(first, bulk, urgent)
        assert backend.batches == [[1], [12, 13], [10, 11]]
        await stop(serving)

    play(scenario)


def test_a_bulk_item_has_its_turn_after_aging_though_interactive_ones_keep_coming() -> None:
    async def scenario() -> None:
        backend = Backend(held=True)
        batcher = make(backend, tokens=10, aging_s=0.05)
        serving = asyncio.create_task(batcher.serve())
        loop = asyncio.get_running_loop()
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(batcher(10))]
        await backend.busy()
        tasks.append(asyncio.create_task(batcher.submit_all([7], priority="bulk")))
        await settle()
        came = loop.time()
        tasks += [asyncio.create_task(batcher(10)) for _ in range(3)]
        await settle()
        await asyncio.sleep(came + 0.06 - loop.time())
        tasks += [asyncio.create_task(batcher(9)) for _ in range(5)]  # after it had aged
        await settle()
        backend.let_go.release(20)
        await asyncio.gather(*tasks)
        # Those who came within `aging_s` of it are in front, and nobody else.
        assert backend.batches[:5] == [[10], [10], [10], [10], [7]]
        await stop(serving)

    play(scenario)


@pytest.mark.parametrize("sharing", [False, True], ids=["own-item", "item-of-the-large-call"])
def test_a_call_of_one_item_waits_for_two_batches_of_a_large_call_at_most(sharing: bool) -> None:
    async def scenario() -> None:
        backend = Backend(held=True)
        batcher = make(backend, tokens=8192, items=4096, queue_tokens=2**30, sharing=sharing)
        serving = asyncio.create_task(batcher.serve())
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(batcher(1))]
        await backend.busy()
        large = [*range(1000, 3048)] if sharing else [1000] * 2048
        tasks += [
            asyncio.create_task(batcher.submit_all(large)) for _ in range(1 if sharing else 2)
        ]
        await queued(batcher, len(large))
        backend.let_go.release()
        await backend.busy()
        small = large[-1] if sharing else 1001
        tasks.append(asyncio.create_task(batcher(small)))
        await settle()
        backend.let_go.release(5000)
        await asyncio.gather(*tasks)
        assert small not in backend.batches[1]
        # An item of another length than the oldest's may wait for one batch more.
        assert small in backend.batches[2] + backend.batches[3]
        await stop(serving)

    play(scenario)


def test_large_calls_have_equal_shares_of_the_batches() -> None:
    async def scenario() -> None:
        backend = Backend(held=True)
        batcher = make(backend, tokens=1000, items=1000)
        serving = asyncio.create_task(batcher.serve())
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(batcher(1))]
        await backend.busy()
        for item in (10, 11, 12):  # whose items come one call after another
            tasks.append(asyncio.create_task(batcher.submit_all([item] * 200)))
            await queued(batcher, 200 * (item - 9))
        backend.let_go.release(1000)
        await asyncio.gather(*tasks)
        counts = Counter(item for batch in backend.batches[1:4] for item in batch)
        assert len(counts) == 3
        await stop(serving)

    play(scenario)


@given(
    st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=8), min_size=1, max_size=12),
    st.integers(1, 200),
)
def test_no_call_starves_while_new_calls_keep_coming(calls: list[list[int]], budget: int) -> None:
    async def scenario() -> None:
        queue: RequestQueue[int, int] = RequestQueue(
            lambda item: item,
            lambda _: None,
            max_items=10_000,
            max_tokens=10**9,
            aging_s=1.0,
            observer=Tally(),
            notify=lambda: None,
        )
        first = set()
        for items in calls:
            flow = Flow()
            first |= {queue.append(item, "interactive", None, flow)[0] for item in items}
        for _ in range(10_000):
            if not first:
                break
            queue.append(1, "interactive", None, Flow())  # always fresh, always short
            first -= set(queue.next_batch(budget))
        assert not first

    play(scenario)


def test_bulk_that_waits_for_room_does_not_hold_up_interactive_streams() -> None:
    async def scenario() -> None:
        backend = Backend(held=True)
        batcher = make(backend, items=2)
        serving = asyncio.create_task(batcher.serve())
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(batcher(1))]
        await backend.busy()
        tasks += [asyncio.create_task(batcher.submit_all([5] * 6, wait=True, priority="bulk"))]
        await settle()
        tasks += [asyncio.create_task(batcher.submit_all([6], wait=True))]
        await settle()
        backend.let_go.release(20)
        await asyncio.gather(*tasks)
        assert [6] in backend.batches[:3]
        await stop(serving)

    play(scenario)


# ------------------------------------------------------------------------------ equal items


def test_equal_items_in_flight_are_computed_once_and_take_no_room() -> None:
    async def scenario() -> None:
        backend, tally = Backend(held=True), Tally()
        batcher = make(backend, sharing=True, items=2, observer=tally)
        serving = asyncio.create_task(batcher.serve())
        running = [asyncio.create_task(batcher(1))]
        await backend.busy()
        running.append(asyncio.create_task(batcher(1)))  # joins the run
        queued = [asyncio.create_task(batcher.submit_all([2, 3, 2])) for _ in range(10)]
        await settle()
        backend.let_go.release(2)
        assert await asyncio.gather(*running) == [-1, -1]
        assert await asyncio.gather(*queued) == [[-2, -3, -2]] * 10
        assert backend.batches == [[1], [2, 3]]
        assert tally.counts["shared"] == 29
        backend.let_go.release()
        assert await batcher(1) == -1  # the first is no longer in flight
        assert backend.batches[2:] == [[1]]
        await stop(serving)

    play(scenario)


def test_who_shares_an_item_keeps_it_alive_when_the_others_leave() -> None:
    async def scenario() -> None:
        backend = Backend(held=True)
        batcher = make(backend, sharing=True)
        serving = asyncio.create_task(batcher.serve())
        first = asyncio.create_task(batcher(1))
        await backend.busy()
        soon = asyncio.get_running_loop().time() + 0.02
        leavers = [asyncio.create_task(batcher(n, deadline=soon)) for n in (2, 3)]
        await settle()
        stays = asyncio.create_task(batcher(2))
        for task in leavers:
            with pytest.raises(DeadlineExceeded):
                await task
        backend.let_go.release(2)
        assert [await first, await stays] == [-1, -2]
        assert backend.batches == [[1], [2]]
        await stop(serving)

    play(scenario)


def test_a_bulk_item_that_an_interactive_caller_joins_goes_with_it() -> None:
    async def scenario() -> None:
        backend = Backend(held=True)
        batcher = make(backend, sharing=True)
        serving = asyncio.create_task(batcher.serve())
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(batcher(1))]
        await backend.busy()
        tasks.append(asyncio.create_task(batcher.submit_all([7, 8], priority="bulk")))
        await settle()
        tasks.append(asyncio.create_task(batcher(8)))
        await settle()
        backend.let_go.release(3)
        await asyncio.gather(*tasks)
        assert backend.batches == [[1], [8], [7]]
        await stop(serving)

    play(scenario)


# ------------------------------------------------------------------------------ lost workers


def test_a_run_that_hangs_is_given_up_and_the_next_one_has_a_new_thread() -> None:
    async def scenario() -> None:
        backend, tally = Backend(), Tally()
        hang = threading.Event()
        renewed: list[threading.Thread] = []

        def run(items: list[int]) -> list[int]:
            if 13 in items:
                hang.wait(DEADLINE_S)
            return backend(items)

        batcher = make(
            run,
            tokens=13,
            observer=tally,
            run_timeout_s=0.1,
            renew=lambda: renewed.append(threading.current_thread()),
        )
        serving = asyncio.create_task(batcher.serve())
        assert await batcher(1) == -1
        stuck = asyncio.create_task(batcher(13))
        await settle()
        behind = asyncio.create_task(batcher(2))
        with pytest.raises(Unavailable, match=r"given up, no result in 0.1 s; retry"):
            await stuck
        assert await behind == -2
        assert len(backend.threads) == 2
        assert renewed[0] in backend.threads
        assert tally.counts["lost"] == 1
        hang.set()
        await stop(serving)

    play(scenario)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_dies_is_replaced_at_once() -> None:
    async def scenario() -> None:
        backend, tally = Backend(), Tally()
        batcher = make(backend, observer=tally)
        serving = asyncio.create_task(batcher.serve())
        assert await batcher(1) == -1
        (thread,) = backend.threads
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit)
        )
        with pytest.raises(Unavailable, match="its thread has ended"):
            await batcher(2)
        thread.join(DEADLINE_S)
        assert await batcher(3) == -3
        assert len(backend.threads) == 2
        assert tally.counts["lost"] == 1
        await stop(serving)

    play(scenario)


def test_when_too_many_runs_hang_the_batcher_dies_rather_than_leak() -> None:
    async def scenario() -> None:
        hang = threading.Event()

        def run(items: list[int]) -> list[int]:
            hang.wait(DEADLINE_S)
            return items

        batcher = make(run, run_timeout_s=0.01)
        serving = asyncio.create_task(batcher.serve())
        for _ in range(5):
            with pytest.raises(Unavailable):
                await batcher(1)
        with pytest.raises(RuntimeError, match="5 runs hang; this process needs a restart"):
            await serving
        assert not batcher.serving
        with pytest.raises(RuntimeError, match="5 runs hang"):
            await batcher.serve()
        hang.set()

    play(scenario)


def test_a_model_that_cannot_be_loaded_again_is_tried_until_it_can() -> None:
    async def scenario() -> None:
        hang = threading.Event()
        attempts: list[int] = []

        def run(items: list[int]) -> list[int]:
            if 13 in items:
                hang.wait(DEADLINE_S)
            return [-item for item in items]

        def renew() -> None:
            attempts.append(1)
            if len(attempts) == 1:
                raise OSError("gone")

        batcher = make(run, tokens=13, run_timeout_s=0.05, renew=renew)
        serving = asyncio.create_task(batcher.serve())
        stuck, behind = asyncio.create_task(batcher(13)), asyncio.create_task(batcher(2))
        for task, message in ((stuck, "given up"), (behind, "being loaded again")):
            with pytest.raises(Unavailable, match=message):
                await task
        assert await batcher(3) == -3
        assert len(attempts) == 2
        hang.set()
        await stop(serving)

    play(scenario)


# ------------------------------------------------------------------------------ the law


@dataclass(frozen=True)
class Fate:
    """What happens to one caller; `arrives` and `leaves` count turns of the loop."""

    items: list[int]
    arrives: int
    leaves: int | None
    deadline: float | None  # s after its arrival
    wait: bool
    priority: Priority


fates = st.builds(
    Fate,
    items=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    arrives=st.integers(0, 20),
    leaves=st.none() | st.integers(0, 30),
    deadline=st.none() | st.sampled_from([-1.0, 0.0, 1e-4, 1e-3]),
    wait=st.booleans(),
    priority=st.sampled_from(["interactive", "bulk"]),
)
runs = st.lists(st.sampled_from(["good"] * 5 + ["raise", "short", "long"]), max_size=30)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(fates, min_size=1, max_size=25),
    runs,
    st.integers(4, 60),
    st.booleans(),
    st.booleans(),
)
def test_every_caller_ends_exactly_once(  # noqa: C901 - one play of many parts
    callers: list[Fate],
    script: list[str],
    budget: int,
    drain: bool,
    sharing: bool,
) -> None:
    ran: list[list[int]] = []

    def run(items: list[int]) -> list[int]:
        kind = script[len(ran)] if len(ran) < len(script) else "good"
        ran.append(items)
        if kind == "raise":
            raise ValueError
        rows = [-item for item in items]
        return rows[1:] if kind == "short" else [*rows, 0] if kind == "long" else rows

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        batcher = make(run, tokens=budget, items=8, queue_tokens=200, sharing=sharing)
        serving = asyncio.create_task(batcher.serve())
        ends: Counter[int] = Counter()
        errors: list[BaseException] = []

        async def call(number: int, fate: Fate) -> None:
            for _ in range(fate.arrives):
                await asyncio.sleep(0)
            deadline = None if fate.deadline is None else loop.time() + fate.deadline
            try:
                rows = await batcher.submit_all(
                    fate.items, deadline=deadline, wait=fate.wait, priority=fate.priority
                )
                for item, row in zip(fate.items, rows, strict=True):
                    assert row == -item or isinstance(row, BackendError)
            except (AttarError, asyncio.CancelledError) as error:
                errors.append(error)
            finally:
                ends[number] += 1

        async def leave(task: "asyncio.Task[None]", turns: int) -> None:
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()

        tasks = [asyncio.create_task(call(number, fate)) for number, fate in enumerate(callers)]
        leaving = [
            asyncio.create_task(leave(task, fate.leaves))
            for task, fate in zip(tasks, callers, strict=True)
            if fate.leaves is not None
        ]
        for done in await asyncio.gather(*tasks, *leaving, return_exceptions=True):
            assert done is None or isinstance(done, asyncio.CancelledError), done
        assert all(count == 1 for count in ends.values())
        expected = (DeadlineExceeded, Overloaded, asyncio.CancelledError)
        assert all(isinstance(error, expected) for error in errors)
        await batcher.close(drain=drain)
        await stop(serving)
        assert all(len(items) == 1 or len(items) * max(items) <= budget for items in ran)
        if set(script[: len(ran)]) <= {"good"}:
            asked = Counter(item for fate in callers for item in fate.items)
            assert Counter(item for items in ran for item in items) <= asked  # nothing ran twice

    play(scenario)
