"""Attacks on what was acknowledged: lost power, kills, and what a bad disk does to files."""

import hashlib
import os
import random
import signal
import socket
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

import numpy as np
import psutil

from attar import Client
from attar.errors import AttarError

from ..faults.ground import served
from ..faults.seen import NotRun
from ..support.bundles import tiny_bundle
from .ground import Attack, Outcome, attacked
from .power import lose, recorded

NAME: Final = "docs"
CALLERS: Final = 4
CALLS: Final = 8  # of each caller
POINTS: Final = 4  # of each call


def power_lost(folder: Path) -> Outcome:
    """Start on what the disk had when the last answer came, as lost power leaves it."""
    disk = folder / "disk"
    bundle = tiny_bundle(folder / "tiny.attar")
    with attacked(folder, bundle=bundle, environment=recorded(disk)) as server:
        with Client(server.server.target) as client:
            client.create_collection(NAME)
            _upsert_at_once(client)
            client.delete_points(NAME, [0, 1])
            client.snapshot(NAME)
            client.fit_anomaly("detector", [f"the cat {i}" for i in range(40)])
        lost = lose(disk, folder / "data", folder / "after" / "data")
        outcome = server.outcome(held=True, note="")
    with served(lost.parent, bundle) as after, Client(after.target) as client:
        there = client.retrieve(NAME, range(CALLERS * CALLS * POINTS))
        expected = set(range(2, CALLERS * CALLS * POINTS))
        kept = (len(client.snapshots(NAME)), len(client.detectors()))
        held = {point.id for point in there} == expected and kept == (1, 1)
    return Outcome(
        held=outcome.held and held,
        peak_mb=outcome.peak_mb,
        others_p99_ms=outcome.others_p99_ms,
        note=f"the disk had {len(there)} of {len(expected)} points, {kept[0]} of 1 snapshot and"
        f" {kept[1]} of 1 detector; 2 points had been deleted",
    )


def _upsert_at_once(client: Client) -> None:
    def calls(caller: int) -> None:
        for call in range(CALLS):
            first = (caller * CALLS + call) * POINTS
            ids = range(first, first + POINTS)
            client.upsert(NAME, ids, [f"the cat {i}" for i in ids])

    with ThreadPoolExecutor(CALLERS) as pool:
        list(pool.map(calls, range(CALLERS)))


def openings_killed(folder: Path) -> Outcome:
    """Kill the store's process, and each that follows while it opens, for two seconds."""
    with attacked(folder) as server, Client(server.server.target) as client:
        client.create_collection(NAME)
        client.upsert(NAME, range(100), [f"the cat {i}" for i in range(100)])
        kills, ends = 0, time.monotonic() + 2
        with ThreadPoolExecutor(1) as pool:
            while time.monotonic() < ends:
                asked = pool.submit(_count, client)
                kills += _kill_children(server.server.process.pid)
                asked.result()
        points, met = _within(lambda: client.count(NAME, deadline_s=10), 20)
        note = f"{kills} kills; then {points} of 100 points, {met} calls after the last"
        return server.outcome(held=points == 100, note=note)


def _count(client: Client) -> None:
    with suppress(AttarError):
        client.count(NAME, deadline_s=1)


def _kill_children(pid: int) -> int:
    """Kill what there is, and what starts within a fifth of a second."""
    killed, ends = 0, time.monotonic() + 0.2
    while time.monotonic() < ends:
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(pid).children():
                child.send_signal(signal.SIGKILL)
                killed += 1
    return killed


def _within(ask: Callable[[], int], seconds: float) -> tuple[int | None, int]:
    """Ask until there is an answer; give it, and how many calls that took."""
    ends = time.monotonic() + seconds
    for calls in count(1):
        try:
            return ask(), calls
        except AttarError:
            if time.monotonic() > ends:
                return None, calls
            time.sleep(0.1)
    raise AssertionError


def bits_flipped(folder: Path) -> Outcome:
    """Flip one bit in files of five of six collections, and of a detector, while nothing runs."""
    draw = random.Random(0)
    bundle = tiny_bundle(folder / "tiny.attar")
    names = [f"docs-{i}" for i in range(6)]
    with served(folder, bundle) as server, Client(server.target) as client:
        for name in names:
            client.create_collection(name)
            client.upsert(name, range(50), [f"the cat {i}" for i in range(50)])
        client.fit_anomaly("detector", [f"the cat {i}" for i in range(40)])
        server.end()
    for name in names[1:]:
        shard = next((folder / "data/collections" / name).glob("shard-*"))
        files = [path for path in sorted(shard.rglob("*")) if path.is_file()]
        _flip(draw.choice([path for path in files if path.stat().st_blocks]), draw)
    _flip(folder / "data/anomaly/detector.npz", draw)
    with attacked(folder, bundle=bundle) as under, Client(under.server.target) as client:
        messages = [_outcome(partial(client.count, name)) for name in names]
        head = _outcome(lambda: client.score_anomaly("detector", ["the cat"]))
        good = messages[0] == "50" and all("files are not as they" in each for each in messages[1:])
        hidden = not any(str(folder) in each for each in (*messages, head))
        note = (
            f"the whole one has {messages[0]} points; of the others: {messages[1]}; "
            f"of the detector: {head}"
        )
        return under.outcome(held=good and hidden and "is damaged" in head, note=note)


def _flip(path: Path, draw: random.Random) -> None:
    content = np.fromfile(path, np.uint8)
    at = draw.choice(np.flatnonzero(content).tolist() or [0])
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes([int(content[at]) ^ 1 << draw.randrange(8)]))


def _outcome(ask: Callable[[], object]) -> str:
    """Give the answer, or what the error says to a caller."""
    try:
        return str(ask())
    except AttarError as error:
        return str(error).partition("\n")[0]


def folder_spoiled(folder: Path) -> Outcome:
    """Put what file managers, kills and bad disks leave into the data folder, and start on it."""
    bundle = tiny_bundle(folder / "tiny.attar")
    with served(folder, bundle) as server, Client(server.target) as client:
        client.create_collection(NAME)
        client.upsert(NAME, range(4), [f"the cat {i}" for i in range(4)])
        client.snapshot(NAME)
        client.fit_anomaly("detector", [f"the cat {i}" for i in range(40)])
        server.end()
    data = folder / "data"
    spoilt = _spoil(data)
    with attacked(folder, bundle=bundle) as under, Client(under.server.target) as client:
        points, snapshots = client.count(NAME), len(client.snapshots(NAME))
        client.score_anomaly("detector", ["the cat"])
        messages = [_outcome(partial(client.count, name)) for name in spoilt]
        held = (points, snapshots) == (4, 1) and all("is damaged" in each for each in messages)
        hidden = not any(str(data) in each for each in messages)
        note = f"{points} points, {snapshots} snapshot; {len(messages)} damaged ones: {messages[0]}"
        return under.outcome(held=held and hidden, note=note)


def _spoil(data: Path) -> list[str]:
    """Give the names of what is a collection in name only."""
    collections, snapshots, heads = (
        data / "collections",
        data / f"snapshots/{NAME}",
        data / "anomaly",
    )
    for path in (collections / ".DS_Store", snapshots / ".DS_Store", data / "snapshots/file"):
        path.write_bytes(b"a file manager's")
    (collections / ".link").symlink_to(data)
    (snapshots / f"{'0' * 64}.zip").symlink_to("nowhere")
    (collections / "lost+found").mkdir()
    (collections / os.fsdecode(b"\xff")).mkdir()
    os.mkfifo(heads / "pipe.npz")
    (heads / "folder.npz").mkdir()
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(f"{heads}/s.npz" if len(str(heads)) < 90 else "\0attar-attack")
    (collections / "file").write_bytes(b"")
    (collections / "loop").symlink_to("loop")
    os.mkfifo(collections / "pipe")
    (collections / "empty").mkdir()
    for name, content in (("nothing", b""), ("deep", b"[" * 100_000), ("list", b"[]")):
        (collections / name).mkdir()
        (collections / name / "collection.json").write_bytes(content)
    (collections / "piped").mkdir()
    os.mkfifo(collections / "piped/collection.json")
    return ["file", "loop", "pipe", "empty", "nothing", "deep", "list", "piped"]


def snapshots_tampered(folder: Path) -> Outcome:
    """Restore a flipped snapshot, and zips that have the right names and hold no collection."""
    with attacked(folder) as server, Client(server.server.target) as client:
        client.create_collection(NAME)
        client.upsert(NAME, range(4), [f"the cat {i}" for i in range(4)])
        kept = client.snapshot(NAME)
        snapshots = folder / f"data/snapshots/{NAME}"
        _flip(snapshots / f"{kept.id}.zip", random.Random(1))
        ids = [kept.id, *(_named(snapshots, members) for members in _ZIPS)]
        messages = [_outcome(partial(client.restore, NAME, one, to="made")) for one in ids]
        names = [one.name for one in client.collections()]
        left = [path.name for path in (folder / "data/collections").iterdir()]
        held = names == [NAME] and sorted(left) == [".lock", NAME]
        held = held and all("snapshot" in each or "disk" in each for each in messages)
        hidden = not any(str(folder) in each for each in messages)
        note = f"{len(messages)} were refused, none left anything: {' | '.join(messages)}"
        return server.outcome(held=held and hidden, note=note)


_DESCRIBED: Final = (
    b'{"schema_version": 2, "name": "x", "model": "m", "fingerprint": "f", "dims": 16,'
    b' "quantization": "none", "shard": "shard-x"}'
)
_ZIPS: Final[tuple[Mapping[str, bytes], ...]] = (
    {},
    {"collection.json": b"{}"},
    {"../../out": b"x"},
    {"/tmp/attar-attack": b"x"},
    {"collection.json/x": b"x", "collection.json": b"{}"},
    {
        "collection.json": b'{"schema_version": 2, "name": "x", "model": "m", "fingerprint": "f",'
        b' "dims": 16, "quantization": "none", "shard": "shard-x"}',
        "shard-x/edge_config.json": b"{}",
    },
)


def _named(folder: Path, members: Mapping[str, bytes]) -> str:
    """Write a zip under the hash of its bytes, and give its id."""
    making = folder / "making"
    with zipfile.ZipFile(making, "w") as zipped:
        for name, content in members.items():
            zipped.writestr(name, content)
    digest = hashlib.sha256(making.read_bytes()).hexdigest()
    making.rename(folder / f"{digest}.zip")
    return digest


def heads_on_a_full_disk(folder: Path) -> Outcome:
    """Fit heads and make collections where less is free than must be."""
    with attacked(folder, "--min-free-bytes", 2**60) as server:
        with Client(server.server.target) as client:
            texts = [f"the cat {i}" for i in range(40)]
            messages = [
                _outcome(lambda: client.fit_anomaly("detector", texts)),
                _outcome(lambda: client.fit_classifier("classifier", texts, ["a", "b"] * 20)),
                _outcome(lambda: client.create_collection(NAME)),
            ]
        left = [*(folder / "data/anomaly").iterdir(), *(folder / "data/classifiers").iterdir()]
        held = not left and all("are kept free" in each for each in messages)
        return server.outcome(held=held, note=f"all refused: {messages[0]}")


def disk_turned_read_only(folder: Path) -> Outcome:
    """Let nothing be made in the folders of a server that has them open, and let it again."""
    texts = [f"the cat {i}" for i in range(40)]
    folders = [folder / "data" / one for one in ("collections", "anomaly", f"snapshots/{NAME}")]
    with attacked(folder) as server, Client(server.server.target) as client:
        client.create_collection(NAME)
        client.upsert(NAME, range(40), texts)
        client.snapshot(NAME)
        with _immutable(folders):
            messages = [
                _outcome(partial(client.create_collection, "other")),
                _outcome(partial(client.fit_anomaly, "detector", texts)),
                _outcome(partial(client.snapshot, NAME)),
            ]
            points = client.count(NAME)
        client.create_collection("other")
        client.fit_anomaly("detector", texts)
        said = all("cannot be used" in each for each in messages)
        hidden = not any(str(folder) in each for each in messages)
        note = f"{points} of 40 points were there meanwhile; {messages[0]}"
        return server.outcome(held=said and hidden and points == 40, note=note)


@contextmanager
def _immutable(folders: Sequence[Path]) -> Iterator[None]:
    """Have the file system refuse every new, renamed and removed name in folders."""
    change = ("chattr", "-f")
    try:
        subprocess.run([*change, "+i", *folders], check=True)
        yield
    except (OSError, subprocess.CalledProcessError) as error:
        raise NotRun(f"folders cannot be made immutable here: {error}") from error
    finally:
        with suppress(OSError):
            subprocess.run([*change, "-i", *folders], check=False)


def descriptors_spent(folder: Path) -> Outcome:
    """Leave the server and its store no descriptor more than they have, and then give them some."""
    with attacked(folder) as server, Client(server.server.target) as client:
        client.create_collection(NAME)
        client.upsert(NAME, range(4), ["the cat"] * 4)
        parent = psutil.Process(server.server.process.pid)
        for process in (parent, *parent.children()):
            had = process.rlimit(psutil.RLIMIT_NOFILE)
            process.rlimit(psutil.RLIMIT_NOFILE, (process.num_fds(), had[1]))
        messages = [
            _outcome(partial(client.upsert, NAME, range(4, 8), ["the cat"] * 4)),
            _outcome(partial(client.create_collection, "other")),
            _outcome(partial(client.snapshot, NAME)),
        ]
        for process in (parent, *parent.children()):
            process.rlimit(psutil.RLIMIT_NOFILE, had)
        client.upsert(NAME, range(4, 8), ["the cat"] * 4)
        client.create_collection("other")
        points = client.count(NAME)
        said = all("cannot be used: Too many open files" in each for each in messages)
        hidden = not any(str(folder) in each for each in messages)
        note = f"{points} of 8 points afterwards; {' | '.join(dict.fromkeys(messages))}"
        return server.outcome(held=said and hidden and points == 8, note=note)


ATTACKS: Final = (
    Attack("power lost after an answer", power_lost),
    Attack("the store killed whenever it opens", openings_killed),
    Attack("bits flipped in collections and a head", bits_flipped),
    Attack("a spoilt data folder", folder_spoiled),
    Attack("tampered snapshots", snapshots_tampered),
    Attack("heads on a full disk", heads_on_a_full_disk),
    Attack("a disk turned read-only", disk_turned_read_only),
    Attack("no descriptors left", descriptors_spent),
)
