"""Kill -9 rounds against a whole server: what was acknowledged to a client must be there."""

import random
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attar.client import Client
from attar.errors import AttarError

from .servers import process

BATCH = 16  # points an upsert
LOOK = 64  # batches looked at in one call
COLLECTION = "docs"
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True, slots=True)
class Round:
    """What one round saw; the next server is asked, after the kill, through its front door."""

    acknowledged: int  # batches, in this round
    lost: int  # acknowledged points that are gone, of all rounds so far
    torn: int  # points with another payload or vector than was written under their id
    partial: int  # batches that are there in part


def rounds(bundle: Path, folder: Path, *, count: int, seed: int) -> Iterator[Round]:
    """Upsert until a server is killed at some moment, start another, and look; `count` times.

    The server that is looked at takes the upserts of the next round.
    """
    draw = random.Random(seed)
    before = written = attempted = 0
    for number in range(count + 1):
        with start(bundle, folder / f"port-{number}", folder / "data") as (server, client):
            if number == 0:
                client.create_collection(COLLECTION)
            else:
                yield inspect(client, written=written, attempted=attempted, before=before)
            if number == count:
                return
            before = written
            timer = threading.Timer(draw.uniform(0.05, 0.6), server.kill)
            timer.start()
            try:
                while True:
                    attempted = max(attempted, written + 1)
                    upsert(client, written)
                    written += 1
            except AttarError:
                timer.join()


@contextmanager
def start(
    bundle: Path, ready_file: Path, data: Path
) -> Iterator[tuple[subprocess.Popen[str], Client]]:
    """Run a server in a process of its own, with a client."""
    arguments = [str(bundle), "--port", "0", "--metrics-port", "off", "--data-dir", str(data)]
    with (
        process(*arguments, ready_file=ready_file) as (server, port),
        Client(f"127.0.0.1:{port}") as client,
    ):
        yield server, client


def upsert(client: Client, batch: int) -> None:
    """Write one batch: texts and payloads that both follow from the ids."""
    ids = range(batch * BATCH, (batch + 1) * BATCH)
    payloads = [{"text": text_of(point)} for point in ids]
    client.upsert(
        COLLECTION, ids, [text_of(point) for point in ids], payloads=payloads, deadline_s=5
    )


def text_of(point: int) -> str:
    """Give the text of a point; texts of different points have different embeddings."""
    return " ".join(WORDS[digit] for digit in map(int, str(point)))


def inspect(client: Client, *, written: int, attempted: int, before: int) -> Round:
    """Ask for every id that was ever sent, and compare."""
    lost = torn = partial = 0
    for first in range(0, attempted, LOOK):
        batches = range(first, min(first + LOOK, attempted))
        ids = range(batches.start * BATCH, batches.stop * BATCH)
        points = {int(p.id): p for p in client.retrieve(COLLECTION, ids, with_vectors=True)}
        for batch in batches:
            there = sum(point // BATCH == batch for point in points)
            lost += (BATCH - there) * (batch < written)
            partial += 0 < there < BATCH
        if points:
            expected = client.embed([text_of(point) for point in points]).vectors
            for (point, stored), vector in zip(points.items(), expected, strict=True):
                assert stored.vector is not None
                same = stored.payload == {"text": text_of(point)}
                torn += not (same and np.allclose(stored.vector, vector, atol=1e-6))
    return Round(acknowledged=written - before, lost=lost, torn=torn, partial=partial)
