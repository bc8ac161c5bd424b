"""What requests are made into has a bound for all of them together."""

import asyncio

import pytest

from attar.errors import InvalidInput, Overloaded
from attar.server.call import Call
from attar.server.working import Working


def call(working: Working, caller: str = "") -> Call:
    return Call(rpc="a/B", request_id="r", working=working, caller=caller)


async def test_calls_hold_so_much_together_and_no_more() -> None:
    working = Working(100)
    one, other = call(working, "one"), call(working, "other")
    one.hold(60)
    other.hold(40)

    with pytest.raises(Overloaded, match=r"100 bytes of max_working_bytes, 100, and .* 1; retry"):
        other.hold(1)
    one.let_go(one.held)
    other.hold(60)

    assert (working.held, one.held, other.held) == (100, 0, 100)


async def test_what_never_fits_is_refused_for_good() -> None:
    alone = call(Working(100))
    alone.hold(100)
    alone.let_go(100)

    with pytest.raises(InvalidInput, match=r"101 bytes .* more than max_working_bytes, 100"):
        alone.hold(101)
    with pytest.raises(InvalidInput, match=r"101 bytes .* more than max_working_bytes, 100"):
        await alone.wait_to_hold(101, kept=1)


async def test_what_a_call_holds_already_counts_for_what_never_fits() -> None:
    alone = call(Working(100))
    alone.hold(60)

    with pytest.raises(InvalidInput, match="101 bytes"):
        alone.hold(41)
    alone.hold(40)


async def test_who_waits_goes_on_when_there_is_room() -> None:
    working = Working(100)
    first, second = call(working, "first"), call(working, "second")
    first.hold(70)
    waiting = asyncio.create_task(second.wait_to_hold(50, kept=25))
    await asyncio.sleep(0)
    assert not waiting.done()

    first.let_go(20)
    await waiting

    assert working.held == 100


async def test_only_so_much_waits() -> None:
    working = Working(100)
    first = call(working)
    first.hold(70)
    calls = [call(working) for _ in range(2)]
    waiting = [asyncio.create_task(one.wait_to_hold(50, kept=10)) for one in calls]
    await asyncio.sleep(0)

    with pytest.raises(Overloaded, match=r"messages of 20 bytes wait .* this one has 6; retry"):
        await call(working).wait_to_hold(50, kept=6)
    first.let_go(70)
    await asyncio.gather(*waiting)

    assert working.held == 100
    await call(Working(100)).wait_to_hold(50, kept=50)  # what need not wait keeps nothing


async def test_one_caller_leaves_room_for_others_small_requests() -> None:
    working = Working(2570)
    for _ in range(256):
        call(working, "one").hold(10)

    with pytest.raises(Overloaded):
        call(working, "one").hold(1)
    call(working, "other").hold(10)
