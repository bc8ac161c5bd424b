"""One contract for every vector engine: what a collection promises its users.

The engines are Qdrant Edge in the store's own process, qdrant-client's engine in memory and on
disk, and the Qdrant server at `ATTAR_TEST_QDRANT_URL`, which is reported as skipped without one.
"""

import asyncio
import dataclasses
import os
import uuid
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from numpy.typing import NDArray
from qdrant_client import AsyncQdrantClient

from attar.errors import AlreadyExists, InvalidInput, NotFound, NotSupported, Replaced, ShapeError
from attar.server.collections import filters
from attar.server.collections.edge_process import StoreProcess
from attar.server.collections.filters import EVERYTHING, Filter
from attar.server.collections.qdrant import QdrantStore
from attar.server.collections.store import (
    Description,
    Payload,
    Search,
    Size,
    Store,
)
from attar.values import PointId

from ...support.filters import CASES, PAYLOADS

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    # qdrant-client's engine warns that it has no index, so that every search is exact.
    pytest.mark.filterwarnings("ignore:(Local mode|Payload indexes)"),
]

ENGINES = ("edge", "client in memory", "client on disk", "server")
URL = "ATTAR_TEST_QDRANT_URL"
DIMS = 8
# A server may be shared, so a run has names of its own.
COLORS = Description(f"colors-{uuid.uuid4().hex[:8]}", "tiny", "sha256:space", DIMS)
NAME = COLORS.name
UUID = "550e8400-e29b-41d4-a716-446655440000"


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=ENGINES)
async def opened(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Store]:
    folder = tmp_path_factory.mktemp("engine")
    store: Store
    match request.param:
        case "edge":
            store = await asyncio.to_thread(StoreProcess, folder / "collections")
        case "client in memory":
            store = QdrantStore(AsyncQdrantClient(":memory:"))
        case "client on disk":
            store = QdrantStore(AsyncQdrantClient(path=str(folder)))
        case _ if URL in os.environ:
            store = await QdrantStore.connect(
                os.environ[URL],
                grpc_port=int(os.environ.get("ATTAR_TEST_QDRANT_GRPC_PORT", "6334")),
                api_key=os.environ.get("ATTAR_TEST_QDRANT_API_KEY", ""),
            )
        case _:
            pytest.skip(f"NOT RUN: no Qdrant server; {URL} names one")
    await store.create(COLORS)
    yield store
    await store.delete(NAME)
    await store.close()


@pytest_asyncio.fixture(loop_scope="module")
async def store(opened: Store) -> Store:
    """Give a store with an empty collection; making one for each test would take seconds."""
    await opened.delete_matching(COLORS, EVERYTHING)
    return opened


def rows(n: int, *, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(n, DIMS)).astype(np.float32)


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


async def fill(store: Store, payloads: list[Payload]) -> NDArray[np.float32]:
    vectors = rows(len(payloads))
    await store.upsert(COLORS, list(range(len(payloads))), vectors, payloads)
    return vectors


async def find(store: Store, where: Filter) -> set[Any]:
    """The points that a filter finds, by every way to ask."""
    tree = filters.read(where)
    (hits,) = await store.search(COLORS, rows(1), Search(limit=100, where=tree))
    found = {hit.id for hit in hits}
    page = await store.scroll(COLORS, where=tree, limit=100, start=None, with_vectors=False)
    assert {point.id for point in page.points} == found
    assert await store.count(COLORS, tree) == len(found) == len(hits)
    return found


# ------------------------------------------------------------------------------ search


async def test_a_search_finds_the_most_similar_by_cosine(store: Store) -> None:
    vectors, queries = await fill(store, [{"n": i} for i in range(60)]), rows(5, seed=1)
    expected = unit(queries) @ unit(vectors).T
    for exact in (False, True):
        found = await store.search(COLORS, queries, Search(limit=7, exact=exact))
        for hits, similar in zip(found, expected, strict=True):
            best = np.argsort(-similar)[:7]
            assert [hit.id for hit in hits] == best.tolist()
            assert [hit.payload for hit in hits] == [{"n": i} for i in best]
            np.testing.assert_allclose([hit.score for hit in hits], similar[best], atol=1e-6)


async def test_pages_of_a_search_are_the_search(store: Store) -> None:
    await fill(store, [{}] * 30)
    (whole,) = await store.search(COLORS, rows(1), Search(limit=30))
    paged = []
    for offset in range(0, 40, 7):
        (page,) = await store.search(COLORS, rows(1), Search(limit=7, offset=offset))
        paged += page
    assert [hit.id for hit in paged] == [hit.id for hit in whole]
    assert len(whole) == 30


async def test_the_threshold_is_the_lowest_score_that_counts(store: Store) -> None:
    axes = np.eye(DIMS, dtype=np.float32)
    await store.upsert(COLORS, [0, 1], axes[:2], [{}, {}])
    for threshold, expected in ((1.0, [0]), (0.5, [0]), (0.0, [0, 1]), (None, [0, 1])):
        search = Search(limit=5, score_threshold=threshold, with_payload=False)
        (hits,) = await store.search(COLORS, axes[:1], search)
        assert [hit.id for hit in hits] == expected
        assert hits[0].payload is None


async def test_a_vector_finds_itself_at_a_threshold_of_one(store: Store) -> None:
    """In float32 the cosine of equal rows is off by 1e-7, above one and below it."""
    vectors = rows(200)
    await store.upsert(COLORS, range(200), vectors, [{}] * 200)
    search = Search(limit=1, score_threshold=1.0, with_payload=False)
    assert [(hit.id, hit.score) for (hit,) in await store.search(COLORS, vectors, search)] == [
        (i, 1.0) for i in range(200)
    ]
    last = Search(limit=200, with_payload=False)
    scores = [hit.score for hits in await store.search(COLORS, -vectors[:9], last) for hit in hits]
    assert min(scores) == -1.0


@pytest.mark.parametrize("length", [1e30, 1e19, 1e-22, 1e-40])
async def test_vectors_of_any_length_are_compared_by_direction(store: Store, length: float) -> None:
    """In float32 the squares of these lengths are infinity, or zero."""
    vectors, queries = unit(rows(5)), unit(rows(3, seed=1))
    scaled = [(array * np.float64(length)).astype(np.float32) for array in (vectors, queries)]
    await store.upsert(COLORS, range(5), scaled[0], [{}] * 5)
    for exact in (False, True):
        found = await store.search(COLORS, scaled[1], Search(limit=5, exact=exact))
        for hits, similar in zip(found, queries @ vectors.T, strict=True):
            assert [hit.id for hit in hits] == np.argsort(-similar).tolist()
            scores = [hit.score for hit in hits]
            np.testing.assert_allclose(scores, np.sort(similar)[::-1], atol=1e-4)
    for point in await store.retrieve(COLORS, range(5), with_vectors=True):
        assert point.vector is not None
        np.testing.assert_allclose(point.vector, vectors[int(point.id)], atol=1e-4)


# ------------------------------------------------------------------------------ filters


async def test_every_engine_answers_every_filter_alike(store: Store) -> None:
    await fill(store, PAYLOADS)
    for where, expected in CASES:
        assert await find(store, where) == expected, where


# ------------------------------------------------------------------------------ points


async def test_a_point_comes_back_as_it_was_given(store: Store) -> None:
    payload = {
        "text": "näïve \u2028",
        "big": 2**70,
        "deep": {"a": [1, None, 1.5]},
        "tokens": "mine",
    }
    ids: list[PointId] = [2**64 - 1, UUID, 0]
    vectors = rows(3)
    await store.upsert(COLORS, ids, vectors, [payload, {}, {"n": 1}])
    points = await store.retrieve(COLORS, [UUID.upper(), 7, 2**64 - 1], with_vectors=True)
    assert [point.id for point in points] == [UUID, 2**64 - 1]
    assert [point.payload for point in points] == [{}, payload]
    assert points[1].vector is not None
    np.testing.assert_allclose(points[1].vector, unit(vectors)[0], atol=1e-6)
    (bare,) = await store.retrieve(COLORS, [0], with_vectors=False)
    assert bare.vector is None
    assert await store.describe(NAME) == COLORS
    assert await store.size(COLORS) == Size(3, 0)
    every = await store.vectors(COLORS)
    np.testing.assert_array_equal(await store.vectors(COLORS, limit=2), every[:2])
    np.testing.assert_allclose(np.linalg.norm(every, axis=1), np.ones(3), atol=1e-6)


async def test_an_upsert_replaces_vector_and_payload_together(store: Store) -> None:
    first, second = rows(2)
    await store.upsert(COLORS, [1], first[None], [{"old": 1, "both": "a"}])
    await store.upsert(COLORS, [1], second[None], [{"both": "b"}])
    (point,) = await store.retrieve(COLORS, [1], with_vectors=True)
    assert point.payload == {"both": "b"}
    assert point.vector is not None
    np.testing.assert_allclose(point.vector, unit(second[None])[0], atol=1e-6)
    assert await find(store, {"old": 1}) == await find(store, {"both": "a"}) == set()


async def test_deleted_points_are_gone_and_the_others_stay(store: Store) -> None:
    await fill(store, [{"n": i, "even": i % 2 == 0} for i in range(8)])
    await store.delete_points(COLORS, [1, 3, 99])
    assert await find(store, {}) == {0, 2, 4, 5, 6, 7}
    await store.delete_matching(COLORS, filters.read({"even": True, "n": {"gt": 2}}))
    assert await find(store, {}) == {0, 2, 5, 7}


async def test_a_scroll_gives_every_point_once_in_the_order_of_ids(store: Store) -> None:
    uuids = sorted(str(uuid.UUID(int=i << 64)) for i in range(5))
    ids: list[PointId] = [*range(10), *uuids]
    payloads = [{"odd": i % 2 == 1} for i in range(15)]
    await store.upsert(COLORS, ids[::-1], rows(15), payloads)
    for where, expected in (({}, ids), ({"odd": True}, ids[::-1][1::2][::-1])):
        seen: list[PointId] = []
        start: PointId | None = None
        while True:
            tree = filters.read(where)
            page = await store.scroll(COLORS, where=tree, limit=4, start=start, with_vectors=True)
            assert len(page.points) <= 4
            assert all(p.vector is not None and p.vector.shape == (DIMS,) for p in page.points)
            seen += [point.id for point in page.points]
            if (start := page.following) is None:
                break
        assert seen == expected


async def test_a_refused_upsert_writes_nothing(store: Store) -> None:
    good = rows(2)
    bad: list[tuple[Any, Any, Any, type[Exception], str]] = [
        ([1, -1], good, [{}, {}], InvalidInput, r"ids\[1\] must be an integer from 0"),
        ([1, 2**64], good, [{}, {}], InvalidInput, r"ids\[1\]"),
        ([1, True], good, [{}, {}], InvalidInput, r"ids\[1\]"),
        ([1, "one"], good, [{}, {}], InvalidInput, "or a UUID; got 'one'"),
        ([UUID, UUID.upper()], good, [{}, {}], InvalidInput, "give each point once"),
        ([1, 2], good[:, :4], [{}, {}], ShapeError, r"\(n, 8\) float32"),
        ([1, 2], good.astype(np.float64), [{}, {}], ShapeError, "float32"),
        ([1, 2], good * [[1], [np.nan]], [{}, {}], ShapeError, "float64"),
        (
            [1, 2],
            good * np.array([[1], [0]], np.float32),
            [{}, {}],
            InvalidInput,
            r"vectors\[1\] is zero",
        ),
        ([1, 2], good, [{}, {"a": float("nan")}], InvalidInput, r"payloads\[1\] is not JSON"),
        ([1, 2], good, [{}, {"a": "\ud800"}], InvalidInput, r"payloads\[1\]"),
        ([1, 2], good, [{}, {"a": object()}], InvalidInput, r"payloads\[1\]"),
        ([1, 2], good, [{}], InvalidInput, "must be as many; got 2, 2 and 1"),
    ]
    for ids, vectors, payloads, error, message in bad:
        with pytest.raises(error, match=message):
            await store.upsert(COLORS, ids, vectors, payloads)
    assert await store.size(COLORS) == Size(0, 0)


# ------------------------------------------------------------------------------ collections


async def test_a_name_is_taken_once_and_a_deletion_is_final(store: Store) -> None:
    other = Description(f"other-{NAME}", "m", "sha256:other", 4, "binary")
    with pytest.raises(AlreadyExists):
        await store.create(COLORS)
    await store.create(other)
    assert {NAME, other.name} <= set(await store.names())
    assert await store.describe(other.name) == other
    await store.delete(other.name)
    assert other.name not in await store.names()
    with pytest.raises(NotFound):
        await store.delete(other.name)


async def test_calls_on_an_unknown_collection_are_not_found(store: Store) -> None:
    none = Description("none", "tiny", "sha256:space", DIMS)
    for asked in (
        store.describe("none"),
        store.upsert(none, [1], rows(1), [{}]),
        store.search(none, rows(1), Search(limit=1)),
        store.retrieve(none, [1], with_vectors=False),
        store.scroll(none, where=EVERYTHING, limit=1, start=None, with_vectors=False),
        store.count(none, EVERYTHING),
        store.delete_points(none, [1]),
        store.delete_matching(none, EVERYTHING),
        store.vectors(none),
        store.optimize(none),
        store.delete("none"),
    ):
        with pytest.raises(NotFound):
            await asked


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/etc", ".hidden", "a\0", "a b", "é", "x" * 65, "a\n"]
)
async def test_a_name_cannot_leave_its_folder(store: Store, name: str) -> None:
    with pytest.raises(InvalidInput, match="a collection's name has 1 to 64 letters"):
        await store.create(Description(name, "m", "f", 4))
    with pytest.raises(InvalidInput, match="a collection's name has 1 to 64 letters"):
        await store.delete(name)
    with pytest.raises(InvalidInput, match="a collection's name has 1 to 64 letters"):
        await store.snapshots(name)


async def test_what_was_meant_for_a_collection_does_not_reach_its_successor(store: Store) -> None:
    """The description of a former collection of that name, of the same width, is of no use."""
    first = Description(f"again-{NAME}", "tiny", "sha256:first", DIMS)
    second = dataclasses.replace(first, fingerprint="sha256:second", creation=uuid.uuid4().hex)
    await store.create(first)
    await store.delete(first.name)
    await store.create(second)
    await store.upsert(second, [1], rows(1), [{"n": 1}])
    ranged = filters.read({"n": {"gt": 0}})
    for call in (
        store.upsert(first, [1, 2], rows(2), [{}, {}]),
        store.search(first, rows(1), Search(limit=1)),
        store.retrieve(first, [1], with_vectors=False),
        store.retrieve(first, [1], with_vectors=True),
        store.scroll(first, where=ranged, limit=1, start=None, with_vectors=False),
        store.count(first, ranged),
        store.delete_points(first, [1]),
        store.delete_matching(first, ranged),
        store.vectors(first),
        store.size(first),
        store.optimize(first),
        store.snapshot(first),
    ):
        with pytest.raises((Replaced, NotSupported), match=r"was replaced while|own engine"):
            await call
    (point,) = await store.retrieve(second, [1], with_vectors=True)
    assert (point.payload, await store.size(second)) == ({"n": 1}, Size(1, 0))
    assert point.vector is not None
    np.testing.assert_allclose(point.vector, unit(rows(1))[0], atol=1e-6)
    await store.delete(second.name)


# ------------------------------------------------------------------------------ snapshots


async def test_a_snapshot_brings_a_collection_back_as_it_was(store: Store) -> None:
    if isinstance(store, QdrantStore) and URL not in os.environ:
        with pytest.raises(NotSupported, match="own engine"):
            await store.snapshot(COLORS)
        return
    made = dataclasses.replace(COLORS, name=f"kept-{NAME}", creation=uuid.uuid4().hex)
    other = f"copy-{NAME}"
    await store.create(made)
    vectors = rows(20)
    await store.upsert(made, range(20), vectors, [{"n": i} for i in range(20)])
    kept = await store.snapshot(made)
    await store.delete_points(made, [3])
    await store.upsert(made, [4, 100], rows(2, seed=5), [{"new": 1}, {"new": 1}])
    assert [one.id for one in await store.snapshots(made.name)] == [kept.id]
    assert (kept.collection, kept.size_bytes > 0) == (made.name, True)

    with pytest.raises(AlreadyExists):
        await store.restore(made.name, kept.id, to=made.name, replace=False)
    with pytest.raises(NotFound):
        await store.restore(made.name, "0" * 64, to=made.name, replace=True)
    await store.restore(made.name, kept.id, to=made.name, replace=True)
    await store.restore(made.name, kept.id, to=other, replace=False)

    restored, copy = await store.describe(made.name), await store.describe(other)
    (point,) = await store.retrieve(restored, [4], with_vectors=True)
    assert point.payload == {"n": 4}
    for one in (restored, copy):
        np.testing.assert_allclose(await store.vectors(one), unit(vectors), atol=1e-6)
    await store.upsert(copy, [1000], rows(1), [{}])
    assert await store.size(restored) == Size(20, 0)
    await store.delete_snapshot(made.name, kept.id)
    assert await store.snapshots(made.name) == []
    with pytest.raises(NotFound):
        await store.delete_snapshot(made.name, kept.id)
    await store.delete(other)
    await store.delete(made.name)
