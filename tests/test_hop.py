"""The hop: small jobs leave the loop together, and each has its own end."""

import asyncio
import threading
from functools import partial

import pytest

from attar.server.engine.hop import Hop


async def test_jobs_that_come_during_one_hop_share_the_next() -> None:
    hop, ran = Hop(), []
    started, let_go = threading.Event(), threading.Event()

    def first() -> None:
        started.set()
        let_go.wait(10)

    def job(number: int) -> int:
        ran.append((number, threading.get_ident()))
        return -number

    holding = asyncio.create_task(hop(first))
    await asyncio.to_thread(started.wait, 10)
    others = [asyncio.create_task(hop(partial(job, n))) for n in range(5)]
    await asyncio.sleep(0.01)
    assert not ran
    let_go.set()
    assert await asyncio.gather(holding, *others) == [None, 0, -1, -2, -3, -4]
    assert [number for number, _ in ran] == [0, 1, 2, 3, 4]
    assert len({thread for _, thread in ran}) == 1
    assert ran[0][1] != threading.get_ident()
    assert await hop(lambda: 7) == 7


async def test_a_job_s_error_is_its_own_and_a_leaver_disturbs_nobody() -> None:
    hop = Hop()

    def bad() -> None:
        raise ValueError("mine")

    first, second, third = (asyncio.create_task(hop(job)) for job in (lambda: 1, bad, lambda: 3))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(ValueError, match="mine"):
        await second
    assert await third == 3
    with pytest.raises(asyncio.CancelledError):
        await first
