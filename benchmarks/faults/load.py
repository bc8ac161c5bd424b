"""Load: what many callers do to one another, and what the end of a server does to them."""

import asyncio
import gc
import itertools
import random
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

import grpc
import numpy as np

from attar import AsyncClient, Client
from attar.errors import AttarError, Unavailable

from .asking import Judged, ask, channel, milliseconds, settled
from .ground import POISON, Server, Truth, harmed_bundle, served, truth, unique_texts
from .seen import Seen

_ROOM: Final = ("--max-concurrent-requests", "4096")
_SHARE: Final = 0.2  # of the callers, those who leave or hurry
_OVERLOAD: Final = 5.0
_QUEUE: Final = 64  # items
_COLLECTION: Final = "docs"
_BATCH: Final = 8  # points of an upsert


class Many(Protocol):
    """A fault done to so many requests."""

    def __call__(self, folder: Path, *, requests: int) -> Seen: ...


def poison(folder: Path, *, requests: int = 1000) -> Seen:
    """One text on which the graph fails, among as many callers at once."""
    bundle = harmed_bundle(folder / "tiny.attar", products=8)  # slow enough for full batches
    texts = unique_texts(requests - 1)
    expected = truth(bundle, texts)
    with served(folder, bundle, *_ROOM) as server:
        judged = Judged()

        async def run() -> None:
            async with channel(server) as to:
                everybody = [*texts[: requests // 2], f"cat {POISON}", *texts[requests // 2 :]]
                await asyncio.gather(*(ask(to, [text], expected, judged) for text in everybody))

        asyncio.run(run())
        runs = server.metrics()['attar_batch_items_count{model="tiny"}']
    if judged.refused["BACKEND"] != 1:
        judged.wrong.append(f"the poison was refused {judged.refused['BACKEND']} times")
    return judged.seen(
        f"{requests} at once, one of which no run survives; it alone had the error BACKEND; "
        f"{runs:.0f} runs in all"
    )


def cancelled(folder: Path, *, requests: int = 1000) -> Seen:
    """A fifth of the callers leave, queued or running."""
    bundle = harmed_bundle(folder / "tiny.attar", products=12)
    texts = unique_texts(requests)
    expected = truth(bundle, texts)
    draw = random.Random(0)
    left = 0
    with served(folder, bundle, *_ROOM) as server:
        judged = Judged()

        async def run() -> None:
            nonlocal left
            async with channel(server) as to:
                calls = [asyncio.create_task(ask(to, [text], expected, judged)) for text in texts]
                leaving = set(draw.sample(range(requests // 2), int(_SHARE * requests)))
                for number, ended in enumerate(asyncio.as_completed(calls)):
                    with suppress(asyncio.CancelledError):
                        await ended
                    waiting = [one for one in calls if not one.done()]
                    if number in leaving and waiting:
                        left += draw.choice(waiting).cancel()
                if not await settled(server):
                    judged.wrong.append("calls are in flight in the server when all have left")
                await ask(to, texts[:1], expected, judged)

        asyncio.run(run())
        noticed = server.metrics()['attar_cancelled_total{model="tiny"}']
    return judged.seen(
        f"{left} of {requests} left while the others had their answers; the server took "
        f"{noticed:.0f} of them out of its queue or runs, the rest had not come in yet"
    )


def hurried(folder: Path, *, requests: int = 1000) -> Seen:
    """A fifth of the callers give 5 ms, less than their turn takes to come."""
    bundle = harmed_bundle(folder / "tiny.attar", products=12)
    texts = unique_texts(requests)
    expected = truth(bundle, texts)
    draw = random.Random(0)
    with served(folder, bundle, *_ROOM) as server:
        judged = Judged()

        async def hurry(to: grpc.aio.Channel, text: str) -> None:
            await ask(to, [text], expected, judged, allowed=("DEADLINE_EXCEEDED",), timeout_s=0.005)

        async def run() -> None:
            async with channel(server) as to:
                await asyncio.gather(
                    *(
                        hurry(to, text)
                        if draw.random() < _SHARE
                        else ask(to, [text], expected, judged)
                        for text in texts
                    )
                )
                if not await settled(server):
                    judged.wrong.append("calls are in flight in the server when all have left")

        asyncio.run(run())
    return judged.seen(f"{judged.refused['DEADLINE_EXCEEDED']} met their deadline of 5 ms first")


def overloaded(folder: Path, *, seconds: float = 6.0) -> Seen:
    """Five times as many requests a second as the server can answer."""
    bundle = harmed_bundle(folder / "tiny.attar", products=24)
    texts = unique_texts(768)  # several times the queue, so that no two in flight are equal
    expected = truth(bundle, texts)
    draw = random.Random(0)
    limits = ("--max-items", _QUEUE, "--max-queue-items", _QUEUE, "--max-batch-tokens", 64)
    with served(folder, bundle, *limits, *_ROOM) as server:
        judged, memory = Judged(), [server.rss_mb]
        rate = asyncio.run(_saturation(server, texts))
        sent_s = 0.0

        async def run() -> None:
            nonlocal sent_s
            async with channel(server) as to, asyncio.TaskGroup() as tasks:
                sampling = asyncio.create_task(_sample(server, memory))
                begin = due = time.perf_counter()
                for text in itertools.cycle(texts):
                    due += draw.expovariate(_OVERLOAD * rate)
                    if due > begin + seconds:
                        break
                    await asyncio.sleep(max(0.0, due - time.perf_counter()))
                    tasks.create_task(
                        ask(to, [text], expected, judged, allowed=("RESOURCE_EXHAUSTED",))
                    )
                sent_s = time.perf_counter() - begin
                sampling.cancel()

        with _uncollected():
            asyncio.run(run())
        memory.append(server.rss_mb)
    refused = judged.refused["RESOURCE_EXHAUSTED"]
    if not refused:
        judged.wrong.append("nothing was refused")
    return judged.seen(
        f"{rate:.0f} requests/s is what it can answer, {judged.requests / sent_s:.0f} came for "
        f"{sent_s:.0f} s; {refused} were refused with RESOURCE_EXHAUSTED and RetryInfo; of those "
        f"accepted p50 {milliseconds(judged.took, 50)}, p99 {milliseconds(judged.took, 99)}, with "
        f"room for {_QUEUE} in the queue; memory {memory[0]:.0f} MB before, at most "
        f"{max(memory):.0f} MB, {memory[-1]:.0f} MB at the end"
    )


def paused(folder: Path, *, requests: int = 3000) -> Seen:
    """The process stands still for two seconds, as a virtual machine may, while callers come."""
    bundle = harmed_bundle(folder / "tiny.attar")
    texts = unique_texts(requests)
    expected = truth(bundle, texts)
    judged = Judged()
    with served(folder, bundle) as server:
        memory = server.rss_mb

        async def run() -> None:
            async with channel(server) as to, asyncio.TaskGroup() as tasks:
                await ask(to, texts[:1], expected, judged)  # the connection is there
                server.process.send_signal(signal.SIGSTOP)
                for text in texts:
                    tasks.create_task(
                        ask(to, [text], expected, judged, allowed=("RESOURCE_EXHAUSTED",))
                    )
                await asyncio.sleep(2.0)
                server.process.send_signal(signal.SIGCONT)

        asyncio.run(run())
        after = server.rss_mb
    return judged.seen(
        f"{requests} calls came in 2 s of SIGSTOP; {judged.refused['RESOURCE_EXHAUSTED']} were "
        f"refused with RESOURCE_EXHAUSTED and RetryInfo, at more than 512 at once; memory "
        f"{memory:.0f} MB before, {after:.0f} MB after"
    )


async def _sample(server: Server, memory: list[float]) -> None:
    while True:
        await asyncio.sleep(1.0)
        memory.append(await asyncio.to_thread(lambda: server.rss_mb))


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the callers' garbage collector from taking the time of a server on the same cores."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def _saturation(server: Server, texts: list[str]) -> float:
    """Measure how many requests a second are answered when 32 callers always wait."""
    judged = Judged()
    ends = time.perf_counter() + 2.0
    coming = itertools.cycle(texts)

    async def caller(client: AsyncClient) -> None:
        while time.perf_counter() < ends:
            await client.embed([next(coming)])
            judged.answered += 1

    start = time.perf_counter()
    async with AsyncClient(server.target) as client:
        await asyncio.gather(*(caller(client) for _ in range(32)))
    return judged.answered / (time.perf_counter() - start)


def terminated(folder: Path, *, callers: int = 32) -> Seen:
    """SIGTERM while callers embed and write as fast as they can."""
    bundle = harmed_bundle(folder / "tiny.attar", products=8)
    texts = unique_texts(512)
    expected = truth(bundle, texts)
    judged, written = Judged(), list[int]()
    with served(folder, bundle) as server:

        async def run() -> tuple[int, float]:
            coming, batches = itertools.cycle(texts), itertools.count()
            async with (
                channel(server) as to,
                AsyncClient(server.target) as client,
                asyncio.TaskGroup() as tasks,
            ):
                await client.create_collection(_COLLECTION)
                for _ in range(callers):
                    tasks.create_task(_keep_asking(to, coming, expected, judged))
                for _ in range(callers // 8):
                    tasks.create_task(_keep_writing(client, batches, texts, judged, written))
                await asyncio.sleep(1.5)
                start = time.perf_counter()
                server.process.send_signal(signal.SIGTERM)
                return await asyncio.to_thread(server.ended), time.perf_counter() - start

        ended, took = asyncio.run(run())
    if ended != 0:
        judged.wrong.append(f"the exit code is {ended}")
    with served(folder, bundle) as server, Client(server.target) as client:
        for some in np.array_split(written, max(1, len(written) // 1024)):
            there = {point.id for point in client.retrieve(_COLLECTION, [int(i) for i in some])}
            gone = [int(i) for i in some if i not in there]
            judged.lost += [f"point {i} was acknowledged and is gone" for i in gone]
    return judged.seen(
        f"exit code {ended} after {took:.1f} s; {judged.refused['UNAVAILABLE']} calls were refused "
        f"with UNAVAILABLE, {judged.refused['no server']} found no server any more; all "
        f"{len(written)} points that were acknowledged were looked for after a restart"
    )


async def _keep_asking(
    to: grpc.aio.Channel, coming: Iterator[str], truth_: Truth, judged: Judged
) -> None:
    """Ask until the server refuses, or is no more."""
    while await ask(to, [next(coming)], truth_, judged, allowed=("UNAVAILABLE",)):
        pass


async def _keep_writing(
    client: AsyncClient,
    batches: Iterator[int],
    texts: Sequence[str],
    judged: Judged,
    written: list[int],
) -> None:
    """Write points until the server refuses, or is no more; keep the ids that it acknowledged."""
    while True:
        batch = next(batches)
        points = range(batch * _BATCH, (batch + 1) * _BATCH)
        judged.requests += 1
        try:
            await client.upsert(_COLLECTION, points, [texts[i % len(texts)] for i in points])
        except Unavailable:
            judged.refused["UNAVAILABLE"] += 1
            return
        except AttarError as error:
            judged.wrong.append(repr(error))
            return
        written.extend(points)
        judged.answered += 1
