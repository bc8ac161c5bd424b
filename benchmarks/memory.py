"""Memory: how soon a server of MiniLM int8 is ready, what it takes, and that it does not grow.

    python -m benchmarks.memory --minutes 10 --out benchmarks/results/memory.json

Ready is the time from the start of the process to its first answered embedding, the median of
five starts. Then one server is kept busy for `--minutes`, 10 by default, which stand for an hour:
at full load it answers in ten minutes what a server at a sixth of its capacity does in one hour.
The requests are those that leave things behind where anything does: texts that never come twice,
alone and in batches, in each encoding, by calls and by connections that are new every few seconds,
some refused, some abandoned before their answer. Memory is sampled all the while; the slope is a
line's through what came after the first fifth, in which allocators and caches fill.
"""

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from attar.bundle import Bundle
from attar.host import describe
from attar.v1 import embedding_pb2

from .load import Address, responses
from .processes import Cores, Running, attar_command, half_of_the_cores, running
from .traces import minilm, texts

STARTS, CLIENTS = 5, 32
EVERY_S = 5.0  # seconds between two samples, and the life of a client's connection
HOUR = 6  # times the minutes of the run that its requests stand for
EMBED = "/attar.v1.Embedding/Embed"


@contextmanager
def serving(bundle: Path, cores: Cores) -> Iterator[tuple[Running, Address, float]]:
    """Run a server; give its process, its address, and how long its first answer took."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        command = attar_command(bundle, "int8", scratch, threads=len(cores.server))
        with running(command, cores=cores, log=scratch / "log") as server:
            server.wait_until((scratch / "ready").exists)
            port = int((scratch / "ready").read_text("utf-8"))
            address = Address(port=port, path=EMBED, grpc=True)
            asyncio.run(responses(address, [request(["a first text"])], clients=1))
            yield server, address, server.wait_until(lambda: True)


def request(items: Sequence[str], encoding: int = 0) -> bytes:
    """Encode one request."""
    message = embedding_pb2.EmbedRequest(encoding=encoding)  # type: ignore[arg-type]
    message.texts.values.extend(items)
    return message.SerializeToString()


def starts(bundle: Path, cores: Cores, warm_up: Sequence[bytes]) -> dict[str, Any]:
    """Start a server several times; give medians of time and memory."""
    ready, loaded, warm = [], [], []
    for _ in range(STARTS):
        with serving(bundle, cores) as (server, address, seconds):
            ready.append(seconds)
            loaded.append(server.rss_mb())
            asyncio.run(responses(address, warm_up, clients=CLIENTS))
            warm.append(server.rss_mb())
    return {
        "starts": STARTS,
        "ready_s": round(statistics.median(ready), 2),
        "ready_s_of_each": [round(seconds, 2) for seconds in ready],
        "rss_after_load_mb": statistics.median(loaded),
        "rss_after_warm_up_mb": statistics.median(warm),
    }


def mixture(trace: Sequence[str], client: int) -> Iterator[tuple[bytes, float | None]]:
    """Give requests without end, and the seconds after which some of them are abandoned."""
    draw = np.random.default_rng(client)
    for number in range(2**62):
        size = int(draw.choice((1, 1, 1, 1, 4, 16)))
        # A word of its own makes each text one that was never asked before.
        chosen = [f"{client} {number} {trace[i]}" for i in draw.integers(0, len(trace), size)]
        kind = draw.random()
        if kind < 0.02:  # refused: it has no items
            yield request([]), None
        elif kind < 0.06:
            yield request(chosen), float(draw.uniform(0.001, 0.05))
        else:
            yield request(chosen, int(draw.integers(0, 5))), None


async def hour(
    server: Running, address: Address, trace: Sequence[str], *, seconds: float
) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Keep the server busy; give samples of its memory, and what became of the requests."""
    done: Counter[str] = Counter()
    samples: list[dict[str, Any]] = []
    end = time.perf_counter() + seconds

    async def client(number: int) -> None:
        coming = mixture(trace, number)
        while time.perf_counter() < end:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{address.port}") as channel:
                ask: Any = channel.unary_unary(address.path)
                renewed = time.perf_counter() + EVERY_S
                while time.perf_counter() < min(end, renewed):
                    message, deadline = next(coming)
                    try:
                        await ask(message, timeout=deadline or 60)
                        done["answered"] += 1
                    except grpc.aio.AioRpcError as error:
                        done[error.code().name.lower()] += 1

    async def watch() -> None:
        began = time.perf_counter()
        while (now := time.perf_counter()) < end:
            samples.append(
                {
                    "s": round(now - began, 1),
                    "rss_mb": server.rss_mb(),
                    "answered": done["answered"],
                }
            )
            await asyncio.sleep(min(EVERY_S, seconds / 20))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(watch())
        for number in range(CLIENTS):
            tasks.create_task(client(number))
    return samples, done


def growth(samples: Sequence[dict[str, Any]], seconds: float) -> dict[str, float]:
    """Fit a line to the samples after the first fifth."""
    settled = [one for one in samples if one["s"] >= seconds / 5]
    at = np.array([one["s"] for one in settled])
    rss = np.array([one["rss_mb"] for one in settled])
    slope, start = np.polyfit(at, rss, 1)
    last = rss[at >= 0.8 * seconds]
    first = rss[at <= 0.4 * seconds]
    return {
        "slope_mb_per_minute": round(float(slope) * 60, 3),
        "scatter_mb": round(float((rss - slope * at - start).std()), 2),
        "second_fifth_mb": round(float(first.mean()), 1),
        "last_fifth_mb": round(float(last.mean()), 1),
        "peak_mb": float(rss.max()),
    }


def main() -> None:
    """Measure and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/memory.json"))
    parser.add_argument("--minutes", type=float, default=10.0)
    arguments = parser.parse_args()
    cores = half_of_the_cores()
    bundle = minilm()
    trace = texts(Bundle.open(bundle).read("tokenizer.json").decode(), 512)
    os.sched_setaffinity(0, cores.clients)
    found = starts(bundle, cores, [request([text]) for text in trace])
    print(json.dumps(found), flush=True)
    seconds = arguments.minutes * 60
    with serving(bundle, cores) as (server, address, _):
        samples, done = asyncio.run(hour(server, address, trace, seconds=seconds))
    grown = growth(samples, seconds)
    print(json.dumps({**grown, **done}), flush=True)
    report = {
        "command": "python -m benchmarks.memory --minutes 10 --out benchmarks/results/memory.json",
        "machine": describe(),
        "model": "all-MiniLM-L6-v2, int8",
        "threads": len(cores.server),
        **found,
        "minutes": arguments.minutes,
        "stands_for_minutes": arguments.minutes * HOUR,
        "clients": CLIENTS,
        "requests": dict(done),
        **grown,
        "rows": samples,
    }
    arguments.out.write_text(json.dumps(report, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
