"""What requests are made into has a bound for all of them together."""

import asyncio

import pytest

from attar.errors import InvalidInput, Overloaded
from attar.server.call import Call
from attar.server.working import Working


def call(working: Working) -> Call:
    return Call(rpc="a/B", request_id="r", working=working)


async def test_calls_hold_so_much_together_and_no_more() -> None:
    working = Working(100)
    one, other = call(working), call(working)
    await one.hold(60)
    await other.hold(40)

    with pytest.raises(Overloaded, match=r"100 bytes of max_working_bytes, 100, and .* 1; retry"):
        await other.hold(1)
    one.let_go(one.held)
    await other.hold(60)

    assert (working.held, one.held, other.held) == (100, 0, 100)


async def test_what_never_fits_is_refused_for_good() -> None:
    alone = call(Working(100))
    await alone.hold(100)
    alone.let_go(100)

    for wait in (False, True):
        with pytest.raises(InvalidInput, match=r"101 bytes .* more than max_working_bytes, 100"):
            await alone.hold(101, wait=wait)


async def test_who_waits_goes_on_when_there_is_room() -> None:
    working = Working(100)
    first, second = call(working), call(working)
    await first.hold(70)
    waiting = asyncio.create_task(second.hold(50, wait=True))
    await asyncio.sleep(0)
    assert not waiting.done()

    first.let_go(20)
    await waiting

    assert working.held == 100
