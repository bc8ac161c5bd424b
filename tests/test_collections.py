"""Collections on disk: what is acknowledged is there, whole, whatever happens to the process."""

import asyncio
import inspect
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from attar.errors import AlreadyExists, InvalidInput, NotFound, ShapeError, Unavailable
from attar.server.collections.disk import check_name, write_whole
from attar.server.collections.process import StoreProcess
from attar.server.collections.qdrant_edge import EdgeStore
from attar.server.collections.store import (
    Description,
    Filter,
    Payload,
    PointId,
    check_ids,
    filter_tokens,
    payload_tokens,
)

DIMS = 8
COLORS = Description("colors", "tiny", "sha256:space", DIMS)
UUID = "550e8400-e29b-41d4-a716-446655440000"


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EdgeStore]:
    store = EdgeStore(tmp_path_factory.mktemp("store"))
    store.create(COLORS)
    yield store
    store.close()


@pytest.fixture
def store(opened: EdgeStore) -> EdgeStore:
    """Give an empty collection; making a new one for each test would sync 64 MiB to the disk."""
    opened.delete_points("colors", [*range(200), UUID, 2**64 - 1])
    return opened


def rows(n: int, *, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(n, DIMS)).astype(np.float32)


def fill(store: EdgeStore, payloads: list[Payload]) -> NDArray[np.float32]:
    vectors = rows(len(payloads))
    store.upsert("colors", list(range(len(payloads))), vectors, payloads)
    return vectors


def find(store: EdgeStore, where: Filter) -> set[Any]:
    (hits,) = store.search(
        "colors", rows(1), limit=100, where=where, score_threshold=None, with_payload=False
    )
    assert len(hits) == store.count("colors", where)
    return {hit.id for hit in hits}


# ------------------------------------------------------------------------------ search


def test_a_search_is_exact_and_scores_are_cosine_similarities(store: EdgeStore) -> None:
    vectors, queries = fill(store, [{"n": i} for i in range(200)]), rows(5, seed=1)
    expected = unit(queries) @ unit(vectors).T
    found = store.search(
        "colors", queries, limit=7, where={}, score_threshold=None, with_payload=True
    )
    for hits, similar in zip(found, expected, strict=True):
        best = np.argsort(-similar)[:7]
        assert [hit.id for hit in hits] == best.tolist()
        assert [hit.payload for hit in hits] == [{"n": i} for i in best]
        np.testing.assert_allclose([hit.score for hit in hits], similar[best], atol=1e-6)


def test_the_threshold_is_the_lowest_score_that_counts(store: EdgeStore) -> None:
    axes = np.eye(DIMS, dtype=np.float32)
    store.upsert("colors", [0, 1], axes[:2], [{}, {}])
    for threshold, expected in ((1.0, [0]), (0.5, [0]), (0.0, [0, 1]), (None, [0, 1])):
        (hits,) = store.search(
            "colors",
            axes[:1],
            limit=5,
            where={},
            score_threshold=threshold,
            with_payload=False,
        )
        assert [hit.id for hit in hits] == expected
        assert hits[0].payload is None


def test_filters_tell_strings_numbers_and_booleans_apart(store: EdgeStore) -> None:
    fill(
        store,
        [{"a": 1}, {"a": True}, {"a": "1"}, {"a": 1.0}, {"a": [1, "x"]}, {"b.c": 1}, {}, {"a": 0}],
    )
    assert find(store, {"a": 1}) == {0, 3, 4}
    assert find(store, {"a": True}) == {1}
    assert find(store, {"a": "1"}) == {2}
    assert find(store, {"a": ["x", True]}) == {1, 4}
    assert find(store, {"b.c": 1}) == {5}
    assert find(store, {"a": []}) == set()
    assert find(store, {}) == set(range(8))
    assert find(store, {"a": 1, "b.c": 1}) == set()


scalars = st.booleans() | st.integers(-2, 2) | st.sampled_from(["", "1", "true", 'a","b', "é"])
keys = st.sampled_from(["a", "a.b", 'q"', ""])


@given(
    st.dictionaries(keys, scalars | st.lists(scalars, max_size=3), max_size=3),
    st.dictionaries(keys, scalars | st.lists(scalars, max_size=3), max_size=2),
)
def test_a_filter_matches_when_every_key_has_one_of_its_values(
    payload: dict[str, Any], where: dict[str, Any]
) -> None:
    def members(value: object) -> set[tuple[type, object]]:
        return {(type(v), v) for v in (value if isinstance(value, list) else [value])}

    expected = all(key in payload and members(payload[key]) & members(where[key]) for key in where)
    tokens = set(payload_tokens(payload))
    assert all(tokens & set(wanted) for wanted in filter_tokens(where)) == expected


@pytest.mark.parametrize("value", [1.5, None, {"a": 1}, [1, None], [[1]]])
def test_a_filter_value_that_cannot_match_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match=r"filter\['k'\] must be a string"):
        filter_tokens({"k": value})


# ------------------------------------------------------------------------------ points


def test_a_point_comes_back_as_it_was_given(store: EdgeStore) -> None:
    payload = {
        "text": "näïve \u2028",
        "big": 2**70,
        "deep": {"a": [1, None, 1.5]},
        "tokens": "mine",
    }
    ids: list[PointId] = [2**64 - 1, UUID, 0]
    vectors = rows(3)
    store.upsert("colors", ids, vectors, [payload, {}, {"n": 1}])
    points = store.retrieve("colors", [UUID.upper(), 7, 2**64 - 1], with_vectors=True)
    assert [point.id for point in points] == [UUID, 2**64 - 1]
    assert [point.payload for point in points] == [{}, payload]
    assert points[1].vector is not None
    np.testing.assert_allclose(points[1].vector, unit(vectors)[0], atol=1e-6)
    assert store.describe("colors") == (COLORS, 3)
    assert store.vectors("colors").shape == (3, DIMS)


def test_an_upsert_replaces_vector_and_payload_together(store: EdgeStore) -> None:
    first, second = rows(2)
    store.upsert("colors", [1], first[None], [{"old": 1, "both": "a"}])
    store.upsert("colors", [1], second[None], [{"both": "b"}])
    (point,) = store.retrieve("colors", [1], with_vectors=True)
    assert point.payload == {"both": "b"}
    assert point.vector is not None
    np.testing.assert_allclose(point.vector, unit(second[None])[0], atol=1e-6)
    assert find(store, {"old": 1}) == find(store, {"both": "a"}) == set()


def test_deleted_points_are_gone_and_the_others_stay(store: EdgeStore) -> None:
    fill(store, [{"n": i} for i in range(5)])
    store.delete_points("colors", [1, 3, 99])
    assert find(store, {}) == {0, 2, 4}


def test_a_refused_upsert_writes_nothing(store: EdgeStore) -> None:
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
            store.upsert("colors", ids, vectors, payloads)
    assert store.describe("colors") == (COLORS, 0)


@given(st.lists(st.integers(0, 2**64 - 1) | st.uuids().map(str), unique=True, max_size=20))
def test_canonical_ids_stay_as_they_are(ids: list[int | str]) -> None:
    assert check_ids(ids) == ids


# ------------------------------------------------------------------------------ the folder


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/etc", ".hidden", "a\0", "a b", "é", "x" * 65, "a\n"]
)
def test_a_name_cannot_leave_its_folder(store: EdgeStore, name: str) -> None:
    with pytest.raises(InvalidInput, match="a collection's name has 1 to 64 letters"):
        store.create(Description(name, "m", "f", 4))
    with pytest.raises(InvalidInput, match="a collection's name has 1 to 64 letters"):
        store.delete(name)
    with pytest.raises(NotFound):
        store.describe(name)
    assert check_name("collection", "v1.2_a-B") == "v1.2_a-B"


def test_collections_survive_a_restart_and_a_deletion_is_final(tmp_path: Path) -> None:
    store = EdgeStore(tmp_path)
    store.create(COLORS)
    store.create(Description("gone", "m", "f", 4))
    fill(store, [{"n": 1}])
    with pytest.raises(AlreadyExists):
        store.create(COLORS)
    store.delete("gone")
    with pytest.raises(NotFound, match="this server has colors"):
        store.delete("gone")
    store.close()
    again = EdgeStore(tmp_path)
    assert again.names() == ["colors"]
    again.open_collection("colors")
    assert again.describe("colors") == (COLORS, 1)
    assert find(again, {"n": 1}) == {0}
    again.close()


def test_what_was_half_made_is_swept(tmp_path: Path) -> None:
    (tmp_path / ".0123" / "shard").mkdir(parents=True)
    EdgeStore(tmp_path).close()
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "head.npz"
    write_whole(path, b"one")
    write_whole(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


# ------------------------------------------------------------------------------ the process


def test_a_damaged_collection_is_reported_and_does_not_stop_the_others(tmp_path: Path) -> None:
    store = EdgeStore(tmp_path)
    damages: dict[str, Callable[[Path], object]] = {
        "json": lambda f: (f / "collection.json").write_text("{"),
        "renamed": lambda f: rewrite(f / "collection.json", name="other"),
        "missing": lambda f: (f / "collection.json").unlink(),
        "segment": lambda f: next(f.glob("shard/segments/*/segment.json")).write_bytes(b"??"),
    }
    for name in ("colors", *damages):
        store.create(Description(name, "m", "f", DIMS))
        store.upsert(name, [1, 2], rows(2), [{}, {}])
    store.close()
    for name, damage in damages.items():
        damage(tmp_path / name)

    async def scenario() -> None:
        process = StoreProcess(tmp_path)
        try:
            assert set(process.damaged) == set(damages)
            assert "restore" in process.damaged["json"]
            assert (await process.call(EdgeStore.describe, "colors"))[1] == 2
            await process.call(EdgeStore.delete, "json")
            assert "json" not in await process.call(EdgeStore.names)
        finally:
            await process.close()

    asyncio.run(scenario())


def test_errors_cross_the_process_and_a_killed_one_starts_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        process = StoreProcess(tmp_path)
        try:
            await process.call(EdgeStore.create, COLORS)
            await process.call(EdgeStore.upsert, "colors", [1], rows(1), [{"n": 1}])
            with pytest.raises(NotFound, match="this server has colors"):
                await process.call(EdgeStore.describe, "other")
            (child,) = (c for c in psutil.Process().children() if str(tmp_path) in c.cmdline())
            child.kill()
            with pytest.raises(Unavailable, match="starts again"):
                await process.call(EdgeStore.describe, "colors")
            assert await process.call(EdgeStore.describe, "colors") == (COLORS, 1)
        finally:
            await process.close()
        with pytest.raises(Unavailable, match="closed"):
            await process.call(EdgeStore.names)

    asyncio.run(scenario())


SERVER = """
import asyncio, os, signal, sys
from pathlib import Path
import numpy as np
from attar.server.collections.process import StoreProcess
from attar.server.collections.qdrant_edge import EdgeStore

async def main():
    process = StoreProcess(Path(sys.argv[1]))
    vectors = np.ones((2, 8), np.float32)
    await process.call(EdgeStore.upsert, "colors", [1, 2], vectors, [{}, {}])
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def test_the_store_of_a_killed_server_lets_go_and_loses_nothing(tmp_path: Path) -> None:
    store = EdgeStore(tmp_path)
    store.create(COLORS)
    store.close()
    command = [sys.executable, "-P", "-c", SERVER, str(tmp_path)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL  # noqa: S603 - our own
    again = EdgeStore(tmp_path)  # takes the lock that the orphan had
    again.open_collection("colors")
    assert again.describe("colors") == (COLORS, 2)
    again.close()


# ------------------------------------------------------------------------------ kill -9

SIZE = 16  # points in a batch
SPAN = 40  # batches after which the same ids come again, with other vectors and payloads


def batch_of(batch: int) -> tuple[list[int], NDArray[np.float32], list[Payload]]:
    """Make a batch's points: each payload says from which batch its vector is."""
    ids = [(batch % SPAN) * SIZE + i for i in range(SIZE)]
    return ids, rows(SIZE, seed=batch), [{"batch": batch, "pad": "x" * 50} for _ in range(SIZE)]


WRITER = f"""
import sys
from collections.abc import Mapping as Payload
from pathlib import Path
import numpy as np
from numpy.typing import NDArray
from attar.server.collections.qdrant_edge import EdgeStore

DIMS, SIZE, SPAN = {DIMS}, {SIZE}, {SPAN}
{inspect.getsource(rows)}
{inspect.getsource(batch_of)}
store = EdgeStore(Path(sys.argv[1]))
store.open_collection("colors")
for batch in range(int(sys.argv[2]), 10**6):
    store.upsert("colors", *batch_of(batch))
    print(batch, flush=True)
    if batch % 150 == 149:
        store.sync()
"""


def acknowledged_before_a_kill(root: Path, first: int, seconds: float) -> int:
    """Run a writer that begins at batch `first`, kill it after a while, give its last batch."""
    command = [sys.executable, "-P", "-c", WRITER, str(root), str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:  # noqa: S603 - our own program
        assert writer.stdout is not None
        assert int(writer.stdout.readline()) == first
        time.sleep(seconds)
        writer.kill()
        lines = writer.stdout.read().splitlines(keepends=True)
        assert writer.wait() == -signal.SIGKILL
    return max([first, *(int(line) for line in lines if line.endswith(b"\n"))])


@pytest.mark.slow
def test_whatever_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    """Twenty writers are killed at random moments; each finds all that the ones before it wrote.

    Some die in a sync, most between two, with a log that is ahead of the segments. Of the batch in
    flight at a kill either everything is there or nothing, and a point never has the vector of one
    batch and the payload of another.
    """
    store = EdgeStore(tmp_path)
    store.create(COLORS)
    store.close()
    rng, acknowledged = np.random.default_rng(), -1
    for _ in range(20):
        acknowledged = acknowledged_before_a_kill(tmp_path, acknowledged + 1, rng.uniform(0, 0.3))
        store = EdgeStore(tmp_path)
        store.open_collection("colors")
        for slot in range(min(SPAN, acknowledged + 1)):
            last = acknowledged - (acknowledged - slot) % SPAN
            points = store.retrieve("colors", batch_of(slot)[0], with_vectors=True)
            batches = {point.payload["batch"] for point in points}
            assert batches == {last} or batches == {acknowledged + 1} == {last + SPAN}
            vectors = np.array([point.vector for point in points])
            np.testing.assert_allclose(vectors, unit(batch_of(batches.pop())[1]), atol=1e-6)
        in_flight = SIZE * (acknowledged + 2 <= SPAN)
        assert store.describe("colors")[1] - min(SPAN, acknowledged + 1) * SIZE in (0, in_flight)
        assert store.count("colors", {"batch": acknowledged}) == SIZE
        store.close()
    print(f"{acknowledged + 1} batches were acknowledged")  # noqa: T201 - a figure for pytest -s


# ------------------------------------------------------------------------------ parts


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def rewrite(path: Path, **facts: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))
