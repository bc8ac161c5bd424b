"""A stream's requests are worked on a few at a time, and answered in their order."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from attar import AsyncClient
from attar.server.limits.fair_shares import room
from attar.server.rpc.stream import in_order
from benchmarks.support.servers import serving, settings

IDLE: Final = 60
HANGS_S: Final = 25  # sooner than an idle caller's message is given up


@pytest.mark.parametrize("limit", [1, 3])
async def test_a_stream_works_on_so_many_requests_at_a_time(limit: int) -> None:
    working = most = 0

    async def requests() -> AsyncIterator[int]:
        for number in range(10):
            yield number

    async def answer(number: int) -> int:
        nonlocal working, most
        await room().take(0)  # of its bytes, before it is made
        working += 1
        most = max(most, working)
        for _ in range(10 - number):  # later ones are ready sooner
            await asyncio.sleep(0)
        working -= 1
        return number

    answers = in_order(requests(), answer, at_once=limit, draining=asyncio.Event())

    assert [one async for one in answers] == list(range(10))
    assert most == limit


async def test_a_caller_who_leaves_while_an_answer_is_made_ends_the_stream_quietly() -> None:
    left = asyncio.Event()

    async def requests() -> AsyncIterator[int]:
        yield 0
        yield 1

    async def answer(number: int) -> int:
        if number:
            await left.wait()
        return number

    answers = in_order(requests(), answer, at_once=2, draining=asyncio.Event())

    assert await anext(answers) == 0
    await answers.aclose()  # raises what is not the end


async def test_streams_on_which_nothing_comes_hold_up_no_other_of_the_same_connection(
    bundle_path: Path, tmp_path: Path
) -> None:
    async def nothing() -> AsyncIterator[list[str]]:
        await asyncio.Event().wait()
        yield []

    async def wait(client: AsyncClient) -> None:
        async for _ in client.embed_stream(nothing()):
            pass

    with serving(settings(bundle_path, data_dir=tmp_path)) as target:
        async with AsyncClient(target) as client, asyncio.timeout(HANGS_S):
            idle = [asyncio.create_task(wait(client)) for _ in range(IDLE)]
            embedded = [batch async for batch in client.embed_stream([["the cat"], ["the sun"]])]
            assert [len(batch) for batch in embedded] == [1, 1]
            assert not any(task.done() for task in idle)
            for task in idle:
                task.cancel()
            await asyncio.gather(*idle, return_exceptions=True)
