"""Durability: what it costs in upserts a second that a write is on the disk before its answer.

    python -m benchmarks.durability --out benchmarks/results/durability.json

The store in its own process, as the server runs it, is sent upserts of one vector by one caller and
by sixteen, with `durability` "synced" and "written" in turns of the same run, so that other work on
the machine meets both. Rates are the medians of the turns; the disk is that of the working folder.
"""

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import Any, Final

import numpy as np

from attar.host import describe
from attar.server.collections.edge_process import Durability, StoreProcess
from attar.server.collections.store import Description

DIMS: Final = 384
CALLERS: Final = (1, 16)
SETTINGS: Final[tuple[Durability, ...]] = ("synced", "written")
ROWS: Final = np.random.default_rng(0).normal(size=(1024, DIMS)).astype(np.float32)
DOCS: Final = Description("docs", "model", "sha256:space", DIMS)


async def rate(store: StoreProcess, ids: "count[int]", *, callers: int, seconds: float) -> float:
    """Give upserts a second, of one point each, by `callers` that each wait for their answer."""
    began = time.perf_counter()
    done = 0

    async def call() -> None:
        nonlocal done
        while time.perf_counter() < began + seconds:
            point = next(ids)
            row = ROWS[point % len(ROWS)][None]
            await store.upsert(DOCS, [point], row, [{"text": f"note {point}"}])
            done += 1

    await asyncio.gather(*(call() for _ in range(callers)))
    return done / (time.perf_counter() - began)


async def measure(folder: Path, *, turns: int, seconds: float) -> list[dict[str, Any]]:
    """Give a row for each number of callers."""
    stores = {of: StoreProcess(folder / of / "collections", durability=of) for of in SETTINGS}
    ids = count()
    for store in stores.values():
        await store.create(DOCS)
        await rate(store, ids, callers=1, seconds=seconds / 4)  # warms up
    rows = []
    for callers in CALLERS:
        rates: dict[str, list[float]] = {of: [] for of in SETTINGS}
        for _ in range(turns):
            for of, store in stores.items():
                rates[of].append(await rate(store, ids, callers=callers, seconds=seconds))
        synced, written = (statistics.median(rates[of]) for of in SETTINGS)
        row = {
            "callers": callers,
            "synced_per_s": round(synced, 1),
            "written_per_s": round(written, 1),
            "ratio": round(synced / written, 3),
        }
        print(json.dumps(row), flush=True)
        rows.append(row)
    for store in stores.values():
        await store.close()
    return rows


def main() -> None:
    """Measure, print a row for each number of callers, and write them."""
    parser = argparse.ArgumentParser(description="Measure what a synced answer costs.")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each turn")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix=".durability-", dir=Path.cwd()) as folder:
        rows = asyncio.run(measure(Path(folder), turns=given.turns, seconds=given.seconds))
    results = {
        "machine": describe(),
        "load_average": round(os.getloadavg()[0], 1),
        "dims": DIMS,
        "turns": given.turns,
        "seconds": given.seconds,
        "rows": rows,
    }
    if given.out is not None:
        given.out.write_text(f"{json.dumps(results, indent=2)}\n", "utf-8")


if __name__ == "__main__":
    main()
