"""Search by four engines on one core: queries and inserts a second, recall@10, index time.

    python -m benchmarks.search --out benchmarks/results/search.json

About 8 minutes on two quiet cores, after the first run has built the rivals' environment in
build/search-rivals (from PyPI). 100,000 seeded vectors of 384 dims in 1,000 clusters, and queries
of the same clusters; recall is against every similarity in float64.

Each engine has one core and one thread, attar's server and its store together one; attar's client
has the other core, since clients do not share the server's. attar is asked over gRPC, the others
are called in their own process. With a filter, 1 % of the points match. Every HNSW graph has 16
links a node (32 on the ground layer), 100 candidates while it is built and 100 while it is asked.

What the others cannot do is said in their rows. usearch in Python takes no filter, so it is asked
for 1,000 neighbours, of which those that match are kept.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .environments import environment

ROOT = Path(__file__).parents[1]
RIVALS = ROOT / "build" / "search-rivals"
REQUIREMENTS = ("faiss-cpu==1.15.1", "numpy==2.3.5", "usearch==2.26.6")
DIMS, CLUSTERS, LIMIT, GROUPS, GROUP = 384, 1000, 10, 100, 7
LINKS, BUILDING, ASKING = 16, 100, 100
BATCH = 1000  # points of one insert
PACE_S = 0.02  # between two searches while the index is built
WIDE = 1000  # neighbours from which an engine without filters picks
NAME = "vectors"

Vectors = NDArray[np.float32]
Ids = list[list[int]]
Search = Callable[[Vectors, bool], Ids]  # (n, dims) queries, filtered or not: ids, best first


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """What is searched, and the right answers without and with the filter."""

    vectors: Vectors
    queries: Vectors
    best: Mapping[bool, list[set[int]]]


def unit(rows: NDArray[Any]) -> Vectors:
    """Give rows of unit length."""
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def make(points: int, queries: int) -> Data:
    """Draw clustered vectors and queries, and find the right answers one by one."""
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(CLUSTERS, DIMS))
    places = draw.integers(CLUSTERS, size=points + queries)
    rows = unit(centres[places] + 0.7 * draw.normal(size=(points + queries, DIMS)))
    vectors, asked = rows[:points], rows[points:]
    wide = vectors.T.astype(np.float64)
    best: dict[bool, list[set[int]]] = {False: [], True: []}
    for first in range(0, queries, 100):
        similar = asked[first : first + 100].astype(np.float64) @ wide
        for filtered in (False, True):
            if filtered:
                similar[:, np.arange(points) % GROUPS != GROUP] = -np.inf
            nearest = np.argpartition(-similar, LIMIT, axis=1)[:, :LIMIT]
            best[filtered] += [set(map(int, row)) for row in nearest]
    return Data(vectors=vectors, queries=asked, best=best)


def measure(search: Search, data: Data, *, filtered: bool, seconds: float) -> dict[str, float]:
    """Ask one query at a time, every query at least once, for at least so long."""
    search(data.queries[:10], filtered)  # warms up
    found: Ids = []
    asked, start = 0, time.perf_counter()
    while asked < len(data.queries) or time.perf_counter() - start < seconds:
        query = asked % len(data.queries)
        (ids,) = search(data.queries[query : query + 1], filtered)
        if asked < len(data.queries):
            found.append(ids)
        asked += 1
    taken = time.perf_counter() - start
    return {
        "queries_per_second": round(asked / taken, 1),
        "recall_at_10": recall(found, data, filtered),
    }


def recall(results: Ids, data: Data, filtered: bool) -> float:
    """Give the share of the right answers that were found."""
    best = data.best[filtered]
    return round(
        sum(len({*ids} & right) for ids, right in zip(results, best, strict=True))
        / (LIMIT * len(best)),
        4,
    )


def rows_of(
    engine: str, search: Search, data: Data, seconds: float, **same: object
) -> Iterator[dict[str, object]]:
    """Give an engine's row without the filter, and with it."""
    for filtered in (False, True):
        measured = measure(search, data, filtered=filtered, seconds=seconds)
        yield {"engine": engine, "filter": "1 %" if filtered else "none", **measured, **same}


# ------------------------------------------------------------------ engines in their own process


def edge_rows(data: Data, seconds: float) -> Iterator[dict[str, object]]:
    """Qdrant Edge, called directly, before and after its index is built."""
    import qdrant_edge as edge

    match = edge.FieldCondition(key="group", match=edge.MatchAny([str(GROUP)]))
    where = edge.Filter(must=[match])

    def search(queries: Vectors, filtered: bool) -> Ids:
        return [
            [
                int(str(point.id))
                for point in shard.query(
                    edge.QueryRequest(
                        limit=LIMIT,
                        query=edge.Query.Nearest(query.tolist()),
                        filter=where if filtered else None,
                    )
                )
            ]
            for query in queries
        ]

    with tempfile.TemporaryDirectory() as folder:
        vectors = edge.EdgeVectorParams(size=DIMS, distance=edge.Distance.Cosine)
        shard = edge.EdgeShard.create(folder, edge.EdgeConfig(vectors=vectors))
        shard.update(
            edge.UpdateOperation.create_field_index("group", edge.PayloadSchemaType.Keyword)
        )
        start = time.perf_counter()
        for first in range(0, len(data.vectors), BATCH):
            points = [
                edge.Point(first + i, row.tolist(), {"group": str((first + i) % GROUPS)})
                for i, row in enumerate(data.vectors[first : first + BATCH])
            ]
            shard.update(edge.UpdateOperation.upsert_points(points))
        rate = round(len(data.vectors) / (time.perf_counter() - start), 1)
        yield from rows_of("Qdrant Edge, exact", search, data, seconds, inserts_per_second=rate)
        start = time.perf_counter()
        shard.optimize()
        built = round(time.perf_counter() - start, 1)
        yield from rows_of(
            "Qdrant Edge, HNSW", search, data, seconds, inserts_per_second=rate, index_seconds=built
        )
        shard.close()


def faiss_rows(data: Data, seconds: float) -> Iterator[dict[str, object]]:
    """Faiss's HNSW, whose filter skips what it may not give while it walks the graph."""
    import faiss  # type: ignore[import-not-found]

    faiss.omp_set_num_threads(1)
    index = faiss.IndexHNSWFlat(DIMS, LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = BUILDING
    start = time.perf_counter()
    for first in range(0, len(data.vectors), BATCH):
        index.add(data.vectors[first : first + BATCH])
    rate = round(len(data.vectors) / (time.perf_counter() - start), 1)
    chosen = np.arange(GROUP, len(data.vectors), GROUPS)
    plain = faiss.SearchParametersHNSW(efSearch=ASKING)
    only = faiss.SearchParametersHNSW(efSearch=ASKING, sel=faiss.IDSelectorBatch(chosen))

    def search(queries: Vectors, filtered: bool) -> Ids:
        ids = index.search(queries, LIMIT, params=only if filtered else plain)[1]
        found: Ids = ids.tolist()
        return found

    yield from rows_of("faiss, HNSW", search, data, seconds, inserts_per_second=rate)


def usearch_rows(data: Data, seconds: float) -> Iterator[dict[str, object]]:
    """usearch, from whose many neighbours those that match are kept."""
    from usearch.index import Index  # type: ignore[import-not-found]

    index = Index(
        ndim=DIMS,
        metric="cos",
        dtype="f32",
        connectivity=LINKS,
        expansion_add=BUILDING,
        expansion_search=ASKING,
    )
    start = time.perf_counter()
    for first in range(0, len(data.vectors), BATCH):
        rows = data.vectors[first : first + BATCH]
        index.add(np.arange(first, first + len(rows)), rows, threads=1)
    rate = round(len(data.vectors) / (time.perf_counter() - start), 1)

    def search(queries: Vectors, filtered: bool) -> Ids:
        found: Ids = []
        for query in queries:
            keys = index.search(query, WIDE if filtered else LIMIT, threads=1).keys.tolist()
            found.append([k for k in keys if k % GROUPS == GROUP][:LIMIT] if filtered else keys)
        return found

    yield from rows_of("usearch, HNSW", search, data, seconds, inserts_per_second=rate)


ENGINES = {"edge": edge_rows, "faiss": faiss_rows, "usearch": usearch_rows}


def be(job: Mapping[str, Any]) -> None:
    """Be an engine: print its rows."""
    hold(0)
    data = make(job["points"], job["queries"])
    for row in ENGINES[job["engine"]](data, job["seconds"]):
        print(json.dumps(row), flush=True)


def ask(python: Path, **job: object) -> list[dict[str, object]]:
    """Run an engine's process and give its rows."""
    command = [str(python), "-m", "benchmarks.search", "--child", json.dumps(job)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        rows = []
        for line in child.stdout or ():
            rows.append(json.loads(line))
            print(rows[-1], flush=True)
    if child.returncode:
        sys.exit(f"{job['engine']} ended with status {child.returncode}")
    return rows


# ------------------------------------------------------------------ attar, over gRPC


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Run attar's server on one core; its store's process and its builders inherit that."""
    from .support.bundles import tiny_bundle

    bundle = tiny_bundle(folder / "tiny.attar", dim=DIMS)
    ready = folder / "port"
    command = [sys.executable, "-m", "attar.server", str(bundle), "--threads", "1"]
    command += ["--data-dir", str(folder / "data"), "--ready-file", str(ready), "--port", "0"]
    command += ["--metrics-port", "off", "--http-port", "off", "--index-after", "0"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, stderr=log, preexec_fn=lambda: hold(0))  # noqa: PLW1509 (no threads yet)
        try:
            while not ready.exists():
                if server.poll() is not None:
                    sys.exit((folder / "log").read_text("utf-8"))
                time.sleep(0.05)
            yield f"127.0.0.1:{ready.read_text('utf-8').strip()}"
        finally:
            server.terminate()
            server.wait(60)


def attar_rows(
    data: Data, seconds: float, folder: Path
) -> tuple[list[dict[str, object]], dict[str, object]]:
    """Attar's server, before and after the index is built, and what went on meanwhile."""
    from attar import Client

    hold(1)
    rows: list[dict[str, object]] = []
    with serving(folder) as target, Client(target) as client:
        space = client.create_collection(NAME).fingerprint
        start = time.perf_counter()
        for first in range(0, len(data.vectors), BATCH):
            some = data.vectors[first : first + BATCH]
            ids = range(first, first + len(some))
            payloads = [{"group": i % GROUPS} for i in ids]
            client.upsert(NAME, ids, vectors=some, fingerprint=space, payloads=payloads)
        rate = round(len(data.vectors) / (time.perf_counter() - start), 1)

        def search(queries: Vectors, filtered: bool) -> Ids:
            where = {"group": GROUP} if filtered else None
            found = client.search(
                NAME,
                vectors=queries,
                fingerprint=space,
                limit=LIMIT,
                filter=where,
                with_payload=False,
            )
            return [[int(hit.id) for hit in hits] for hits in found.hits]

        def batched(name: str, **same: object) -> Iterator[dict[str, object]]:
            for filtered in (False, True):
                many = [data.queries[i : i + 32] for i in range(0, len(data.queries), 32)]
                start = time.perf_counter()
                found = [ids for queries in many for ids in search(queries, filtered)]
                taken = time.perf_counter() - start
                yield {
                    "engine": f"{name}, 32 queries a call",
                    "filter": "1 %" if filtered else "none",
                    "queries_per_second": round(len(found) / taken, 1),
                    "recall_at_10": recall(found, data, filtered),
                    **same,
                }

        def add_rows(more: Iterator[dict[str, object]]) -> None:
            for row in more:
                rows.append(row)
                print(row, flush=True)

        add_rows(rows_of("attar over gRPC, exact", search, data, seconds, inserts_per_second=rate))
        building = asyncio.run(build_while_searching(target, data, space))
        add_rows(
            rows_of(
                "attar over gRPC, HNSW",
                search,
                data,
                seconds,
                inserts_per_second=rate,
                index_seconds=building["seconds"],
            )
        )
        add_rows(batched("attar over gRPC, HNSW", inserts_per_second=rate))
        fresh = searchable(client, space)
    return rows, {"while_the_index_is_built": building, "acknowledged_to_searchable": fresh}


async def build_while_searching(target: str, data: Data, space: str) -> dict[str, float]:
    """Build the index, and meanwhile search at a pace that leaves the builder some of the core."""
    from attar import AsyncClient

    async with AsyncClient(target) as client:
        start = time.perf_counter()
        building = asyncio.ensure_future(client.optimize(NAME, deadline_s=1200))
        waits: list[float] = []
        while not building.done():
            query = data.queries[len(waits) % len(data.queries)][None]
            began = time.perf_counter()
            await client.search(NAME, vectors=query, fingerprint=space, limit=LIMIT)
            waits.append(time.perf_counter() - began)
            await asyncio.sleep(PACE_S)
        described = await building
        taken = time.perf_counter() - start
    milliseconds = np.array(waits) * 1000
    return {
        "seconds": round(taken, 1),
        "indexed": described.indexed,
        "searches_answered": len(waits),
        "search_p50_ms": round(float(np.percentile(milliseconds, 50)), 2),
        "search_p99_ms": round(float(np.percentile(milliseconds, 99)), 2),
        "search_longest_ms": round(float(milliseconds.max()), 2),
    }


def searchable(client: Any, space: str, *, trials: int = 200) -> dict[str, float]:
    """Write one point at a time, and from its acknowledgement on search until it is found."""
    waits, searches = [], 0
    rows = unit(np.random.default_rng(1).normal(size=(trials, DIMS)))
    for i, row in enumerate(rows[:, None]):
        client.upsert(NAME, [10**9 + i], vectors=row, fingerprint=space)
        acknowledged = time.perf_counter()
        while True:
            searches += 1
            found = client.search(NAME, vectors=row, fingerprint=space, limit=1)
            if found[0][0].id == 10**9 + i:
                break
        waits.append((time.perf_counter() - acknowledged) * 1000)
    return {
        "points": trials,
        "searches_until_found": searches,
        "p50_ms": round(float(np.percentile(waits, 50)), 2),
        "p99_ms": round(float(np.percentile(waits, 99)), 2),
    }


# ------------------------------------------------------------------ the run


def hold(core: int) -> None:
    """Keep this process, and what it starts, to one core, where there are as many."""
    cores = sorted(os.sched_getaffinity(0)) if len(os.sched_getaffinity(0)) > 1 else [0]
    os.sched_setaffinity(0, {cores[core % len(cores)]})


def main() -> None:
    """Measure every engine, one after the other, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "search.json")
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement, at least")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        be(arguments.child)
        return
    from attar.host import describe

    job = {"points": arguments.points, "queries": arguments.queries, "seconds": arguments.seconds}
    theirs, machine = environment(RIVALS, REQUIREMENTS), describe()
    rows = ask(Path(sys.executable), engine="edge", **job)
    rows += ask(theirs, engine="faiss", **job)
    rows += ask(theirs, engine="usearch", **job)
    data = make(arguments.points, arguments.queries)
    with tempfile.TemporaryDirectory() as folder:
        own, more = attar_rows(data, arguments.seconds, Path(folder))
    print(more)
    report = {
        "command": "python -m benchmarks.search --out benchmarks/results/search.json",
        "machine": machine,
        "versions": {"qdrant-edge-py": version("qdrant-edge-py"), "rivals": list(REQUIREMENTS)},
        "points": arguments.points,
        "dims": DIMS,
        "queries": arguments.queries,
        "rows": [*own, *rows],
        **more,
    }
    arguments.out.write_text(json.dumps(report, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
