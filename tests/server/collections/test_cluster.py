"""A Qdrant cluster by URL: how it is reached, and what in it is not attar's."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.grpc import ListCollectionsResponse

from attar.errors import AlreadyExists, InvalidInput, NotFound, Overloaded, Replaced, Unavailable
from attar.server.collections.factory import open_store
from attar.server.collections.filters import EVERYTHING
from attar.server.collections.qdrant import QdrantStore
from attar.server.collections.store import Description, Search
from benchmarks.support.servers import free_port, settings


@asynccontextmanager
async def cluster(
    seen: dict[str, str], code: grpc.StatusCode = grpc.StatusCode.OK
) -> AsyncIterator[int]:
    """Answer the one call that a connection begins with; gives the port."""

    async def collections(_request: bytes, context: grpc.aio.ServicerContext) -> bytes:  # type: ignore[type-arg]
        seen.update({key: str(value) for key, value in context.invocation_metadata() or ()})
        if code is not grpc.StatusCode.OK:
            await context.abort(code, "no reason")
        answer: bytes = ListCollectionsResponse().SerializeToString()
        return answer

    server = grpc.aio.server()
    method: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(collections)
    handler = grpc.method_handlers_generic_handler("qdrant.Collections", {"List": method})
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


async def test_the_key_of_a_file_goes_along_with_every_call(tmp_path: Path) -> None:
    seen: dict[str, str] = {}
    (tmp_path / "key").write_text("of the cluster\n", "utf-8")
    async with cluster(seen) as port:
        chosen = settings(
            tmp_path / "student.attar",
            data_dir=tmp_path / "data",
            qdrant_url="http://127.0.0.1:1",
            qdrant_grpc_port=port,
            qdrant_api_key_file=tmp_path / "key",
        )
        store = await open_store(chosen)
        assert await store.names() == []
        await store.close()
    assert seen["api-key"] == "of the cluster"
    assert not (tmp_path / "data").exists()


async def test_a_file_without_a_key_is_named(tmp_path: Path) -> None:
    chosen = settings(
        tmp_path / "student.attar",
        data_dir=tmp_path,
        qdrant_url="http://127.0.0.1:1",
        qdrant_api_key_file=tmp_path / "none",
    )
    with pytest.raises(InvalidInput, match=r"qdrant_api_key_file .*none cannot be read"):
        await open_store(chosen)


async def test_a_cluster_that_is_absent_or_refuses_is_reported_so() -> None:
    with pytest.raises(Unavailable, match="the Qdrant cluster answered UNAVAILABLE"):
        await QdrantStore.connect("http://127.0.0.1:1", grpc_port=free_port())
    for code, error in (
        (grpc.StatusCode.UNAUTHENTICATED, Unavailable),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Overloaded),
    ):
        async with cluster({}, code) as port:
            with pytest.raises(error, match=f"answered {code.name}: no reason"):
                await QdrantStore.connect("http://127.0.0.1:1", grpc_port=port, api_key="no")


async def test_what_is_not_attars_is_left_alone() -> None:
    client = AsyncQdrantClient(":memory:")
    vectors = models.VectorParams(size=4, distance=models.Distance.DOT)
    await client.create_collection("theirs", vectors_config=vectors)
    store = QdrantStore(client)
    theirs = Description("theirs", "tiny", "sha256:space", 4)

    assert await store.names() == []
    for asked in (
        store.describe("theirs"),
        store.upsert(theirs, [1], np.ones((1, 4), np.float32), [{}]),
        store.delete_matching(theirs, EVERYTHING),
        store.delete("theirs"),
    ):
        with pytest.raises(NotFound, match="no collection 'theirs' of attar's"):
            await asked
    with pytest.raises(AlreadyExists):
        await store.create(theirs)
    assert await client.collection_exists("theirs")
    await store.close()


# qdrant-client's engine warns that it has no index, so that every search is exact.
@pytest.mark.filterwarnings("ignore:(Local mode|Payload indexes)")
async def test_a_collection_older_than_creations_is_distinguished_from_its_successor() -> None:
    client = AsyncQdrantClient(":memory:")
    facts = {"schema_version": 1, "model": "tiny", "fingerprint": "sha256:space", "dims": 4}
    await client.create_collection(
        "older",
        vectors_config=models.VectorParams(size=4, distance=models.Distance.COSINE),
        metadata={"attar": {**facts, "quantization": "none"}},
    )
    store = QdrantStore(client)
    older = await store.describe("older")
    row = np.ones((1, 4), np.float32)
    await store.upsert(older, [1, 2], np.repeat(row, 2, axis=0), [{}, {}])
    await store.delete_points(older, [2])
    (hits,) = await store.search(older, row, Search(limit=5))
    assert (older.creation, [hit.id for hit in hits]) == ("", [1])

    await store.delete("older")
    newer = Description("older", "tiny", "sha256:space", 4)
    await store.create(newer)
    await store.upsert(newer, [1], row, [{}])
    for late in (store.upsert(older, [2], row, [{}]), store.delete_points(older, [1])):
        with pytest.raises(Replaced):
            await late
    assert (await store.size(newer)).points == 1
    await store.close()
