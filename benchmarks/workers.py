"""Workers: what a second process behind the same port gains, for a small model and a larger one.

    python -m benchmarks.workers --out benchmarks/results/workers.json

About 4 minutes. The server and its clients share all cores, for on half of two a second worker has
nothing to gain; the clients are the same for both: a process for each core, with 8 connections, 4
requests at once in each, and one text a request. Workers share the cores out as threads. One and
two workers take turns, and the median of the rounds counts.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from attar.bundle import Bundle
from attar.host import describe
from attar.v1 import embedding_pb2

from .load import Address, Seen, again_and_again, closed
from .overhead import EMBED
from .processes import Cores, attar_command, every_core, running
from .traces import minilm, texts, word_vectors

ROUNDS, TEXTS = 5, 512
SECONDS, WARM_S = 6.0, 1.5
CONNECTIONS, AT_ONCE = 8, 4  # of each process of clients; requests at once in each


def ask(job: dict[str, Any]) -> None:
    """Be one process of clients; print how many requests a second were answered."""
    requests = []
    for text in json.loads(Path(job["trace"]).read_text("utf-8")):
        message = embedding_pb2.EmbedRequest()
        message.texts.values.append(text)
        requests.append(message.SerializeToString())
    address = Address(port=job["port"], path=EMBED, grpc=True)
    coming = iter(again_and_again(requests))

    async def every() -> list[Seen]:
        loop = partial(closed, address, coming, clients=AT_ONCE, warm_s=WARM_S, seconds=SECONDS)
        return await asyncio.gather(*(loop() for _ in range(CONNECTIONS)))

    seen = asyncio.run(every())
    whole = Seen(took=[took for one in seen for took in one.took])
    print(json.dumps({"answered": len(whole.took), **whole.percentiles()}))


def measure(bundle: Path, variant: str, trace: Path, cores: Cores, workers: int) -> dict[str, Any]:
    """Start a server with so many workers and load it once."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        threads = max(1, len(cores.server) // workers)
        command = attar_command(bundle, variant, scratch, threads=threads)
        with running([*command, "--workers", str(workers)], cores=cores, log=scratch / "log") as it:
            it.wait_until((scratch / "ready").exists)
            job = {"port": int((scratch / "ready").read_text("utf-8")), "trace": str(trace)}
            before = it.cpu_s()
            clients = [
                subprocess.Popen(
                    [sys.executable, "-m", "benchmarks.workers", "--child", json.dumps(job)],
                    stdout=subprocess.PIPE,
                    text=True,
                )
                for _ in cores.clients
            ]
            reports = [json.loads(one.communicate()[0]) for one in clients]
            spent = it.cpu_s() - before
            answered = sum(one["answered"] for one in reports)
            return {
                "requests_per_second": answered / SECONDS,
                "server_cores_busy": spent / (SECONDS + WARM_S),
                "p50_ms": max(one["p50_ms"] for one in reports),
                "p99_ms": max(one["p99_ms"] for one in reports),
                "rss_mb": it.rss_mb(),
            }


def median(of: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Give the median of each figure."""
    return {name: round(statistics.median(one[name] for one in of), 3) for name in of[0]}


def main() -> None:
    """Measure both models with one worker and with two, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/workers.json"))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        ask(arguments.child)
        return
    cores = every_core()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        bundle = minilm()
        words = Bundle.open(bundle).read("tokenizer.json")
        tiny = word_vectors(Path(folder) / "tiny.attar", words)
        trace = Path(folder) / "trace.json"
        trace.write_text(json.dumps(texts(words.decode(), TEXTS)), "utf-8")
        for model, path, variant in (
            ("word vectors", tiny, "fp32"),
            ("all-MiniLM-L6-v2", bundle, "int8"),
        ):
            seen: dict[int, list[dict[str, Any]]] = {1: [], 2: []}
            for _ in range(arguments.rounds):
                for workers, of in seen.items():
                    of.append(measure(path, variant, trace, cores, workers))
            for workers, of in seen.items():
                rows.append({"model": model, "variant": variant, "workers": workers, **median(of)})
                print(rows[-1], flush=True)
    report = {
        "command": "python -m benchmarks.workers --out benchmarks/results/workers.json",
        "machine": describe(),
        "rounds": arguments.rounds,
        "rows": rows,
    }
    arguments.out.write_text(json.dumps(report, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
