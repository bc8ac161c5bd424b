"""A bit that a disk flipped is reported; a write that a kill cut short is not."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attar.errors import Unavailable
from attar.server.collections import filters
from attar.server.collections.checksums import SUMS_FILE, finish, take_sums
from attar.server.collections.index_builder import copy_tree
from attar.server.collections.qdrant_edge import EdgeStore
from attar.server.collections.store import Description, Size

DIMS: Final = 8
DOCS: Final = Description("docs", "m", "sha256:space", DIMS)
ROWS: Final = np.random.default_rng(0).normal(size=(300, DIMS)).astype(np.float32)


@contextmanager
def opened(root: Path) -> Iterator[EdgeStore]:
    store = EdgeStore(root, reserve_bytes=0)
    try:
        if "docs" in store.names():
            store.open_collection("docs")
        else:
            store.create(DOCS)
        yield store
    finally:
        store.close()


def write(store: EdgeStore, first: int, last: int) -> None:
    payloads = [{"n": i} for i in range(first, last)]
    store.upsert(DOCS, list(range(first, last)), ROWS[first:last], payloads)


def flip(path: Path, at: int, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1 << bit]))


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("closed") / "collections"
    with opened(root) as store:
        write(store, 0, 300)
    return root


@pytest.fixture(scope="module")
def offsets(closed: Path) -> list[tuple[Path, list[int]]]:
    """Give each file of a closed collection, and where it has something."""
    files = [f for f in sorted((closed / "docs").rglob("*")) if f.is_file() and f.name != SUMS_FILE]
    contents = [np.fromfile(path, np.uint8) for path in files]
    return [
        (path, np.flatnonzero(content)[::97].tolist())
        for path, content in zip(files, contents, strict=True)
        if len(content)
    ]


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draw=st.randoms(use_true_random=False))
def test_a_flipped_bit_is_reported_before_anything_is_read(
    draw: random.Random, closed: Path, offsets: list[tuple[Path, list[int]]]
) -> None:
    path, written = draw.choice(offsets)
    at, bit = draw.choice(written or [0]), draw.randrange(8)
    flip(path, at, bit)
    store = EdgeStore(closed, reserve_bytes=0)
    try:
        with pytest.raises(Unavailable, match=r"docs is damaged: .*its files are kept") as met:
            store.open_collection("docs")
    finally:
        store.close()
        flip(path, at, bit)
    assert "/" not in str(met.value)


def test_sums_that_are_damaged_themselves_cost_nothing(closed: Path, tmp_path: Path) -> None:
    whole = (closed / "docs" / SUMS_FILE).read_bytes()
    for number, content in enumerate((b"[]", whole[:-3], whole.replace(b"1", b"2"))):
        root = tmp_path / str(number)
        copy_tree(closed, root)
        (root / "docs" / SUMS_FILE).write_bytes(content)
        with opened(root) as store:
            assert store.size(DOCS) == Size(300, 0)


def test_a_copy_without_holes_has_the_same_sums(tmp_path: Path) -> None:
    for name, zeros in (("holes", 0), ("none", 2**21)):
        (tmp_path / name).mkdir()
        with (tmp_path / name / "file").open("wb") as file:
            file.write(bytes(zeros))
            file.seek(2**21)
            file.write(b"end")
            file.truncate(2**22)
    holes, none = (
        finish(take_sums(tmp_path / of), unless=lambda: False) for of in ("holes", "none")
    )
    assert holes == none


def test_a_collection_that_rests_is_compared_after_a_kill_and_one_that_was_written_is_not(
    tmp_path: Path,
) -> None:
    with opened(tmp_path / "live") as store:
        write(store, 0, 100)
        assert not (tmp_path / "live/docs" / SUMS_FILE).exists()
        store.rest(unless=lambda: False)
        assert not (tmp_path / "live/docs" / SUMS_FILE).exists()  # not synced yet
        store.sync()
        store.rest(unless=lambda: True)
        assert not (tmp_path / "live/docs" / SUMS_FILE).exists()  # a call came
        store.rest(unless=lambda: False)
        copy_tree(tmp_path / "live", tmp_path / "killed at rest")
        write(store, 100, 200)
        copy_tree(tmp_path / "live", tmp_path / "killed after a write")
    flip(next((tmp_path / "killed at rest").rglob("chunk_0.mmap")), 0, 0)
    with pytest.raises(Unavailable, match=r"1 of its .* files are not as they were written"):
        EdgeStore(tmp_path / "killed at rest").open_collection("docs")
    with opened(tmp_path / "killed after a write") as store:
        assert store.size(DOCS) == Size(200, 0)


STEPS: Final = st.lists(
    st.sampled_from(("upsert", "delete", "range", "sync", "rest", "close", "optimise")),
    min_size=1,
    max_size=6,
)


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_a_kill_at_any_moment_is_no_damage(
    steps: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A copy of the folder is what a kill leaves: every point is there, and none other."""
    folder = tmp_path_factory.mktemp("steps")
    root, points = folder / "collections", set[int]()
    store = EdgeStore(root, reserve_bytes=0)
    store.create(DOCS)
    for number, step in enumerate(steps):
        match step:
            case "upsert":
                write(store, number * 10, number * 10 + 10)
                points |= set(range(number * 10, number * 10 + 10))
            case "delete":
                gone = {1, max(0, number * 10 - 10)}
                store.delete_points(DOCS, list(gone))
                points -= gone
            case "range":  # which makes an index
                assert store.count(DOCS, filters.read({"n": {"gte": 0}})) == len(points)
            case "sync":
                store.sync()
            case "rest":
                store.rest(unless=lambda: False)
            case "optimise":
                copy = root / "docs" / f"shard-{number}"
                source, _ = store.begin_copy(DOCS, follow=True)
                copy_tree(source, copy)
                store.end_copy(DOCS)
                store.change_over(DOCS, copy)
            case "close":
                store.close()
                store = EdgeStore(root, reserve_bytes=0)
                store.open_collection("docs")
    copy_tree(root, folder / "killed")
    store.close()
    with opened(folder / "killed") as after:
        there = after.retrieve(DOCS, list(range(100)), with_vectors=True)
        assert {point.id for point in there} == points
        for point in there:
            assert point.vector is not None
            row = ROWS[int(point.id)]
            np.testing.assert_allclose(point.vector, row / np.linalg.norm(row), atol=1e-6)
