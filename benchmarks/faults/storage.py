"""Storage: what was acknowledged, after kills, on a full disk and under a clock that jumps."""

import asyncio
import itertools
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np
import psutil

from attar import Client
from attar.errors import AttarError, DiskFull, Unavailable

from ..support.bundles import tiny_bundle
from ..support.crashes import BATCH, rounds
from .asking import Judged, ask, channel
from .ground import Server, Truth, harmed_bundle, served, truth, unique_texts
from .seen import NotRun, Seen

_COLLECTION: Final = "docs"
_POINTS: Final = 64  # of one upsert
_DISK_MB: Final = 512
_STEP: Final = 16 * 2**20  # bytes that a stranger writes at a time
_CALLERS: Final = 4
_DAY: Final = 86400
_JUMPS: Final = (0, _DAY, -_DAY, 3650 * _DAY, -3650 * _DAY, 3600, -1, 0)  # seconds


def killed(folder: Path, *, count: int = 3) -> Seen:
    """Kill -9 in the middle of upserts, then another server on the same folder."""
    seen = list(rounds(tiny_bundle(folder / "tiny.attar"), folder, count=count, seed=1))
    acknowledged = sum(one.acknowledged for one in seen) * BATCH
    torn = max(one.torn + one.partial for one in seen)
    lost = max(one.lost for one in seen)
    return Seen(
        requests=acknowledged,
        answered=acknowledged - lost,
        wrong=torn,
        lost=lost,
        note=f"{count} kills at random moments; counted in points that were acknowledged",
    )


def store_killed(folder: Path, *, kills: int = 5) -> Seen:
    """Kill -9 of the collections' own process while the server goes on."""
    bundle = harmed_bundle(folder / "tiny.attar")
    judged, written, times = Judged(), list[int](), list[float]()
    with served(folder, bundle) as server, Client(server.target) as client:
        client.create_collection(_COLLECTION)
        batches = itertools.count()
        for _ in range(kills):
            for _ in range(5):
                _upsert(client, next(batches), written, judged)
            for child in psutil.Process(server.process.pid).children(recursive=True):
                child.kill()
            start = time.perf_counter()
            _upsert(client, next(batches), written, judged)  # the client asks again by itself
            times.append(time.perf_counter() - start)
        _look_for(client, written, judged)
        if not server.alive:
            judged.lost.append("the server ended")
    return judged.seen(
        f"{kills} kills; the next upsert took {max(times):.1f} s at most, with the client's own "
        f"retries; {len(written)} acknowledged points were looked for"
    )


def disk_full(folder: Path) -> Seen:
    """Another program fills the disk that the collections are on, and leaves it again."""
    bundle = harmed_bundle(folder / "tiny.attar")
    data = folder / "data"
    data.mkdir()
    mount = f'mount -t tmpfs -o size={_DISK_MB}m tmpfs "$0" && exec "$@"'
    within = ("unshare", "--mount", "--map-root-user", "sh", "-c", mount, str(data))
    if subprocess.run([*within, "true"], capture_output=True, check=False).returncode:
        raise NotRun("a disk of its own cannot be mounted here (unshare, mount -t tmpfs)")
    judged, written = Judged(), list[int]()
    texts = unique_texts(_POINTS)
    expected = truth(bundle, texts)
    reserve = ("--min-free-bytes", 64 * 2**20)
    with served(folder, bundle, *reserve, within=within) as server, Client(server.target) as client:
        inside = Path(f"/proc/{server.process.pid}/root{data.resolve()}")
        ballast = inside / "ballast"
        client.create_collection(_COLLECTION)
        batches = itertools.count()
        with ballast.open("wb", buffering=0) as stranger:
            while _filled(stranger):
                _upsert(client, next(batches), written, judged, full=True)
        for _ in range(20):
            _upsert(client, next(batches), written, judged, full=True)
        if not judged.refused:
            judged.wrong.append("nothing was refused on a full disk")
        asyncio.run(_embed_all(server, texts, expected, judged))
        try:
            _look_for(client, written, judged)
            reads = "and so did search"
        except DiskFull:
            reads = (
                "searches were refused likewise: the engine had met the last byte, ended, and is"
                " opened again when there is room"
            )
        full_with = len(written)
        ballast.unlink()
        for _ in range(5):
            _upsert(client, next(batches), written, judged)
        _look_for(client, written, judged)
        _copy_at_once(server, inside, folder / "after" / "data")
    with served(folder / "after", bundle) as server, Client(server.target) as client:
        _look_for(client, written, judged)
    return judged.seen(
        f"{_DISK_MB} MB of tmpfs, filled to the last byte by another program: "
        f"{judged.refused['RESOURCE_EXHAUSTED']} upserts were refused with DISK_FULL; embedding "
        f"went on, {reads}; all {full_with} points acknowledged till then were there with the disk "
        f"freed, {len(written)} with those of after, and in another server on a copy of the folder"
    )


def clock_moved(folder: Path, *, library: Path | None = None) -> Seen:
    """The wall clock jumps by days and years, there and back; `library` is libfaketime's."""
    if library is None:
        raise NotRun("libfaketime is not here; python -m benchmarks.faults fetches it from Debian")
    bundle = harmed_bundle(folder / "tiny.attar")
    texts = unique_texts(200)
    expected = truth(bundle, texts)
    clock = folder / "clock"
    clock.write_text("+0\n", "utf-8")
    (folder / "patched").mkdir()
    (folder / "patched" / "sitecustomize.py").write_text(_SLEEP, "utf-8")
    faked = {
        "PYTHONPATH": str(folder / "patched"),
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",  # it reads the file no more often: every look costs
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    judged, written = Judged(), list[int]()
    with (
        served(folder, bundle, "--log-level", "debug", environment=faked) as server,
        Client(server.target) as client,
    ):
        client.create_collection(_COLLECTION)
        batches = itertools.count()

        async def run() -> None:
            async with channel(server) as to:
                for jump in _JUMPS:
                    jumped = asyncio.Event()
                    async with asyncio.TaskGroup() as tasks:
                        for first in range(_CALLERS):
                            tasks.create_task(
                                _ask_until(jumped, to, texts[first:], expected, judged)
                            )
                        _replace(clock, f"{jump:+d}\n")
                        for _ in range(3):
                            await asyncio.sleep(0.5)  # in which it is sure to have jumped
                            batch = next(batches)
                            await asyncio.to_thread(_upsert, client, batch, written, judged)
                        jumped.set()

        asyncio.run(run())
        days = _days(server)
        _look_for(client, written, judged)
        if (ended := server.end()) != 0:
            judged.wrong.append(f"the exit code is {ended}")
    with served(folder, bundle) as server, Client(server.target) as client:
        _look_for(client, written, judged)
    if len(days) < 2:
        judged.wrong.append(f"libfaketime has moved no clock: the log knows {days} only")
    return judged.seen(
        f"{len(_JUMPS)} jumps, of a second to ten years, both ways, with calls in flight; the log "
        f"has {len(days)} days; {len(written)} points written meanwhile were there, and after a "
        "restart by the true clock"
    )


# libfaketime 0.9.10, set to leave the monotonic clock alone, fails every sleep by that clock with
# EINVAL, whatever the time is; select by the same clock it leaves alone.
_SLEEP: Final = """
import select, time
time.sleep = lambda seconds: select.select([], [], [], seconds) and None
"""


def _copy_at_once(server: Server, data: Path, copy: Path) -> None:
    """Copy a folder as it is at one moment: as a kill would leave it."""
    parent = psutil.Process(server.process.pid)
    family = [parent, *parent.children(recursive=True)]
    for one in family:
        one.suspend()
    try:
        shutil.copytree(data, copy)
    finally:
        for one in family:
            one.resume()


async def _ask_until(
    jumped: asyncio.Event,
    to: grpc.aio.Channel,
    texts: Sequence[str],
    expected: Truth,
    judged: Judged,
) -> None:
    for text in itertools.cycle(texts):
        await ask(to, [text], expected, judged)
        if jumped.is_set():
            return


def _replace(file: Path, text: str) -> None:
    """Write a file so that a reader never meets half of it."""
    later = file.with_name("later")
    later.write_text(text, "utf-8")
    later.replace(file)


def _days(server: Server) -> set[str]:
    """Give the days on which the log was written, by the server's own clock."""
    lines = server.log.read_text("utf-8").splitlines()
    return {line[:10] for line in lines if re.match(r"\d{4}-\d\d-\d\d ", line)}


def _filled(stranger: Any) -> bool:
    """Write a step more, or what fits; tell whether there was room for all of it."""
    try:
        return bool(stranger.write(b"\0" * _STEP) == _STEP)
    except OSError:
        return False


def _upsert(
    client: Client, batch: int, written: list[int], judged: Judged, *, full: bool = False
) -> bool:
    """Write one batch and judge the answer; with `full` it may be DISK_FULL."""
    points = range(batch * _POINTS, (batch + 1) * _POINTS)
    judged.requests += 1
    try:
        client.upsert(_COLLECTION, points, unique_texts(_POINTS, first=points[0]), deadline_s=20)
    except DiskFull as error:
        if full:
            judged.refused["RESOURCE_EXHAUSTED"] += 1
        else:
            judged.wrong.append(repr(error))
        return False
    except Unavailable as error:
        judged.lost.append(repr(error))
        return False
    except AttarError as error:
        judged.wrong.append(repr(error))
        return False
    judged.answered += 1
    written.extend(points)
    return True


def _look_for(client: Client, written: Sequence[int], judged: Judged) -> None:
    """Ask for every acknowledged point, with its vector, and for its like."""
    for some in np.array_split(np.array(written), max(1, len(written) // 512)):
        ids = [int(one) for one in some]
        expected = client.embed([unique_texts(1, first=one)[0] for one in ids]).vectors
        there = {
            point.id: point.vector for point in client.retrieve(_COLLECTION, ids, with_vectors=True)
        }
        for point, vector in zip(ids, expected, strict=True):
            if point not in there:
                judged.lost.append(f"point {point} was acknowledged and is gone")
            elif (kept := there[point]) is None or not np.allclose(kept, vector, atol=1e-5):
                judged.wrong.append(f"point {point} has another vector than its text")
    if written:
        first = written[0]
        found = client.search(_COLLECTION, unique_texts(1, first=first), limit=1)[0]
        if not found or found[0].score < 1 - 1e-4:
            judged.wrong.append(f"a search for the text of point {first} finds {found}")


async def _embed_all(server: Server, texts: Sequence[str], expected: Truth, judged: Judged) -> None:
    async with channel(server) as to:
        await asyncio.gather(*(ask(to, [text], expected, judged) for text in texts))
