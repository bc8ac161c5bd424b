"""Collections on disk: what is acknowledged is there, whole, whatever happens to the process."""

import asyncio
import dataclasses
import hashlib
import inspect
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from attar.errors import AlreadyExists, DiskFull, NotFound, Replaced, Unavailable
from attar.server.collections import filters, index_builder
from attar.server.collections.edge_process import StoreProcess
from attar.server.collections.qdrant_edge import EdgeStore
from attar.server.collections.store import Description, Payload, Search, Size
from attar.server.disk import check_name, write_whole

DIMS = 8
COLORS = Description("colors", "tiny", "sha256:space", DIMS)
WIDE = Description("wide", "tiny", "sha256:space", 1024)  # 3,000 points are worth an index


def rows(n: int, *, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(n, DIMS)).astype(np.float32)


def wide_rows(n: int, *, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(n, WIDE.dims)).astype(np.float32)


@asynccontextmanager
async def running(root: Path, **options: Any) -> AsyncIterator[StoreProcess]:
    """Run a store's process on a folder that has the collection `colors`."""
    process = await asyncio.to_thread(StoreProcess, root, **options)
    try:
        if "colors" not in await process.names():
            await process.create(COLORS)
        yield process
    finally:
        await process.close()


# ------------------------------------------------------------------------------ the folder


def test_collections_survive_a_restart_and_a_deletion_is_final(tmp_path: Path) -> None:
    store = EdgeStore(tmp_path)
    store.create(COLORS)
    store.create(Description("gone", "m", "f", 4, "int8"))
    store.upsert(COLORS, [0], rows(1), [{"n": 1}])
    with pytest.raises(AlreadyExists):
        store.create(COLORS)
    store.delete("gone")
    with pytest.raises(NotFound, match="this server has colors"):
        store.delete("gone")
    store.close()
    again = EdgeStore(tmp_path)
    assert again.names() == ["colors"]
    again.open_collection("colors")
    assert (again.describe("colors"), again.size(COLORS)) == (COLORS, Size(1, 0))
    assert again.count(COLORS, filters.read({"n": 1})) == 1
    again.close()


def test_a_collection_older_than_creations_opens_and_is_distinguished_from_its_successor(
    tmp_path: Path,
) -> None:
    store = EdgeStore(tmp_path)
    store.create(COLORS)
    store.upsert(COLORS, [0], rows(1), [{"n": 1}])
    store.close()
    path = tmp_path / "colors" / "collection.json"
    facts = json.loads(path.read_text())
    del facts["creation"], facts["crc32"]
    path.write_text(json.dumps(facts))

    again = EdgeStore(tmp_path)
    again.open_collection("colors")
    older = again.describe("colors")
    again.upsert(older, [1], rows(1), [{}])
    assert (older.creation, again.size(older)) == ("", Size(2, 0))
    again.delete("colors")
    again.create(COLORS)
    with pytest.raises(Replaced):
        again.upsert(older, [1], rows(1), [{}])
    again.close()


def test_what_was_half_made_is_swept(tmp_path: Path) -> None:
    (tmp_path / f".{'0123' * 8}" / "shard").mkdir(parents=True)
    (tmp_path / ".DS_Store").write_bytes(b"what others put there stays")
    EdgeStore(tmp_path).close()
    assert {path.name for path in tmp_path.iterdir()} == {".lock", ".DS_Store"}


def test_a_copy_that_was_not_taken_over_is_swept(tmp_path: Path) -> None:
    store = EdgeStore(tmp_path)
    store.create(COLORS)
    (tmp_path / "colors" / "shard-0123").mkdir()
    store.close()
    again = EdgeStore(tmp_path)
    again.open_collection("colors")
    assert len(list((tmp_path / "colors").glob("shard-*"))) == 1
    again.close()


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "head.npz"
    write_whole(path, b"one")
    write_whole(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_is_safe_or_refused() -> None:
    assert check_name("collection", "v1.2_a-B") == "v1.2_a-B"


def test_a_copy_has_the_same_bytes_and_the_same_holes(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "inner").mkdir(parents=True)
    with (source / "inner" / "holes").open("wb") as file:
        file.seek(8 * 2**20)
        file.write(b"in the middle")
        file.truncate(16 * 2**20)
    (source / "plain").write_bytes(b"whole")

    index_builder.copy_tree(source, target)

    for name in ("inner/holes", "plain"):
        assert (target / name).read_bytes() == (source / name).read_bytes()
    assert (target / "inner" / "holes").stat().st_blocks * 512 < 2**20


# ------------------------------------------------------------------------------ a full disk


async def test_a_disk_without_room_refuses_writes_and_answers_reads(tmp_path: Path) -> None:
    """What is kept free is more than any disk has: the test of a disk that is full."""
    async with running(tmp_path / "collections") as process:
        await process.upsert(COLORS, [1], rows(1), [{"n": 1}])
        kept = await process.snapshot(COLORS)
    async with running(tmp_path / "collections", reserve_bytes=2**62) as full:
        for write in (
            full.upsert(COLORS, [2], rows(1), [{}]),
            full.create(Description("more", "m", "f", 4)),
            full.snapshot(COLORS),
            full.restore("colors", kept.id, to="colors", replace=True),
            full.optimize(COLORS),
        ):
            with pytest.raises(DiskFull, match="are kept free"):
                await write
        assert await full.size(COLORS) == Size(1, 0)
        assert await full.count(COLORS, filters.read({"n": 1})) == 1
        assert await full.names() == ["colors"]
        await full.delete_points(COLORS, [1])  # this is how room is made
        await full.delete_snapshot("colors", kept.id)
    async with running(tmp_path / "collections") as process:
        await process.upsert(COLORS, [3], rows(1), [{}])
        assert await process.size(COLORS) == Size(1, 0)


# ------------------------------------------------------------------------------ the index


@pytest.mark.timeout(300)
async def test_reads_and_writes_go_on_while_an_index_is_built(tmp_path: Path) -> None:
    """Whatever is written during the build is there after it, and what was deleted is not."""
    async with running(tmp_path / "collections") as process:
        await process.create(WIDE)
        vectors = wide_rows(3000)
        for first in range(0, 3000, 500):
            ids = range(first, first + 500)
            await process.upsert(
                WIDE, [*ids], vectors[first : first + 500], [{"n": i} for i in ids]
            )
        assert await process.size(WIDE) == Size(3000, 0)

        building = asyncio.create_task(process.optimize(WIDE))
        searched = written = 0
        while not building.done():
            (best,) = await process.search(WIDE, vectors[7:8], Search(limit=1))
            assert best[0].id == 7
            searched += 1
            if written < 600:  # some before the copy is made, some while it is built
                extra = 3000 + written
                await process.upsert(WIDE, [extra], wide_rows(1, seed=extra), [{"n": extra}])
                await process.delete_points(WIDE, [written + 100])
                written += 1
        await building

        assert searched > 10
        size = await process.size(WIDE)
        assert size.points == 3000
        assert size.indexed >= 2400
        assert await process.count(WIDE, filters.read({"n": {"gte": 3000}})) == written
        gone = [*range(100, 100 + written)]
        assert await process.retrieve(WIDE, gone, with_vectors=False) == []
        (best,) = await process.search(WIDE, wide_rows(1, seed=3000), Search(limit=1))
        assert best[0].id == 3000
        before = await process.vectors(WIDE)
    async with running(tmp_path / "collections") as again:
        np.testing.assert_array_equal(await again.vectors(WIDE), before)
        assert (await again.size(WIDE)).indexed >= 2400


@pytest.mark.timeout(300)
@pytest.mark.parametrize("quantization", ["int8", "binary"])
async def test_quantised_candidates_are_scored_by_whole_vectors(
    tmp_path: Path, quantization: Any
) -> None:
    async with running(tmp_path / "collections", index_after=2000) as process:
        wide = dataclasses.replace(WIDE, quantization=quantization)
        await process.create(wide)
        # Clusters, as embeddings have them: each query has 20 close points.
        centres = wide_rows(150)
        vectors = np.repeat(centres, 20, axis=0) + 0.3 * wide_rows(3000, seed=1)
        await process.upsert(wide, [*range(3000)], vectors, [{}] * 3000)
        assert process.building("wide")  # it began by itself, since so many points are new
        await process.optimize(wide)  # joins it
        assert (await process.size(wide)).indexed == 3000

        queries = centres[:20]
        expected = unit(queries) @ unit(vectors).T
        found = await process.search(wide, queries, Search(limit=10))
        right = 0
        for hits, similar in zip(found, expected, strict=True):
            right += len({hit.id for hit in hits} & {*np.argsort(-similar)[:10].tolist()})
            np.testing.assert_allclose(
                [hit.score for hit in hits], [similar[int(hit.id)] for hit in hits], atol=1e-5
            )
        assert right >= 180
        exact = await process.search(wide, queries, Search(limit=10, exact=True))
        assert [{hit.id for hit in hits} for hits in exact] == [
            {*np.argsort(-similar)[:10].tolist()} for similar in expected
        ]


async def test_a_build_that_dies_leaves_the_collection_as_it_is(tmp_path: Path) -> None:
    async with running(tmp_path / "collections") as process:
        await process.create(WIDE)
        await process.upsert(WIDE, [*range(2000)], wide_rows(2000), [{}] * 2000)
        building = asyncio.create_task(process.optimize(WIDE))
        for _ in range(1000):
            if builders := [c for c in psutil.Process().children() if "optimize" in c.cmdline()]:
                builders[0].kill()
                break
            await asyncio.sleep(0.01)
        with pytest.raises(Unavailable, match="optimize died"):
            await building
        assert await process.size(WIDE) == Size(2000, 0)
        await process.upsert(WIDE, [5000], wide_rows(1), [{}])
        assert len([*(tmp_path / "collections" / "wide").glob("shard-*")]) == 1


async def test_a_collection_may_be_deleted_while_its_index_is_built(tmp_path: Path) -> None:
    async with running(tmp_path / "collections") as process:
        await process.create(WIDE)
        await process.upsert(WIDE, [*range(2000)], wide_rows(2000), [{}] * 2000)
        building = asyncio.create_task(process.optimize(WIDE))
        await asyncio.sleep(0.2)
        await process.delete("wide")
        assert not process.building("wide")
        with pytest.raises(Unavailable, match="was deleted or replaced"):
            await building
        assert await process.names() == ["colors"]
        assert [*(tmp_path / "collections").glob("wide*")] == []


def test_reads_write_nothing_while_a_shard_is_copied(tmp_path: Path) -> None:
    """A filter by a range wants an index, which is made at the next read after the copy."""

    def content() -> dict[Path, bytes]:
        return {
            path: hashlib.sha256(path.read_bytes()).digest()
            for path in source.rglob("*")
            if path.is_file()
        }

    store = EdgeStore(tmp_path)
    store.create(COLORS)
    store.upsert(COLORS, [1, 2], rows(2), [{"n": 1}, {"n": 2}])
    source, _ = store.begin_copy(COLORS, follow=True)
    before = content()
    for _ in range(2):
        assert store.count(COLORS, filters.read({"n": {"gt": 1}})) == 1
    assert content() == before
    store.end_copy(COLORS)
    assert store.count(COLORS, filters.read({"n": {"gt": 1}})) == 1
    assert content() != before
    store.close()


# ------------------------------------------------------------------------------ snapshots


async def test_a_snapshot_that_was_changed_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path / "collections") as process:
        await process.upsert(COLORS, [1], rows(1), [{}])
        kept = await process.snapshot(COLORS)
        path = tmp_path / "snapshots" / "colors" / f"{kept.id}.zip"
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        with pytest.raises(Unavailable, match="is damaged: its bytes hash to"):
            await process.restore("colors", kept.id, to="colors", replace=True)
        for bad in ("", "../colors", kept.id.upper(), "0" * 64):
            with pytest.raises(NotFound, match="is not there"):
                await process.restore("colors", bad, to="other", replace=False)
        assert await process.names() == ["colors"]
        assert await process.size(COLORS) == Size(1, 0)


async def test_a_snapshot_brings_back_a_damaged_collection_and_a_deleted_one(
    tmp_path: Path,
) -> None:
    root = tmp_path / "collections"
    async with running(root) as process:
        await process.upsert(COLORS, [1, 2], rows(2), [{"n": 1}, {"n": 2}])
        kept = await process.snapshot(COLORS)
    (root / "colors" / "collection.json").write_text("{")
    async with running(root) as process:
        assert set(process.damaged) == {"colors"}
        await process.restore("colors", kept.id, to="colors", replace=True)
        restored = await process.describe("colors")
        assert (process.damaged, await process.size(restored)) == ({}, Size(2, 0))
        await process.delete("colors")
        await process.restore("colors", kept.id, to="colors", replace=False)
        again = await process.describe("colors")
        assert await process.count(again, filters.read({"n": [1, 2]})) == 2


# ------------------------------------------------------------------------------ the process


async def test_a_damaged_collection_is_reported_and_does_not_stop_the_others(
    tmp_path: Path,
) -> None:
    store = EdgeStore(tmp_path)
    damages: dict[str, Callable[[Path], object]] = {
        "json": lambda f: (f / "collection.json").write_text("{"),
        "renamed": lambda f: rewrite(f / "collection.json", name="other"),
        "older": lambda f: rewrite(f / "collection.json", schema_version=1),
        "missing": lambda f: (f / "collection.json").unlink(),
        "segment": lambda f: next(f.glob("*/segments/*/segment.json")).write_bytes(b"??"),
    }
    for name in ("colors", *damages):
        made = dataclasses.replace(COLORS, name=name)
        store.create(made)
        store.upsert(made, [1, 2], rows(2), [{}, {}])
    store.close()
    for name, damage in damages.items():
        damage(tmp_path / name)
    async with running(tmp_path) as process:
        assert set(process.damaged) == set(damages)
        assert "restore" in process.damaged["json"]
        assert (await process.size(COLORS)).points == 2
        with pytest.raises(Unavailable, match="json is damaged"):
            await process.size(dataclasses.replace(COLORS, name="json"))
        await process.delete("json")
        assert "json" not in await process.names()


async def test_errors_cross_the_process_and_a_killed_one_starts_again(tmp_path: Path) -> None:
    async with running(tmp_path) as process:
        await process.upsert(COLORS, [1], rows(1), [{"n": 1}])
        with pytest.raises(NotFound, match="this server has colors"):
            await process.describe("other")
        (child,) = (c for c in psutil.Process().children() if str(tmp_path) in c.cmdline())
        child.kill()
        with pytest.raises(Unavailable, match="starts again"):
            await process.size(COLORS)
        assert await process.size(COLORS) == Size(1, 0)
    with pytest.raises(Unavailable, match="closed"):
        await process.names()


SERVER = """
import asyncio, os, signal, sys
from pathlib import Path
import numpy as np
from attar.server.collections.edge_process import StoreProcess

async def main():
    process = StoreProcess(Path(sys.argv[1]))
    vectors = np.ones((2, 8), np.float32)
    await process.upsert(await process.describe("colors"), [1, 2], vectors, [{}, {}])
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def test_the_store_of_a_killed_server_lets_go_and_loses_nothing(tmp_path: Path) -> None:
    store = EdgeStore(tmp_path)
    store.create(COLORS)
    store.close()
    command = [sys.executable, "-c", SERVER, str(tmp_path)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    again = EdgeStore(tmp_path)  # takes the lock that the orphan had
    again.open_collection("colors")
    assert again.size(COLORS) == Size(2, 0)
    again.close()


BUILDING = """
import asyncio, os, signal, sys
from pathlib import Path
import numpy as np
import psutil
from attar.server.collections.edge_process import StoreProcess

async def main():
    process = StoreProcess(Path(sys.argv[1]))
    vectors = np.random.default_rng(0).normal(size=(3000, 1024)).astype(np.float32)
    wide = await process.describe("wide")
    await process.upsert(wide, range(3000), vectors, [{}] * 3000)
    building = asyncio.create_task(process.optimize(wide))
    builders = []
    while not builders:
        await asyncio.sleep(0.01)
        builders = [c for c in psutil.Process().children() if "optimize" in c.cmdline()]
    await process.upsert(wide, [5000], vectors[:1], [{}])
    print(builders[0].pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest.mark.timeout(300)
def test_a_server_killed_while_an_index_is_built_loses_nothing(tmp_path: Path) -> None:
    store = EdgeStore(tmp_path)
    store.create(WIDE)
    store.close()
    command = [sys.executable, "-c", BUILDING, str(tmp_path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    again = EdgeStore(tmp_path)
    again.open_collection("wide")
    assert again.size(WIDE).points == 3001
    again.close()
    # The builder dies with its server, so nothing is left of the copy.
    for _ in range(1000):
        if not alive(int(done.stdout)):
            break
        time.sleep(0.01)
    assert not alive(int(done.stdout))
    assert len(list((tmp_path / "wide").glob("shard-*"))) == 1


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
    store.upsert(store.describe("colors"), *batch_of(batch))
    print(batch, flush=True)
    if batch % 150 == 149:
        store.sync()
"""


def acknowledged_before_a_kill(root: Path, first: int, seconds: float) -> int:
    """Run a writer that begins at batch `first`, kill it after a while, give its last batch."""
    command = [sys.executable, "-c", WRITER, str(root), str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert int(writer.stdout.readline()) == first
        time.sleep(seconds)
        writer.kill()
        lines = writer.stdout.read().splitlines(keepends=True)
        assert writer.wait() == -signal.SIGKILL
    return max([first, *(int(line) for line in lines if line.endswith(b"\n"))])


def test_whatever_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    """Eight writers are killed at random moments; each finds all that the ones before it wrote.

    Some die in a sync, most between two, with a log that is ahead of the segments. Of the batch in
    flight at a kill either everything is there or nothing, and a point never has the vector of one
    batch and the payload of another.
    """
    store = EdgeStore(tmp_path)
    store.create(COLORS)
    store.close()
    rng, acknowledged = np.random.default_rng(), -1
    for _ in range(8):
        acknowledged = acknowledged_before_a_kill(tmp_path, acknowledged + 1, rng.uniform(0, 0.3))
        store = EdgeStore(tmp_path)
        store.open_collection("colors")
        for slot in range(min(SPAN, acknowledged + 1)):
            last = acknowledged - (acknowledged - slot) % SPAN
            points = store.retrieve(COLORS, batch_of(slot)[0], with_vectors=True)
            batches = {point.payload["batch"] for point in points}
            assert batches == {last} or batches == {acknowledged + 1} == {last + SPAN}
            vectors = np.array([point.vector for point in points])
            np.testing.assert_allclose(vectors, unit(batch_of(batches.pop())[1]), atol=1e-6)
        in_flight = SIZE * (acknowledged + 2 <= SPAN)
        assert store.size(COLORS).points - min(SPAN, acknowledged + 1) * SIZE in (0, in_flight)
        assert store.count(COLORS, filters.read({"batch": acknowledged})) == SIZE
        store.close()
    print(f"{acknowledged + 1} batches were acknowledged")  # noqa: T201 - a figure for pytest -s


# ------------------------------------------------------------------------------ parts


def alive(pid: int) -> bool:
    try:
        status: str = psutil.Process(pid).status()
    except psutil.NoSuchProcess:
        return False
    return status != "zombie"


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def rewrite(path: Path, **facts: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))
