"""The server of the demo, and what a client does with it: search and classes."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import attar
from attar.client import Client
from attar.errors import Unavailable
from attar.training.data.pairs import Split
from attar.training.sampler import evenly

FIT_ITEMS = 2000  # documents that a classifier is fitted on
COMPARED = 200  # pairs, whose vectors must be those of the device runtime
START_S = 60

Row = dict[str, object]


@contextmanager
def server(bundles: Sequence[Path], data: Path) -> Iterator[str]:
    """Serve bundles on a free port in another process, with fresh data; stop it at the end."""
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True)
    ready = data / "port"
    command = [sys.executable, "-m", "attar.server", *map(str, bundles), "--port", "0"]
    command += ["--metrics-port", "off", "--http-port", "off"]
    command += ["--data-dir", str(data / "data"), "--ready-file", str(ready)]
    with (data / "log.txt").open("w") as log:
        process = subprocess.Popen(command, stderr=log)
        try:
            deadline = time.monotonic() + START_S
            while not (ready.exists() and ready.read_text()):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise Unavailable(f"the server did not start; see {data / 'log.txt'}")
                time.sleep(0.05)
            yield f"127.0.0.1:{int(ready.read_text())}"
        finally:
            process.terminate()
            process.wait(timeout=60)


def search(client: Client, model: str, splits: Split) -> Row:
    """Upsert the bodies, and search for the held-out summaries."""
    documents = [*splits.held_out, *splits.train]
    client.create_collection("docstrings", model=model)
    began = time.perf_counter()
    client.upsert_all(
        "docstrings",
        (
            (index, pair.body, {"name": pair.name, "package": pair.package})
            for index, pair in enumerate(documents)
        ),
    )
    seconds = time.perf_counter() - began
    results = client.search("docstrings", [pair.summary for pair in splits.held_out], limit=10)
    ranked = [[hit.id for hit in hits] for hits in results.hits]
    at_1, at_10 = (
        float(np.mean([index in ids[:k] for index, ids in enumerate(ranked)])) for k in (1, 10)
    )
    return {"recall_at_1": at_1, "recall_at_10": at_10, "upsert_seconds": round(seconds, 1)}


def parity(client: Client, model: str, bundle: Path, splits: Split) -> Row:
    """Compare the vectors that come over gRPC with those of the device runtime."""
    texts = [text for pair in splits.held_out[:COMPARED] for text in (pair.summary, pair.body)]
    remote = client.embed(texts, model=model)
    local = attar.load(bundle, variant=remote.variant).embed(texts)
    return {
        "max_abs_difference": float(np.abs(remote.vectors - local.vectors).max()),
        "items": len(texts),
        "variant": remote.variant,
    }


def classify(client: Client, model: str, splits: Split) -> Row:
    """Fit the package of origin on bodies to train on, and predict it of the held-out ones."""
    train = evenly(splits.train, FIT_ITEMS)
    client.fit_classifier(
        "package", [pair.body for pair in train], [pair.package for pair in train], model=model
    )
    truth = [pair.package for pair in splits.held_out]
    predicted = client.classify("package", [pair.body for pair in splits.held_out]).labels
    accuracy = float(np.mean([a == b for a, b in zip(predicted, truth, strict=True)]))
    majority = max(truth.count(package) for package in set(truth)) / len(truth)
    return {"accuracy": accuracy, "majority": majority}
