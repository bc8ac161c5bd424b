"""What was acknowledged is there, and damage is reported."""

import asyncio
import errno
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from attar.errors import Unavailable
from attar.server.collections import edge_process
from attar.server.collections.edge_process import StoreProcess
from attar.server.collections.qdrant_edge import sync_log
from attar.server.collections.store import Description, Size
from benchmarks.attacks.durability import descriptors_spent, power_lost, snapshots_tampered
from benchmarks.attacks.ground import Outcome

# The kinds of the other attacks are held without a server, by test_data_folder.py and test_sums.py.
ATTACKS = (power_lost, snapshots_tampered, descriptors_spent)


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(each, marks=[pytest.mark.slow] * (each is descriptors_spent))
        for each in ATTACKS
    ],
    ids=lambda attack: attack.__name__,
)
def test_an_acknowledgement_means_what_the_page_says(
    attack: Callable[[Path], Outcome], tmp_path: Path
) -> None:
    outcome = attack(tmp_path)

    assert outcome.held, outcome.note


async def test_writes_that_wait_at_the_same_time_share_a_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await asyncio.to_thread(StoreProcess, tmp_path / "collections", reserve_bytes=0)
    docs = Description("docs", "m", "sha256:space", 4)
    await store.create(docs)
    logs, go = list[Path](), threading.Event()

    def sync(folder: Path) -> None:
        logs.append(folder)
        go.wait()
        sync_log(folder)

    monkeypatch.setattr(edge_process, "sync_log", sync)
    rows = np.eye(4, dtype=np.float32)
    writes = [asyncio.create_task(store.upsert(docs, [i], rows[:1], [{}])) for i in range(16)]
    while await store.size(docs) != Size(16, 0):
        pass
    assert not any(write.done() for write in writes)  # none is answered before a sync
    go.set()
    await asyncio.gather(*writes)
    assert logs == [tmp_path / "collections" / "docs"] * 2  # the first's, and all the others'
    await store.close()


async def test_a_disk_that_fails_to_sync_is_reported_and_blocks_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await asyncio.to_thread(StoreProcess, tmp_path / "collections", reserve_bytes=0)
    docs = Description("docs", "m", "sha256:space", 4)
    await store.create(docs)

    def fail(folder: Path) -> None:
        raise OSError(errno.EIO, "Input/output error", str(folder))

    rows = np.eye(4, dtype=np.float32)
    with monkeypatch.context() as patched:
        patched.setattr(edge_process, "sync_log", fail)
        with pytest.raises(Unavailable, match="cannot be used: Input/output error") as met:
            await store.upsert(docs, [1], rows[:1], [{}])
    assert str(tmp_path) not in str(met.value)
    await store.upsert(docs, [1], rows[:1], [{}])
    assert await store.size(docs) == Size(1, 0)
    await store.close()
