"""Attacks on what was acknowledged: lost power, kills, and what a bad disk does to files."""

import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Final

import psutil

from attar import Client
from attar.errors import AttarError
from tests.bundles import tiny_bundle
from tests.faults.ground import served

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
                asked = pool.submit(_asked, client)
                kills += _kill_children(server.server.process.pid)
                asked.result()
        points, met = _within(lambda: client.count(NAME, deadline_s=10), 20)
        note = f"{kills} kills; then {points} of 100 points, {met} calls after the last"
        return server.outcome(held=points == 100, note=note)


def _asked(client: Client) -> None:
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


ATTACKS: Final = (
    Attack("power lost after an answer", power_lost),
    Attack("the store killed whenever it opens", openings_killed),
)
