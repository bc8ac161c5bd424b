"""The hop: small jobs leave the loop together, and each has its own end."""

import asyncio
import threading
from functools import partial

import pytest

from attar.errors import Unavailable
from attar.server.engine.small_jobs import CoalescingExecutor


async def test_jobs_that_come_during_one_hop_share_the_next() -> None:
    hop, ran = CoalescingExecutor(), []
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
    hop = CoalescingExecutor()

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


async def test_a_large_job_has_a_thread_to_itself_and_raises_what_it_raises() -> None:
    hop = CoalescingExecutor()
    started, let_go = threading.Event(), threading.Event()

    def large() -> int:
        started.set()
        let_go.wait(10)
        return threading.get_ident()

    def bad() -> None:
        raise ValueError("mine")

    holding = asyncio.create_task(hop.alone(large))
    await asyncio.to_thread(started.wait, 10)
    small = await hop(threading.get_ident)
    let_go.set()
    assert await holding != small
    with pytest.raises(ValueError, match="mine"):
        await hop.alone(bad)
    hop.close()


@pytest.mark.parametrize("how", ["small", "large", "left"])
async def test_a_job_that_does_not_end_is_given_up_and_then_none_is_begun(how: str) -> None:
    hop, let_go = CoalescingExecutor("a step", timeout_s=0.05), threading.Event()
    if how == "left":  # its caller leaves, and it counts all the same
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(hop.alone(let_go.wait), 0.01)
        await asyncio.sleep(0.2)
    else:
        for _ in range(2):
            with pytest.raises(Unavailable, match=r"a step: no result in 0.05 s; retry"):
                await (hop(let_go.wait) if how == "small" else hop.alone(let_go.wait))
    for run in (hop, hop.alone):
        with pytest.raises(Unavailable, match="a step: 2 of its jobs do not end; retry"):
            await run(threading.get_ident)
    let_go.set()
    ends = asyncio.get_running_loop().time() + 10
    while True:  # until its threads have ended
        try:
            assert await hop(lambda: 7) == 7
        except Unavailable:
            assert asyncio.get_running_loop().time() < ends
            await asyncio.sleep(0.01)
        else:
            break
    hop.close()
