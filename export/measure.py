"""What is measured of a variant before it may enter a bundle: parity, probe, size and latency."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attar.host import describe
from attar.inputs import Prepared
from attar.manifest import Latency
from attar.runtime import Encoder, load

Probe = Callable[[Encoder], Mapping[str, float]]  # an evaluator that meets an encoder's embeddings only

LATENCY_RUNS, WARM_UP = 50, 5
BATCH = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One variant's figures; cosines are with the reference encoder's embeddings of the same items."""

    cosine_mean: float
    cosine_worst: float
    probe: Mapping[str, float]
    latency: Latency


def measure(
    bundle: Path,
    variant: str,
    rows: Sequence[Prepared],
    reference: NDArray[np.float32],
    probe: Probe | None,
) -> Measured:
    """Run a variant on prepared `rows` against `reference` (n, dim), and through the probe.

    Latency is measured on one thread, the rest on all.
    """
    encoder = load(bundle, variant=variant)
    vectors = np.concatenate([encoder.infer(rows[i : i + BATCH]) for i in range(0, len(rows), BATCH)])
    cosines = cosine(vectors, reference)
    return Measured(
        cosine_mean=float(cosines.mean()),
        cosine_worst=float(cosines.min()),
        probe=dict(probe(encoder)) if probe else {},
        latency=latency(bundle, variant, max(rows, key=lambda row: row.tokens)),
    )


def cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Give the cosine between rows of equal index, in float64: (n,)."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return np.einsum("nd,nd->n", x, y) / np.maximum(lengths, 1e-300)


def latency(bundle: Path, variant: str, row: Prepared, *, threads: int = 1) -> Latency:
    """Time one row alone, from tensors to embedding: the median of some runs after a few unread."""
    encoder = load(bundle, variant=variant, threads=threads)
    seconds = []
    for run in range(WARM_UP + LATENCY_RUNS):
        began = time.perf_counter()
        encoder.infer([row])
        if run >= WARM_UP:
            seconds.append(time.perf_counter() - began)
    return Latency(
        p50_ms=round(float(np.median(seconds)) * 1e3, 3),
        threads=threads,
        batch=1,
        length=row.tokens,
        host=str(describe()["cpu"]),
    )
