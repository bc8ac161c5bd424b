"""The text index on the disk: what happens to a collection keeps the words of its points."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from numpy.typing import NDArray
from qdrant_client import AsyncQdrantClient

from attar.errors import InvalidInput, NotFound, NotSupported
from attar.server.collections import text_index
from attar.server.collections.checksums import of_facts
from attar.server.collections.edge_process import StoreProcess
from attar.server.collections.qdrant import QdrantStore
from attar.server.collections.store import Description, Payload, Search
from attar.values import TextIndex

DIMS = 8
WORDS = Description("words", "tiny", "sha256:space", DIMS, text_index=TextIndex(language="none"))
PLAIN = Description("plain", "tiny", "sha256:space", DIMS)
TEXTS = [f"shared word{i} {'long ' * i}" for i in range(12)]
QUERY = ["shared word3", "long", "nothing"]


@asynccontextmanager
async def opened(root: Path) -> AsyncIterator[StoreProcess]:
    store = await asyncio.to_thread(StoreProcess, root)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def filled(root: Path) -> AsyncIterator[StoreProcess]:
    async with opened(root) as store:
        await store.create(WORDS)
        await write(store, WORDS, list(range(len(TEXTS))), TEXTS)
        yield store


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[StoreProcess]:
    async with filled(tmp_path / "collections") as store:
        yield store


def rows(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(count, DIMS)).astype(np.float32)


async def write(store: StoreProcess, of: Description, ids: list[int], texts: list[str]) -> None:
    payloads: list[Payload] = [{"text": text} for text in texts]
    await store.upsert(of, [*ids], rows(len(ids)), payloads)


async def found(
    store: StoreProcess, of: Description = WORDS
) -> list[list[tuple[object, float, object]]]:
    results = await store.keyword_search(of, QUERY, Search(limit=20))
    return [[(hit.id, round(hit.score, 5), hit.payload) for hit in hits] for hits in results]


async def test_a_restart_an_index_and_a_snapshot_keep_what_the_words_find(tmp_path: Path) -> None:
    root = tmp_path / "collections"
    async with filled(root) as store:
        await store.delete_points(WORDS, [5])
        before = await found(store)
        assert before[0][0][0] == 3
        assert len(before[0]) == len(TEXTS) - 1
        assert before[2] == []
        snapshot = await store.snapshot(WORDS)
        optimizing = asyncio.create_task(store.optimize(WORDS))
        await asyncio.sleep(0)
        await write(store, WORDS, [50], ["while it is built"])
        await store.delete_points(WORDS, [50])
        await optimizing
        assert await found(store) == before
    async with opened(root) as store:
        assert await store.describe("words") == WORDS
        assert await found(store) == before
        await store.delete("words")
        copy, _ = await store.restore("words", snapshot.id, to="copy", replace=False)
        assert copy.text_index == WORDS.text_index
        assert await found(store, copy) == before


async def test_a_collection_without_a_text_index_is_as_it_was_before_there_were_any(
    store: StoreProcess, tmp_path: Path
) -> None:
    await store.create(PLAIN)
    await store.upsert(PLAIN, [1], rows(1), [{}])
    with pytest.raises(InvalidInput, match="plain has no text index"):
        await store.keyword_search(PLAIN, ["a"], Search(limit=1))
    (hits,) = await store.search(PLAIN, rows(1), Search(limit=5))
    assert [hit.id for hit in hits] == [1]
    facts = json.loads((tmp_path / "collections" / "plain" / "collection.json").read_text())
    assert facts["schema_version"] == 2
    assert "text_index" not in facts
    facts = json.loads((tmp_path / "collections" / "words" / "collection.json").read_text())
    assert facts["schema_version"] == 3  # which an attar that knows no text index refuses


async def test_a_description_that_its_shard_does_not_meet_is_refused_and_kept(
    tmp_path: Path,
) -> None:
    root = tmp_path / "collections"
    async with filled(root):
        pass
    file = root / "words" / "collection.json"
    facts = json.loads(file.read_text())
    del facts["crc32"]
    changes: list[dict[str, object]] = [
        {"text_index": {"field": "text", "language": "klingon"}},
        {"text_index": None},
        {"schema_version": 2},
        {"schema_version": 4},
    ]
    for change in changes:
        changed = {**facts, **change}
        file.write_text(json.dumps({**changed, "crc32": of_facts(changed)}))
        async with opened(root) as store:
            assert "is damaged" in store.damaged["words"]
    file.write_text(json.dumps({**facts, "crc32": of_facts(facts)}))
    async with opened(root) as store:
        assert len((await found(store))[0]) == len(TEXTS)


async def test_more_text_than_one_call_may_bring_is_refused_and_nothing_is_written(
    store: StoreProcess,
) -> None:
    half = "x" * (text_index.MAX_CALL_BYTES // 2)
    with pytest.raises(InvalidInput, match=r"payloads\[2\] is where the texts .* fewer points"):
        await write(store, WORDS, [90, 91, 92], [half, half, "x"])
    assert await store.retrieve(WORDS, [90, 91, 92], with_vectors=False) == []


async def test_a_cluster_refuses_a_text_index_by_name() -> None:
    cluster = QdrantStore(AsyncQdrantClient(":memory:"))
    try:
        with pytest.raises(NotSupported, match="keep collections in data_dir"):
            await cluster.create(WORDS)
        with pytest.raises(NotFound):
            await cluster.keyword_search(WORDS, ["a"], Search(limit=1))
    finally:
        await cluster.close()
