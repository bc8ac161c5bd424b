"""What is measured of a variant before it may enter a bundle, through the device runtime alone."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from attar.bench import bench, time_runs
from attar.host import describe
from attar.inputs import Prepared
from attar.manifest import Latency
from attar.runtime import Encoder, load
from attar.trial_inputs import check, length_of

if TYPE_CHECKING:  # it imports torch, which `attar verify` and `attar inspect` need not
    from .tokens import TokenReference

Probe = Callable[[Encoder], Mapping[str, float]]
"""An evaluator of an encoder by its embeddings; it does not know which variant it meets."""

BATCH = 32
SINGLES = 64  # rows that are also run alone
LEAST_TOLERANCE = 1e-6  # what float32 unit vectors differ by between two kernels or CPUs
LATENCY_SECONDS = 0.5  # that one item is repeated for on one thread
ALL_THREADS_SECONDS = 0.1  # in its own process, whose start costs more


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenParity:
    """The cosines of a variant's token vectors with the reference encoder's of the same tokens."""

    cosine_mean: float
    cosine_worst: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One variant's figures.

    Cosines are with the reference encoder's embeddings of the same items, and in `tokens` with its
    token vectors, if the bundle has them. `tolerance` is the most
    that a number of an embedding moved with its batch-mates, rounded up to one digit. `peak_mb` is
    the peak memory of a process that loads the variant and runs its longest item, Python and all;
    None where the system does not tell.
    """

    cosine_mean: float
    cosine_worst: float
    tolerance: float
    probe: Mapping[str, float]
    latency: Latency
    latency_all_threads: Latency
    peak_mb: float | None
    tokens: TokenParity | None = None


def measure(
    bundle: Path,
    variant: str,
    rows: Sequence[Prepared],
    reference: NDArray[np.float32],
    probe: Probe | None,
    *,
    tokens: "TokenReference | None" = None,
) -> Measured:
    """Run a variant on prepared `rows` against `reference` (n, dim), and through the probe.

    Its token vectors are compared with those of `tokens`, where the bundle has any. The least and
    the largest item that the manifest allows run first, as when a server warms up.
    Rows are run in shuffled batches, so that text shares them with padding, and some alone.
    Raises BackendError when a row becomes NaN or infinite, or when the process dies in which
    memory is measured.
    """
    encoder = load(bundle, variant=variant)
    check(encoder)
    order = np.random.default_rng(0).permutation(len(rows))
    batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    vectors = np.empty((len(rows), encoder.dim), np.float32)
    for batch in batches:
        vectors[batch] = encoder.infer([rows[i] for i in batch])
    vectors = encoder.finish(vectors)
    some = order[:SINGLES]
    alone = np.concatenate([encoder.infer([rows[i]]) for i in some])
    cosines = cosine(vectors, reference)
    longest = max(rows, key=lambda row: row.tokens)
    all_threads, peak_mb = in_a_process(encoder, longest)
    return Measured(
        cosine_mean=float(cosines.mean()),
        cosine_worst=float(cosines.min()),
        tolerance=tolerance(float(np.abs(alone - vectors[some]).max())),
        probe=dict(probe(encoder)) if probe else {},
        latency=latency(bundle, variant, longest),
        latency_all_threads=all_threads,
        peak_mb=peak_mb,
        tokens=None if tokens is None else _token_parity(encoder, tokens),
    )


def _token_parity(encoder: Encoder, tokens: "TokenReference") -> TokenParity:
    batches = (tokens.rows[i : i + BATCH] for i in range(0, len(tokens.rows), BATCH))
    parts = [part for batch in batches for part in encoder.infer_tokens(batch)]
    vectors = np.concatenate(parts)
    encoder.finish_tokens(vectors)
    directed = tokens.vectors.any(axis=1)  # one of zeros has no direction to compare
    cosines = cosine(vectors[directed], tokens.vectors[directed])
    return TokenParity(cosine_mean=float(cosines.mean()), cosine_worst=float(cosines.min()))


def cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Give the cosine between rows of equal index, in float64: (n,)."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    cosines: NDArray[np.float64] = np.einsum("nd,nd->n", x, y) / np.maximum(lengths, 1e-300)
    return cosines


def tolerance(difference: float) -> float:
    """Round a measured difference up to one digit, and to `LEAST_TOLERANCE` at least."""
    if difference <= LEAST_TOLERANCE:
        return LEAST_TOLERANCE
    exponent = math.floor(math.log10(difference))
    return float(f"{math.ceil(difference / 10**exponent)}e{exponent}")


def latency(bundle: Path, variant: str, row: Prepared) -> Latency:
    """Time one row alone on one thread, from tensors to embedding: the median, once warm."""
    encoder = load(bundle, variant=variant, threads=1)
    seconds = time_runs(encoder, [row], seconds=LATENCY_SECONDS)
    return Latency(
        p50_ms=round(float(np.median(seconds)) * 1e3, 3),
        threads=1,
        batch=1,
        length=_length(encoder, row),
        host=str(describe()["cpu"]),
    )


def _length(encoder: Encoder, row: Prepared) -> int:
    """Give what `attar.bench.items` makes such an item of: tokens, or the size of a free axis."""
    if encoder.max_length is not None:
        return row.tokens
    return length_of(encoder.manifest.inputs[0], row.arrays[0].shape)


def in_a_process(encoder: Encoder, row: Prepared) -> tuple[Latency, float | None]:
    """Time an item of the row's length on all cores, in a new process, and give its peak memory."""
    threads = os.cpu_count() or 1
    free = [axis for axis in encoder.manifest.inputs[0].shape[1:] if isinstance(axis, str)]
    report = bench(
        encoder.bundle.path,
        variants=(encoder.variant.name,),
        lengths=(_length(encoder, row),) if free else (),
        batches=(1,),
        threads=(threads,),
        seconds=ALL_THREADS_SECONDS,
    )
    timing = report["rows"][-1]
    timed = Latency(
        p50_ms=round(timing["p50_ms"], 3),
        threads=threads,
        batch=1,
        length=_length(encoder, row),
        host=str(describe()["cpu"]),
    )
    return timed, timing["peak_mb"]
