"""Burst memory: what a server holds before, in and after bursts of very large requests.

    python -m benchmarks.burst_memory --out benchmarks/results/burst_memory.json

One server of two made models, of texts and of images, is sent one small request of each kind and
then bursts, some calls at once: many long texts, one very long text, texts that are refused for
their number, images as bytes and as JSON's numbers, a long filter. Memory is the resident size of
the server's own process: before a burst, at most in it, and `SETTLE_S` after it.
"""

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import httpx
import numpy as np
import psutil

from attar import Client
from attar.errors import AttarError
from attar.host import describe

from .support.bundles import tiny_bundle, tiny_tensor_bundle
from .support.servers import free_port, process

AT_ONCE: Final = 4
SETTLE_S: Final = 10.0
SHAPE: Final = (3, 64, 64)
DEADLINE_S: Final = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where a server answers."""

    target: str
    url: str

    @contextmanager
    def client(self) -> Iterator[Client]:
        """Give a connection of its own; what is refused is no matter here."""
        with Client(self.target) as client, suppress(AttarError):
            yield client

    def post(self, path: str, body: Mapping[str, Any]) -> None:
        """Send JSON, and take the whole answer."""
        httpx.post(f"{self.url}{path}", json=body, timeout=DEADLINE_S)


Burst = Callable[[Server, float], None]


def texts_of(count: float, characters: float) -> list[str]:
    """Give that many texts of words."""
    text = "the cat sat on the mat " * max(1, int(characters / 23))
    return [f"{number} {text}" for number in range(max(1, int(count)))]


def images(count: float) -> np.ndarray:
    """Give that many images."""
    return np.full((max(1, int(count)), *SHAPE), 0.5, np.float32)


def long_texts(server: Server, part: float) -> None:
    """Send 200 texts of 7,000 characters by gRPC."""
    with server.client() as client:
        client.embed(texts_of(200 * part, 7000), model="tiny", deadline_s=DEADLINE_S)


def long_texts_by_http(server: Server, part: float) -> None:
    """Send them as OpenAI's clients do."""
    texts = texts_of(200 * part, 7000)
    server.post("/v1/embeddings", {"model": "tiny", "input": texts, "truncate": True})


def one_text(server: Server, part: float) -> None:
    """Send one text of 400,000 characters."""
    with server.client() as client:
        client.embed(texts_of(1, 400_000 * part), model="tiny", deadline_s=DEADLINE_S)


def many_texts(server: Server, part: float) -> None:
    """Send 500,000 texts of one character, more than a request may have."""
    with server.client() as client:
        client.embed(["a"] * max(1, int(500_000 * part)), model="tiny", deadline_s=DEADLINE_S)


def pixels(server: Server, part: float) -> None:
    """Send 300 images as bytes."""
    with server.client() as client:
        client.embed(images(300 * part), model="tiny-image", deadline_s=DEADLINE_S)


def numbers(server: Server, part: float) -> None:
    """Send 100 images as JSON's numbers."""
    given = images(100 * part)
    values = given.reshape(-1).tolist()
    tensor = {"name": "image", "shape": given.shape, "datatype": "FP32", "data": values}
    server.post("/v2/models/tiny-image/infer", {"inputs": [tensor]})


def filters(server: Server, part: float) -> None:
    """Count by a filter of 20,000 values."""
    values = [f"value {number}" for number in range(max(1, int(20_000 * part)))]
    with server.client() as client:
        client.count("docs", filter={"about": values}, deadline_s=DEADLINE_S)


BURSTS: Final[Mapping[str, Burst]] = MappingProxyType(
    {
        "200 texts of 7,000 characters, gRPC": long_texts,
        "the same as JSON, HTTP": long_texts_by_http,
        "one text of 400,000 characters": one_text,
        "500,000 texts, refused": many_texts,
        "300 images of 48 KB, gRPC": pixels,
        "100 of them as JSON, HTTP": numbers,
        "a filter of 20,000 values": filters,
    }
)


def main() -> None:
    """Start a server, send the bursts, and write what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out: Path = parser.parse_args().out
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder, web = Path(name), free_port()
        bundles = (
            tiny_bundle(folder / "tiny.attar", max_length=64),
            tiny_tensor_bundle(folder / "image.attar", shape=SHAPE),
        )
        arguments = [*map(str, bundles), f"--http-port={web}", f"--data-dir={folder / 'data'}"]
        arguments += ["--port=0", "--metrics-port=off", "--threads=1"]
        with process(*arguments, ready_file=folder / "ready") as (started, port):
            server = Server(target=f"127.0.0.1:{port}", url=f"http://127.0.0.1:{web}")
            report = measure(server, psutil.Process(started.pid))
    report["machine"] = describe()
    out.write_text(json.dumps(report, indent=2) + "\n", "utf-8")


def measure(server: Server, process: psutil.Process) -> dict[str, Any]:
    """Send every burst; give megabytes before, in and after each."""
    with server.client() as client:
        client.create_collection("docs", model="tiny")
        client.upsert("docs", [1], ["the cat"])
    for burst in BURSTS.values():
        burst(server, 0.001)
    base = megabytes(process)
    rows = []
    for name, burst in BURSTS.items():
        before = megabytes(process)
        with watched(process) as seen, ThreadPoolExecutor(AT_ONCE) as pool:
            for one in [pool.submit(burst, server, 1.0) for _ in range(AT_ONCE)]:
                one.result()
        at_once = megabytes(process)
        time.sleep(SETTLE_S)
        after = megabytes(process)
        row = {"burst": name, "calls": AT_ONCE, "before_mb": before, "peak_mb": max(seen)}
        rows.append({**row, "at_its_end_mb": at_once, "after_mb": after})
        print(rows[-1], flush=True)
    return {"before_all_mb": base, "settle_s": SETTLE_S, "rows": rows}


def megabytes(process: psutil.Process) -> float:
    """Give the resident size of the process."""
    return round(float(process.memory_info().rss) / 1e6, 1)


@contextmanager
def watched(process: psutil.Process) -> Iterator[list[float]]:
    """Sample the resident size a hundred times a second while the block runs."""
    seen, done = [megabytes(process)], threading.Event()

    def look() -> None:
        while not done.wait(0.01):
            seen.append(megabytes(process))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        done.set()
        watcher.join()


if __name__ == "__main__":
    main()
