"""Messages come in turns: one caller has a share, and slow ones make room for others."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from attar.errors import Overloaded
from attar.server.limits.receive_slots import FAIR_HOLD_S, MAX_WAITING, ReceiveSlots
from benchmarks.support.bundles import tiny_bundle
from benchmarks.support.servers import serving, settings

LIMIT = 4
SLOW_S = 4 * FAIR_HOLD_S


def receiving(*, wait_s: float = 60.0) -> ReceiveSlots:
    return ReceiveSlots(LIMIT, max_hold_s=60.0, wait_s=wait_s)


class Slow:
    """Messages that are coming, and do not end."""

    def __init__(self, turns: ReceiveSlots) -> None:
        self.came: list[str] = []
        self._turns = turns
        self._tasks: list[asyncio.Task[None]] = []

    async def begin(self, caller: str) -> asyncio.Task[None]:
        """Begin a message, and wait until it has come to its turn, or to wait."""
        task = asyncio.create_task(self._come(caller))
        self._tasks.append(task)
        await asyncio.sleep(0)
        return task

    async def end(self) -> None:
        """Drop them all."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _come(self, caller: str) -> None:
        async with self._turns.slot(caller):
            self.came.append(caller)
            await asyncio.Event().wait()


@asynccontextmanager
async def slow(turns: ReceiveSlots) -> AsyncIterator[Slow]:
    """Hold turns for as long as the block runs."""
    messages = Slow(turns)
    try:
        yield messages
    finally:
        await messages.end()


async def test_one_caller_has_half_of_the_turns_and_another_is_received_at_once() -> None:
    turns = receiving()
    async with slow(turns) as messages:
        for _ in range(10):
            await messages.begin("a")
        await messages.begin("b")

        assert messages.came == ["a"] * (LIMIT // 2) + ["b"]


async def test_the_messages_of_one_caller_come_in_the_order_of_its_calls() -> None:
    turns, order = receiving(), list[int]()

    async def come(number: int) -> None:
        async with turns.slot("a"):
            await asyncio.sleep(0)
            order.append(number)

    await asyncio.gather(*(come(number) for number in range(500)))

    assert order == list(range(500))


async def test_a_caller_that_has_none_ends_the_oldest_message_of_who_has_most() -> None:
    turns = receiving()
    async with slow(turns) as messages:
        oldest = await messages.begin("a")
        second = await messages.begin("a")
        others = [await messages.begin(caller) for caller in "bc"]
        honest = await messages.begin("d")
        with pytest.raises(Overloaded, match="too long in coming while others waited"):
            await asyncio.wait_for(oldest, SLOW_S)

        assert messages.came[-1] == "d"
        assert not any(task.done() for task in (second, *others, honest))


async def test_a_message_whose_turn_does_not_come_is_refused() -> None:
    turns = receiving(wait_s=0.05)
    async with slow(turns) as messages:
        for _ in range(LIMIT // 2):
            await messages.begin("a")
        with pytest.raises(Overloaded, match="no time for this one; retry later"):
            await (await messages.begin("a"))


async def test_so_many_messages_of_one_caller_wait_and_no_more() -> None:
    turns = receiving()
    async with slow(turns) as messages:
        for _ in range(LIMIT // 2 + MAX_WAITING // 2):
            await messages.begin("a")
        with pytest.raises(Overloaded, match="too many messages wait"):
            await (await messages.begin("a"))
        await messages.begin("b")

        assert messages.came[-1] == "b"


async def test_who_leaves_while_it_waits_or_comes_leaves_nothing_behind() -> None:
    turns = receiving()
    async with slow(turns) as messages:
        for _ in range(20):
            await messages.begin("a")
    async with slow(turns) as messages:
        for caller in "abcd":
            await messages.begin(caller)

        assert messages.came == list("abcd")


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve a tiny bundle."""
    folder: Path = tmp_path_factory.mktemp("receiving")
    with serving(settings(tiny_bundle(folder / "tiny.attar"), data_dir=folder / "data")) as port:
        yield port


@pytest.mark.parametrize(
    "method",
    [
        "/attar.v1.Embedding/Embed",
        "/attar.v1.Info/GetInfo",
        "/inference.GRPCInferenceService/ServerLive",
        "/inference.GRPCInferenceService/ModelInfer",
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
    ],
)
async def test_a_call_without_a_message_is_refused(target: str, method: str) -> None:
    async with grpc.aio.insecure_channel(target) as channel:
        ask: Any = channel.stream_stream(method)
        call = ask(iter(()), timeout=20)

        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "the call has no message" in (await call.details() or "")


async def test_what_is_no_message_of_health_is_refused(target: str) -> None:
    async with grpc.aio.insecure_channel(target) as channel:
        ask: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await ask(b"\xff", timeout=20)

    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
