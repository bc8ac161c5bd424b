"""What lies in the data folder costs its own collection or head, and nothing else."""

import asyncio
import hashlib
import json
import os
import pickle
import re
import shutil
import socket
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import grpc
import numpy as np
import psutil
import pytest
import pytest_asyncio

from attar import AsyncClient, Client
from attar.errors import AlreadyExists, DiskFull, NotFound, Unavailable
from attar.heads import KnnAnomaly
from attar.server.collections import edge_process
from attar.server.collections.edge_process import StoreProcess
from attar.server.collections.store import Description, Size
from attar.server.usecases.head_store import HeadStore
from attar.v1 import (
    anomaly_pb2,
    anomaly_pb2_grpc,
    classification_pb2,
    classification_pb2_grpc,
    collections_pb2,
    collections_pb2_grpc,
)
from benchmarks.support.bundles import tiny_bundle
from benchmarks.support.servers import serving
from benchmarks.support.servers import settings as server_settings

DIMS: Final = 8
SPACE: Final = "sha256:space"
ROWS: Final = np.random.default_rng(0).normal(size=(60, DIMS)).astype(np.float32)
HEAD: Final = KnnAnomaly.fit(ROWS, model="m", fingerprint=SPACE)
GOOD: Final = Description("good", "m", SPACE, DIMS)


@asynccontextmanager
async def running(root: Path) -> AsyncIterator[StoreProcess]:
    store = StoreProcess(root, reserve_bytes=0)
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a data folder with a collection of two points, a snapshot of it and a detector."""
    data = tmp_path_factory.mktemp("written") / "data"

    async def write() -> None:
        async with running(data / "collections") as store:
            await store.create(GOOD)
            await store.upsert(GOOD, [1, 2], ROWS[:2], [{}, {}])
            await store.snapshot(GOOD)
        await HeadStore(data / "anomaly", "detector", KnnAnomaly.from_bytes).put("good", HEAD)

    asyncio.run(write())
    return data


@pytest.fixture
def data(written: Path, tmp_path: Path) -> Path:
    shutil.copytree(written, tmp_path / "data")
    return tmp_path / "data"


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def text(path: Path, content: str | bytes = b"x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def unix_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # an address has 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.chdir(here)


def no_utf8(folder: Path) -> None:
    (folder / os.fsdecode(b"\xff\xfe")).mkdir()


def sparse(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(2**40)


def fifo(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)


def loop(path: Path) -> None:
    path.symlink_to(path.name)


STRANGERS: Final[dict[str, Callable[[Path], object]]] = {
    "a file manager's file among collections": lambda d: text(d / "collections/.DS_Store"),
    "a file manager's file among snapshots": lambda d: text(d / "snapshots/good/.DS_Store"),
    "a file manager's folder among snapshots": lambda d: text(d / "snapshots/good/.Trash-0/x"),
    "a hidden link to a folder": lambda d: (d / "collections/.link").symlink_to(d),
    "a hidden link among snapshots": lambda d: (d / "snapshots/good/.link").symlink_to(d),
    "a link without an end": lambda d: (d / "snapshots/good" / f"{'0' * 64}.zip").symlink_to("no"),
    "a loop of links among snapshots": lambda d: loop(d / "snapshots/good" / f"{'1' * 64}.zip"),
    "a pipe among snapshots": lambda d: fifo(d / "snapshots/good" / f"{'2' * 64}.zip"),
    "a file among snapshots": lambda d: text(d / "snapshots/stranger"),
    "lost+found": lambda d: (d / "collections/lost+found").mkdir(),
    "a name that is no UTF-8 among collections": lambda d: no_utf8(d / "collections"),
    "a name that is no UTF-8 among snapshots": lambda d: no_utf8(d / "snapshots/good"),
    "a name that is no UTF-8 among heads": lambda d: no_utf8(d / "anomaly"),
    "a name with blanks among heads": lambda d: text(d / "anomaly/my head.npz"),
    "a socket": lambda d: unix_socket(d / "collections/.socket"),
    "what a killed snapshot left": lambda d: text(d / "snapshots/good" / f".{'a' * 32}" / "x"),
    "what a killed write left": lambda d: text(d / "anomaly/.0abc_def.part"),
}


async def test_what_is_not_ours_is_left_alone(data: Path) -> None:
    for spoil in STRANGERS.values():
        spoil(data)
    folders = [data / "collections", data / "snapshots/good", data / "anomaly"]
    before = {path for folder in folders for path in folder.iterdir()}
    async with running(data / "collections") as store:
        assert (await store.names(), store.damaged) == (["good"], {})
        assert await store.size(GOOD) == Size(2, 0)
        assert len(await store.snapshots("good")) == 1
    shelf = HeadStore(data / "anomaly", "detector", KnnAnomaly.from_bytes)
    assert (shelf.names(), shelf.damaged) == (["good"], {})
    gone = before - {path for folder in folders for path in folder.iterdir()}
    assert {path.name for path in gone} == {f".{'a' * 32}", ".0abc_def.part"}


def described(folder: Path, **facts: object) -> None:
    """Write a description that is whole but for `facts`."""
    whole = {
        "schema_version": 2,
        "name": folder.name,
        "model": "m",
        "fingerprint": SPACE,
        "dims": DIMS,
        "quantization": "none",
        "shard": "shard-1",
    }
    text(folder / "collection.json", json.dumps(whole | facts))


DAMAGED: Final[dict[str, tuple[Callable[[Path], object], str]]] = {
    "an empty description": (lambda f: text(f / "collection.json", b""), "Expecting value"),
    "a deep description": (
        lambda f: text(f / "collection.json", "[" * 10**5),
        "the limit is 65536",
    ),
    "a description of a terabyte": (lambda f: sparse(f / "collection.json"), "the limit is 65536"),
    "a description that is a pipe": (lambda f: fifo(f / "collection.json"), "it is no file"),
    "a description that is a folder": (
        lambda f: (f / "collection.json").mkdir(parents=True),
        "Is a directory",
    ),
    "a description that is a list": (lambda f: text(f / "collection.json", "[]"), "no object"),
    "a description of other kinds": (
        lambda f: described(f, dims=[8]),
        "of another kind",
    ),
    "no description": (lambda f: f.mkdir(), "No such file"),
    "a file where a folder belongs": (text, "it is no folder"),
    "a link to nothing": (lambda f: f.symlink_to("nowhere"), "it is no folder"),
    "a loop of links": (loop, "it is no folder"),
    "a pipe": (fifo, "it is no folder"),
    "a shard elsewhere": (
        lambda f: described(f, shard="../good"),
        "a shard's name has",
    ),
    "another's shard": (
        lambda f: shutil.copytree(f.parent / "good", f),
        "is of 'good'",
    ),
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def spoiled(
    written: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[StoreProcess]:
    """Give a store with a good collection and each of the damaged ones, `bad-0` and on."""
    root = tmp_path_factory.mktemp("spoiled") / "collections"
    shutil.copytree(written / "collections", root)
    for i, (spoil, _) in enumerate(DAMAGED.values()):
        spoil(root / f"bad-{i}")
    async with running(root) as store:
        yield store


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", DAMAGED)
async def test_a_bad_collection_is_named_with_what_is_wrong_and_the_others_serve(
    case: str, spoiled: StoreProcess
) -> None:
    name, why = f"bad-{[*DAMAGED].index(case)}", DAMAGED[case][1]
    assert name in await spoiled.names()
    assert await spoiled.size(GOOD) == Size(2, 0)
    with pytest.raises(Unavailable, match=re.escape(why)) as met:
        await spoiled.describe(name)
    assert "/" not in str(met.value).replace("../good", "")
    bad = Description(name, "m", SPACE, DIMS)
    with pytest.raises(AlreadyExists):
        await spoiled.create(bad)
    await spoiled.delete(name)
    await spoiled.create(bad)
    assert await spoiled.size(bad) == Size(0, 0)


BAD_HEADS: Final[dict[str, tuple[Callable[[Path], object], str]]] = {
    "a folder": (lambda p: p.mkdir(), "Is a directory"),
    "a pipe": (fifo, "it is no file"),
    "a link to nothing": (lambda p: p.symlink_to("nowhere"), "No such file"),
    "a loop of links": (loop, "Too many levels"),
    "a terabyte": (sparse, "bytes, and the limit is"),
    "an empty file": (lambda p: text(p, b""), "not a knn-anomaly head"),
    "a bomb": (lambda p: np.savez_compressed(p, references=np.zeros(2**24)), "they are compressed"),
    "a zip of another kind": (lambda p: zipfile.ZipFile(p, "w").close(), "not a knn-anomaly head"),
}


@pytest.mark.parametrize(("spoil", "why"), BAD_HEADS.values(), ids=BAD_HEADS)
async def test_a_bad_head_is_named_with_what_is_wrong_and_the_others_serve(
    spoil: Callable[[Path], object], why: str, data: Path
) -> None:
    spoil(data / "anomaly/bad.npz")
    shelf = HeadStore(data / "anomaly", "detector", KnnAnomaly.from_bytes)
    assert shelf.names() == ["good"]
    with pytest.raises(Unavailable, match=re.escape(why)) as met:
        shelf.get("bad")
    assert str(data) not in str(met.value)
    await shelf.delete("bad")
    await shelf.put("bad", HEAD)
    assert shelf.get("bad") is HEAD


def test_every_list_names_what_is_damaged(data: Path, tmp_path: Path) -> None:
    text(data / "collections/bad")
    for folder in ("anomaly", "classifiers"):
        text(data / folder / "bad.npz")
    bundle = tiny_bundle(tmp_path / "tiny.attar")
    with (
        serving(server_settings(bundle, data_dir=data)) as target,
        grpc.insecure_channel(target) as channel,
    ):
        collections = collections_pb2_grpc.CollectionsStub(channel)
        detectors = anomaly_pb2_grpc.AnomalyStub(channel)
        classifiers = classification_pb2_grpc.ClassificationStub(channel)
        listed = collections.List(collections_pb2.ListCollectionsRequest())
        assert [one.name for one in listed.collections] == ["good"]
        lists = (
            listed,
            detectors.List(anomaly_pb2.ListDetectorsRequest()),
            classifiers.List(classification_pb2.ListClassifiersRequest()),
        )
    for answer in lists:
        (reason,) = (why for name, why in answer.damaged.items() if name == "bad")
        assert "bad is damaged" in reason
        assert str(data) not in reason


async def test_clients_list_what_is_damaged_and_its_calls_say_what_to_do(
    data: Path, tmp_path: Path
) -> None:
    text(data / "collections/bad")
    for folder in ("anomaly", "classifiers"):
        text(data / folder / "bad.npz")
    items, labels = ["the cat", "the sun"], ["animal", "sky"]
    bundle = tiny_bundle(tmp_path / "tiny.attar")
    with serving(server_settings(bundle, data_dir=data)) as target, Client(target) as client:
        lists = (client.collections(), client.detectors(), client.classifiers())
        calls: dict[str, tuple[Callable[[], object], ...]] = {
            "restore": (
                lambda: client.collection("bad", deadline_s=1),
                lambda: client.search("bad", ["the cat"], deadline_s=1),
                lambda: client.upsert("bad", [1], ["the cat"], deadline_s=1),
                lambda: client.fit_anomaly("new", collection="bad", deadline_s=1),
                lambda: client.create_collection("bad"),
            ),
            "delete it and fit it again, or restore": (
                lambda: client.detector("bad", deadline_s=1),
                lambda: client.score_anomaly("bad", ["the cat"], deadline_s=1),
                lambda: client.fit_anomaly("bad", [f"cat {i}" for i in range(30)]),
                lambda: client.classifier("bad", deadline_s=1),
                lambda: client.classify("bad", ["the cat"], deadline_s=1),
                lambda: client.fit_classifier("bad", items, labels),
            ),
        }
        for fix, those in calls.items():
            for call in those:
                with pytest.raises((Unavailable, AlreadyExists), match=f"bad is damaged: .*{fix}"):
                    call()
        async with AsyncClient(target) as later:
            assert (await later.collections()).damaged == lists[0].damaged
            assert (await later.detectors()).damaged == lists[1].damaged
            assert (await later.classifiers()).damaged == lists[2].damaged
    assert [[one.name for one in listing] for listing in lists] == [["good"], ["good"], []]
    for listing in lists:
        assert [*listing.damaged] == ["bad"]
        assert "bad is damaged: " in listing.damaged["bad"]
        assert pickle.loads(pickle.dumps(listing)).damaged == listing.damaged  # noqa: S301 (ours)


async def test_a_file_in_place_of_the_heads_folder_is_reported_when_a_head_is_stored(
    tmp_path: Path,
) -> None:
    text(tmp_path / "anomaly")
    shelf = HeadStore(tmp_path / "anomaly", "detector", KnnAnomaly.from_bytes)
    with pytest.raises(Unavailable, match=r"cannot be used: (File exists|Not a dir)") as met:
        await shelf.put("one", HEAD)
    assert str(tmp_path) not in str(met.value)


async def test_a_file_in_place_of_the_collections_folder_is_reported_by_each_call(
    tmp_path: Path,
) -> None:
    text(tmp_path / "collections")
    async with running(tmp_path / "collections") as store:
        with pytest.raises(Unavailable, match="cannot be used: File exists") as met:
            await store.create(Description("one", "m", SPACE, DIMS))
        assert str(tmp_path) not in str(met.value)


async def test_heads_leave_what_the_disk_keeps_free(tmp_path: Path) -> None:
    shelf = HeadStore(tmp_path, "detector", KnnAnomaly.from_bytes, reserve_bytes=2**62)
    with pytest.raises(DiskFull, match="are kept free"):
        await shelf.put("one", HEAD)
    assert names(tmp_path) == []


# ----------------------------------------------------------------- openings that are killed


async def test_a_collection_whose_openings_were_killed_is_opened_by_a_later_call(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every child dies when it opens `good`, as by the killer of a machine short of memory."""
    monkeypatch.setattr(edge_process, "_PAUSE_S", (0.0, 0.0))
    killing = data.parent / "killing"
    killing.touch()
    text(
        data.parent / "patched/sitecustomize.py",
        "import os, signal, sys\n"
        f"there = lambda: os.path.exists({str(killing)!r})\n"
        "def audit(event, given):\n"
        "    if event == 'open' and str(given[0]).endswith('good/collection.json') and there():\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.addaudithook(audit)\n",
    )
    monkeypatch.setenv("PYTHONPATH", str(data.parent / "patched"))
    async with running(data / "collections") as store:
        with pytest.raises(Unavailable, match=r"good is not open.*A later call"):
            await store.size(GOOD)
        await store.create(Description("other", "m", SPACE, DIMS))
        killing.unlink()
        assert await store.size(GOOD) == Size(2, 0)
        assert store.damaged == {}


async def test_a_builder_that_is_killed_leaves_nothing(data: Path) -> None:
    async with running(data / "collections") as store:
        killed = asyncio.create_task(_kill_a_builder())
        with pytest.raises(Unavailable, match="pack died"):
            await store.snapshot(GOOD)
        await killed
        (left,) = names(data / "snapshots/good")
        assert left.endswith(".zip")  # the one that was there


async def _kill_a_builder() -> None:
    while True:
        for child in psutil.Process().children():
            if "attar.server.collections.index_builder" in child.cmdline():
                child.kill()
                return
        await asyncio.sleep(0)


async def test_a_snapshot_without_a_collection_makes_none(data: Path) -> None:
    folder = data / "snapshots/good"
    for name, content in (("collection.json", "{}"), ("other", "")):
        with zipfile.ZipFile(folder / "new.zip", "w") as zipped:
            zipped.writestr(name, content)
        digest = hashlib.sha256((folder / "new.zip").read_bytes()).hexdigest()
        (folder / "new.zip").rename(folder / f"{digest}.zip")
        async with running(data / "collections") as store:
            with pytest.raises(Unavailable, match="does not hold a collection"):
                await store.restore("good", digest, to="made", replace=False)
            assert await store.names() == ["good"]
            with pytest.raises(NotFound):
                await store.describe("made")
