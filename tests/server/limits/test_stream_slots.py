"""Places: a caller who has fewer streams than another is let in, at the cost of the silent ones."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.errors import Overloaded
from attar.server.limits import stream_slots
from attar.server.limits.stream_slots import StreamSlots

ONE_ADDRESS = "ipv4:127.0.0.1:"


class Streams:
    """Streams that hold places, each in a task of its own."""

    def __init__(self, limit: int) -> None:
        self.slots = StreamSlots("max_streams", limit, what="streams open")
        self.reported: dict[int, str] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._callers: list[str] = []

    async def open(self, caller: str, *, says: float = 0.0) -> int:
        """Open one that says something every so many seconds; gives its number."""
        number = len(self._tasks)
        self._callers.append(caller)
        self._tasks.append(asyncio.create_task(self._hold(number, caller, says)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return number

    def held(self) -> Counter[str]:
        """How many each caller has."""
        left = (caller for i, caller in enumerate(self._callers) if i not in self.reported)
        return Counter(left)

    async def _hold(self, number: int, caller: str, says: float) -> None:
        try:
            with self.slots.held(caller) as heard:
                while True:
                    await asyncio.sleep(says or 60)
                    heard()
        except Overloaded as refusal:
            self.reported[number] = str(refusal)

    async def close(self) -> None:
        """End all."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        assert self.slots.total == 0


@asynccontextmanager
async def streams(limit: int) -> AsyncIterator[Streams]:
    one = Streams(limit)
    try:
        yield one
    finally:
        await one.close()


@given(limit=st.integers(1, 20), callers=st.lists(st.integers(0, 5), max_size=60))
def test_a_caller_with_none_is_refused_only_where_no_other_has_two(
    limit: int, callers: list[int]
) -> None:
    async def run() -> None:
        async with streams(limit) as open_now:
            for caller in callers:
                await open_now.open(f"{ONE_ADDRESS}{caller}")
            before = open_now.held()
            number = await open_now.open(f"{ONE_ADDRESS}9")

            if number in open_now.reported:
                assert max(before.values()) == 1
            assert open_now.slots.total == open_now.held().total() <= limit

    asyncio.run(run())


async def test_the_stream_that_was_silent_for_longest_makes_room_and_gets_the_reason() -> None:
    async with streams(4) as open_now:
        loud = await open_now.open("a", says=0.001)
        silent = await open_now.open("a")
        await open_now.open("b")
        await open_now.open("c")
        await asyncio.sleep(0.01)
        new = await open_now.open("d")

        assert list(open_now.reported) == [silent]
        assert "made room for another caller" in open_now.reported[silent]
        assert {loud, new}.isdisjoint(open_now.reported)


async def test_where_all_have_one_a_silent_one_makes_room_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with streams(2) as open_now:
        first = await open_now.open("a")
        await open_now.open("b")
        refused = await open_now.open("c")
        assert list(open_now.reported) == [refused]

        monkeypatch.setattr(stream_slots, "SILENT_S", 0.0)
        await open_now.open("c")
        assert list(open_now.reported) == [refused, first]


async def test_another_address_finds_room_whatever_one_holds() -> None:
    async with streams(90) as open_now:
        for connection in range(100):
            await open_now.open(f"{ONE_ADDRESS}{connection}")
        assert open_now.slots.total == 80

        number = await open_now.open("ipv6:%5B2001:db8::1%5D:7")
        assert number not in open_now.reported
        assert open_now.slots.total == 81
