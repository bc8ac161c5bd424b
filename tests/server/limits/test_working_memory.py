"""What requests are made into has a bound for all of them together."""

import asyncio
import select
import socket
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from attar import Client
from attar.errors import InvalidInput, Overloaded
from attar.server.limits import working_memory as working_module
from attar.server.limits.working_memory import WorkingMemory
from attar.server.request_context import RequestContext
from benchmarks.support.servers import free_port, serving, settings


def call(working: WorkingMemory, caller: str = "") -> RequestContext:
    return RequestContext(rpc="a/B", request_id="r", working=working, caller=caller)


async def test_calls_hold_so_much_together_and_no_more() -> None:
    working = WorkingMemory(100)
    one, other = call(working, "one"), call(working, "other")
    one.hold(60)
    other.hold(40)

    with pytest.raises(Overloaded, match=r"100 bytes of max_working_bytes, 100, and .* 1; retry"):
        other.hold(1)
    one.let_go(one.held)
    other.hold(60)

    assert (working.held, one.held, other.held) == (100, 0, 100)


async def test_what_never_fits_is_refused_for_good() -> None:
    alone = call(WorkingMemory(100))
    alone.hold(100)
    alone.let_go(100)

    with pytest.raises(InvalidInput, match=r"101 bytes .* more than max_working_bytes, 100"):
        alone.hold(101)
    with pytest.raises(InvalidInput, match=r"101 bytes .* more than max_working_bytes, 100"):
        await alone.wait_to_hold(101, received=1)


async def test_what_a_call_holds_already_counts_for_what_never_fits() -> None:
    alone = call(WorkingMemory(100))
    alone.hold(60)

    with pytest.raises(InvalidInput, match="101 bytes"):
        alone.hold(41)
    alone.hold(40)


async def test_who_waits_goes_on_when_there_is_room() -> None:
    working = WorkingMemory(100)
    first, second = call(working, "first"), call(working, "second")
    first.hold(70)
    waiting = asyncio.create_task(second.wait_to_hold(50, received=25))
    await asyncio.sleep(0)
    assert not waiting.done()

    first.let_go(20)
    await waiting

    assert working.held == 100


async def test_what_was_let_in_waits_for_its_neighbours() -> None:
    working = WorkingMemory(192)
    calls = [call(working) for _ in range(3)]
    for one in calls:
        one.hold(16)

    growing = [asyncio.create_task(one.hold_more(100)) for one in calls]
    for index, one in enumerate(calls):
        await growing[index]
        assert sum(task.done() for task in growing) == index + 1
        one.let_go(one.held)

    assert working.held == 0


async def test_the_last_of_those_that_wait_for_each_other_are_refused() -> None:
    working = WorkingMemory(192)
    calls = [call(working) for _ in range(4)]
    for one in calls:
        one.hold(32)

    async def grow(one: RequestContext) -> bool:
        try:
            await one.hold_more(100)
        except Overloaded:
            return False
        finally:
            one.let_go(one.held)
        return True

    grown = await asyncio.gather(*map(grow, calls))

    assert grown == [True, True, False, False]
    assert working.held == 0


async def test_nobody_waits_for_neighbours_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(working_module, "_TIMEOUT_S", 0.01)
    working = WorkingMemory(192)
    first, second = call(working), call(working)
    first.hold(150)
    second.hold(16)

    with pytest.raises(Overloaded, match="166 bytes of max_working_bytes, 192, and this one 100"):
        await second.hold_more(100)
    first.let_go(150)
    await second.hold_more(100)

    assert working.held == second.held == 116


async def test_who_leaves_while_it_waits_stands_in_nobodys_way() -> None:
    working = WorkingMemory(192)
    first, leaves, last = (call(working) for _ in range(3))
    first.hold(100)
    leaves.hold(40)
    last.hold(40)
    leaving, waiting = (asyncio.create_task(one.hold_more(90)) for one in (leaves, last))
    await asyncio.sleep(0)

    leaving.cancel()
    with suppress(asyncio.CancelledError):
        await leaving
    leaves.let_go(40)
    first.let_go(100)
    await waiting

    assert working.held == last.held == 130


async def test_what_never_fits_is_refused_at_once() -> None:
    working = WorkingMemory(192)
    one = call(working)
    one.hold(16)

    with pytest.raises(InvalidInput, match="193 bytes of memory, more than max_working_bytes, 192"):
        await one.hold_more(177)


async def test_only_so_much_waits() -> None:
    working = WorkingMemory(100)
    first = call(working)
    first.hold(70)
    calls = [call(working) for _ in range(2)]
    waiting = [asyncio.create_task(one.wait_to_hold(50, received=10)) for one in calls]
    await asyncio.sleep(0)

    with pytest.raises(Overloaded, match=r"messages of 20 bytes wait .* this one has 6; retry"):
        await call(working).wait_to_hold(50, received=6)
    first.let_go(70)
    await asyncio.gather(*waiting)

    assert working.held == 100
    await call(WorkingMemory(100)).wait_to_hold(50, received=50)  # what need not wait keeps nothing


async def test_requests_that_are_not_whole_leave_room_for_those_that_are() -> None:
    """One caller's half requests held nearly all, and all other callers had to retry."""
    working = WorkingMemory(400)
    with call(working, "one").arriving() as hold, call(working, "one").arriving() as again:
        hold(60)
        again(40)
        with pytest.raises(Overloaded, match=r"not read yet take 100 bytes .* 400; they may take"):
            again(1)
        with call(working, "other").arriving() as other:
            other(50)
            with pytest.raises(Overloaded):
                other(1)
        call(working, "one").hold(200)


async def test_a_request_that_is_whole_makes_room_for_another() -> None:
    working = WorkingMemory(400)
    calls = [call(working, "one") for _ in range(4)]
    for one in calls:
        with one.arriving() as hold:
            for _ in range(10):
                hold(9)

    assert [one.held for one in calls] == [90] * 4
    with call(working, "other").arriving() as hold:
        with pytest.raises(Overloaded, match="360 bytes of max_working_bytes, 400"):
            hold(50)
        hold(40)


async def test_what_arrives_is_given_back_when_its_caller_leaves() -> None:
    working = WorkingMemory(400)
    for _ in range(9):
        leaves = call(working, "one")
        with suppress(RuntimeError), leaves.arriving() as hold:
            hold(100)
            raise RuntimeError
        leaves.let_go(leaves.held)

    assert working.held == 0


async def test_one_caller_leaves_room_for_others_small_requests() -> None:
    working = WorkingMemory(2570)
    for _ in range(256):
        call(working, "one").hold(10)

    with pytest.raises(Overloaded):
        call(working, "one").hold(1)
    call(working, "other").hold(10)


def test_half_bodies_of_one_address_leave_others_room(bundle_path: Path, tmp_path: Path) -> None:
    port = free_port()
    chosen = settings(bundle_path, data_dir=tmp_path, http_port=port, max_working_bytes=2**20)
    head = b"POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ncontent-length: 900000\r\n"
    half = head + b"content-type: application/json\r\n\r\n" + b" " * 200_000
    with serving(chosen) as target, ExitStack() as stack, Client(target) as client:
        held = set[socket.socket]()
        for _ in range(5):
            one = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
            one.sendall(half)
            held.add(one)
        while len(held) > 1:
            ready, _, _ = select.select(held, [], [], 20)
            assert {one.recv(12) for one in ready} == {b"HTTP/1.1 429"}
            held -= set(ready)

        assert len(client.embed([f"the cat {i}" for i in range(200)])) == 200
