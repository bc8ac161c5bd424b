"""An operator finds out what a disk has damaged, without a server and before it is used."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from attar import Client
from attar.server.collections.checksums import SUMS_FILE
from attar.server.collections.qdrant_edge import EdgeStore
from benchmarks.support.bundles import tiny_bundle
from benchmarks.support.servers import serving, settings

from ..support.commands import Attar

KEY: Final = "somebody-0123456789"
KEYS: Final = f"""
[[keys]]
name = "somebody"
key = "{KEY}"
scopes = ["infer", "write", "admin"]
items_per_day = 1000
"""
# Of each kind of file that has a checksum: one of its files, and what is said of what it holds.
KINDS: Final = {
    "collections/docs/collection.json": "collection docs: damaged: collection.json",
    f"collections/docs/{SUMS_FILE}": f"collection docs: damaged: {SUMS_FILE} is not as it was",
    "collections/docs/shard-*/segments/*/**/chunk_0.mmap": "collection docs: damaged: 1 of its",
    "snapshots/docs/*.zip": "of collection docs: damaged: its bytes hash to",
    "anomaly/normal.npz": "detector normal: damaged: ",
    "classifiers/topics.npz": "classifier topics: damaged: ",
    "usage": "usage of keys: damaged: 1 keys",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the data folder of a server that was stopped, with one thing of each kind."""
    folder = tmp_path_factory.mktemp("served")
    (keys := folder / "keys.toml").write_text(KEYS, "utf-8")
    chosen = settings(tiny_bundle(folder / "tiny.attar"), data_dir=folder / "data", keys_file=keys)
    with serving(chosen) as target, Client(target, key=KEY) as client:
        client.create_collection("docs")
        client.upsert("docs", range(40), [f"cat {i}" for i in range(40)])
        client.snapshot("docs")
        client.fit_anomaly("normal", collection="docs")
        client.fit_classifier("topics", ["the cat", "the sun"], ["animal", "sky"])
    return folder / "data"


@contextmanager
def flipped(path: Path) -> Iterator[None]:
    """Turn a bit of the byte in the middle of what a file has that is no zero."""
    whole = path.read_bytes()
    written = [at for at, byte in enumerate(whole) if byte]
    at = written[len(written) // 2]
    with path.open("r+b") as file:
        for byte in (whole[at] ^ 1, whole[at]):
            file.seek(at)
            file.write(bytes([byte]))
            file.flush()
            if byte != whole[at]:
                yield


def test_a_folder_without_damage_is_whole_and_stays_as_it_is(data: Path, attar_: Attar) -> None:
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}

    ran = attar_("check", data)

    assert (ran.status, ran.out.count("\n"), ran.out.count(": whole\n")) == (0, 5, 5), ran.out
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_of_each_kind_of_file_is_named(kind: str, data: Path, attar_: Attar) -> None:
    with flipped(next(iter(data.glob(kind)))):
        ran = attar_("check", data)

    assert ran.status == 1
    assert KINDS[kind] in ran.out
    assert (ran.out.count("damaged: "), ran.out.count(": whole\n")) == (1, 4), ran.out


def test_what_was_being_written_when_its_server_was_killed_is_not_called_whole(
    data: Path, attar_: Attar
) -> None:
    sums = data / "collections/docs" / SUMS_FILE
    kept = sums.rename(data / "kept")
    ran = attar_("check", data)
    kept.rename(sums)

    assert ran.status == 0
    assert "collection docs: not compared: it was being written to" in ran.out


def test_a_shard_that_is_gone_is_damage_without_checksums_too(data: Path, attar_: Attar) -> None:
    (shard,) = (data / "collections/docs").glob("shard-*")
    sums = data / "collections/docs" / SUMS_FILE
    gone, kept = shard.rename(data / "gone"), sums.rename(data / "kept")
    ran = attar_("check", data)
    gone.rename(shard)
    kept.rename(sums)

    assert ran.status == 1
    assert f"collection docs: damaged: its shard {shard.name} is missing" in ran.out


def test_a_folder_that_a_server_has_open_or_that_is_none_is_refused(
    data: Path, attar_: Attar
) -> None:
    store = EdgeStore(data / "collections", reserve_bytes=0)
    ran = attar_("check", data)
    store.close()
    assert (ran.status, ran.out) == (2, "")
    assert "a server has these collections open" in ran.err

    ran = attar_("check", data / "nothing")
    assert ran.status == 2
    assert "is no folder; give a server's data_dir" in ran.err
