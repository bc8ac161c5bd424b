"""A caller who reads responses slowly is served; one who reads none is refused, or ended."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from attar import Client
from attar.server.limits import fair_shares
from attar.v1 import embedding_pb2, embedding_pb2_grpc, item_pb2
from benchmarks.attacks.h2 import DATA, RST_STREAM, WINDOW_UPDATE, Connection, frame
from benchmarks.attacks.held import EMBED, embed_request, until
from benchmarks.faults.ground import harmed_bundle, unique_texts
from benchmarks.support.bundles import tiny_bundle
from benchmarks.support.servers import free_port, serving, settings

DIM = 64
TEXTS = ["a"] * 1024  # equal, so they are computed once
SIZE = DIM * 4 * len(TEXTS)
READ_S = 1.5


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Serve embeddings with little time, few streams and room for some answers."""
    folder = tmp_path_factory.mktemp("taking")
    chosen = settings(
        tiny_bundle(folder / "tiny.attar", dim=DIM),
        data_dir=folder / "data",
        grpc_read_timeout_s=READ_S,
        stream_idle_timeout_s=READ_S,
        max_streams=6,
        max_untaken_bytes=4 * SIZE,
    )
    with serving(chosen) as target:
        yield int(target.rpartition(":")[2])


def test_an_answer_that_is_taken_piece_by_piece_comes_whole(port: int) -> None:
    step = 2**14
    with Connection(port, window=step) as connection:
        connection.send(connection.open(EMBED) + connection.data(embed_request(TEXTS)))
        taken = 0
        end = time.monotonic() + 20
        while taken < SIZE and time.monotonic() < end:
            time.sleep(0.02)
            came = connection.bytes[DATA]
            if came > taken:
                update = (came - taken).to_bytes(4, "big")
                connection.send(frame(WINDOW_UPDATE, 0, 0, update))
                connection.send(frame(WINDOW_UPDATE, 0, 1, update))
                taken = came

        assert taken >= SIZE, connection.heads


def test_an_answer_that_nobody_takes_ends_its_call_and_not_the_connection(port: int) -> None:
    with Connection(port, window=0) as connection:
        for _ in range(2):  # gRPC lets go of a call only when the next one has come
            connection.send(connection.open(EMBED) + connection.data(embed_request(["a"])))

        assert until(lambda: connection.seen[RST_STREAM] > 0)
        assert any(b"CANCELLED" in head for head in connection.heads)
        assert not connection.closed


def test_a_caller_gets_several_answers_at_once_where_one_takes_all_the_room(tmp_path: Path) -> None:
    web, calls = free_port(), 4
    chosen = settings(
        tiny_bundle(tmp_path / "tiny.attar", dim=DIM),
        data_dir=tmp_path / "data",
        http_port=web,
        max_untaken_bytes=7 * SIZE,  # of one, written as JSON, 6 are estimated
    )

    def by_http() -> int:
        body = {"model": "tiny", "input": TEXTS}
        answer = httpx.post(f"http://127.0.0.1:{web}/v1/embeddings", json=body, timeout=30)
        return len(answer.json()["data"]) if answer.status_code == 200 else -answer.status_code

    with serving(chosen) as target, Client(target) as client, ThreadPoolExecutor(2 * calls) as pool:
        asked = [pool.submit(by_http) for _ in range(calls)]
        embedded = [pool.submit(client.embed, TEXTS, deadline_s=30) for _ in range(calls)]

        assert [one.result() for one in asked] == [len(TEXTS)] * calls
        assert [len(one.result()) for one in embedded] == [len(TEXTS)] * calls


async def test_answers_are_refused_to_whom_takes_none(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fair_shares, "_TURN_S", 0.5)  # less than those before have to be taken
    with Connection(port, window=0) as stalled:
        for _ in range(4):
            stalled.send(stalled.open(EMBED) + stalled.data(embed_request(TEXTS)))
        assert until(lambda: len(stalled.heads) == 4)  # two begin to be answered, two are refused
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub: Any = embedding_pb2_grpc.EmbeddingStub(channel)
            others = await stub.Embed(request(TEXTS))
        refused = sum(b"max_untaken_bytes" in head for head in stalled.heads)

    assert len(others.items) == len(TEXTS)
    assert refused == 2


async def test_a_silent_stream_ends_with_the_reason(port: int) -> None:
    async def nothing() -> AsyncIterator[embedding_pb2.EmbedRequest]:
        yield request(["a"])
        await asyncio.sleep(60)

    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = embedding_pb2_grpc.EmbeddingStub(channel)
        stream = stub.EmbedStream(nothing())
        first = await stream.read()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stream.read()

    assert len(first.items) == 1
    assert refused.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "stream_idle_timeout_s, 1.5 s" in str(refused.value.details())


async def test_a_stream_whose_request_is_worked_on_is_not_idle(tmp_path: Path) -> None:
    bundle = harmed_bundle(tmp_path / "dear.attar", products=4)
    idle_s = 0.2  # a fraction of what the texts take

    async def dear() -> AsyncIterator[embedding_pb2.EmbedRequest]:
        yield request(unique_texts(1500))
        yield request(unique_texts(1500, first=1500))
        await asyncio.sleep(60)

    with serving(settings(bundle, data_dir=tmp_path, stream_idle_timeout_s=idle_s)) as target:
        async with grpc.aio.insecure_channel(target) as channel:
            stub: Any = embedding_pb2_grpc.EmbeddingStub(channel)
            stream = stub.EmbedStream(dear())
            answers = [await stream.read(), await stream.read()]

    assert [len(answer.items) for answer in answers] == [1500, 1500]


async def test_a_connection_has_a_share_of_the_streams_and_leaves_another_some(port: int) -> None:
    async def nothing() -> AsyncIterator[embedding_pb2.EmbedRequest]:
        await asyncio.sleep(60)
        yield request(["a"])

    target = f"127.0.0.1:{port}"
    own = (("grpc.use_local_subchannel_pool", 1),)
    async with (
        grpc.aio.insecure_channel(target, options=own) as greedy,
        grpc.aio.insecure_channel(target, options=own) as other,
    ):
        stub: Any = embedding_pb2_grpc.EmbeddingStub(greedy)
        codes = await asyncio.gather(*(code(stub.EmbedStream(nothing())) for _ in range(5)))
        honest: Any = embedding_pb2_grpc.EmbeddingStub(other)
        asked = [answer async for answer in honest.EmbedStream(iter([request(["a"])]))]

    assert codes.count(grpc.StatusCode.RESOURCE_EXHAUSTED) == 2
    assert len(asked) == 1


async def test_those_who_watch_health_have_shares_too(port: int) -> None:
    ask = health_pb2.HealthCheckRequest(service="")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watching = [stub.Watch(ask) for _ in range(5)]
        codes = await asyncio.gather(*map(code, watching))
        alive = await stub.Check(ask)
        for watch in watching:
            watch.cancel()

    assert codes.count(grpc.StatusCode.RESOURCE_EXHAUSTED) == 2
    assert alive.status == health_pb2.HealthCheckResponse.SERVING


def request(texts: list[str]) -> embedding_pb2.EmbedRequest:
    return embedding_pb2.EmbedRequest(texts=item_pb2.Texts(values=texts))


async def code(stream: Any) -> grpc.StatusCode | None:
    """How a stream has ended, if it did at once."""
    try:
        ended: grpc.StatusCode = await asyncio.wait_for(stream.code(), 0.3)
    except TimeoutError:
        return None
    return ended
