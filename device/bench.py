"""Every variant of a bundle timed on this machine, and the best of those within a budget.

A variant runs in its own process for each number of threads, so that its peak memory is its
own. Items are made up: token ids, or noise, of exactly the requested lengths.
"""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from tokenizers import Tokenizer

from . import trial_inputs
from .bundle import Bundle
from .errors import AttarError, BackendError, InvalidInput
from .host import describe
from .inputs import Prepared
from .manifest import Limits, Manifest, TensorSpec, Variant
from .runtime import Encoder, load

WARM_UP = 3
"""Runs thrown away: the first ones allocate."""

LEAST_RUNS, MOST_RUNS = 5, 200
_LENGTHS = (16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long one variant took for a batch; `peak_mb` is its process's peak until then.

    `peak_mb` is null where the system does not tell. `length` is null where no axis is free.
    """

    variant: str
    threads: int
    batch: int
    length: int | None
    runs: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    peak_mb: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Most that a variant may take: latency of an item, bytes of its file, peak memory."""

    latency_ms: float | None = None
    file_mb: float | None = None
    memory_mb: float | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "latency=5,file=30,memory=200", in ms and MB, in any order and any of them.

        Raises InvalidInput that names what cannot be read.
        """
        names = {"latency": "latency_ms", "file": "file_mb", "memory": "memory_mb"}
        limits: dict[str, float] = {}
        for part in text.split(","):
            name, _, value = part.partition("=")
            try:
                number = float(value)
            except ValueError:
                number = -1.0
            field = names.get(name.strip())
            if field is None or field in limits or not 0 < number < float("inf"):
                raise InvalidInput(
                    f"a budget is like latency=5,file=30,memory=200 (ms of an item, MB of the "
                    f"file, MB of peak memory), each once and above 0; got {part!r} in {text!r}"
                )
            limits[field] = number
        return cls(**limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The variant that a budget picks, None if none fits, and a sentence on each variant."""

    variant: str | None
    why: Mapping[str, str]


def bench(
    path: str | os.PathLike[str],
    *,
    variants: Sequence[str] = (),
    lengths: Sequence[int] = (),
    batches: Sequence[int] = (1, 8),
    threads: Sequence[int] = (),
    seconds: float = 1.0,
    budget: Budget | None = None,
) -> dict[str, Any]:
    """Time a bundle's variants; give a report that JSON can hold.

    Without `variants`, all that this CPU can run are timed. Without `lengths`, powers of two up to
    the longest text, or to tensors that cost as much as a text of 512 tokens; without `threads`,
    one and all cores. `seconds` is about how long each combination is repeated, 5 times at least.

    A variant that does not run, or stops on the way, is listed with its reason. Raises InvalidInput
    for numbers that cannot be, NotFound for a variant that the bundle lacks, BackendError when
    nothing could be timed.
    """
    bundle = Bundle.open(path)
    manifest = bundle.manifest
    chosen = [manifest.variant(name) for name in variants] or list(manifest.variants)
    free = _lengths(manifest, lengths)
    threads = tuple(threads) or tuple(sorted({1, os.cpu_count() or 1}))
    for name, numbers in (("batches", batches), ("threads", threads)):
        if not numbers or min(numbers) < 1:
            raise InvalidInput(f"{name} must be 1 or more; got {list(numbers)}")
    if not 0 < seconds < float("inf"):
        raise InvalidInput(f"seconds must be above 0; got {seconds}")
    job = {
        "path": os.path.abspath(path),  # noqa: PTH100 -- the child need not resolve links
        "batches": sorted(batches),
        "lengths": free and sorted(free),
        "seconds": seconds,
    }
    timings, skipped = _time_all(job, [variant.name for variant in chosen], threads)
    if not timings:
        raise BackendError(f"no variant of {manifest.name} could be timed: {skipped}")
    report: dict[str, Any] = {
        "bundle": manifest.name,
        "version": manifest.version,
        "fingerprint": manifest.fingerprint,
        "reference": manifest.reference,
        "host": describe(),
        "seconds": seconds,
        "warm_up": WARM_UP,
        "variants": {variant.name: _facts(bundle, variant) for variant in chosen},
        "rows": [asdict(timing) for timing in timings],
        "skipped": skipped,
    }
    if budget is not None:
        report["budget"] = asdict(budget)
        report["choice"] = asdict(choose(bundle, timings, budget))
    return report


def choose(bundle: Bundle, timings: Sequence[Timing], budget: Budget) -> Choice:
    """Pick the best variant within the budget, and say of each why it is or is not.

    Latency is the median of a batch of the fewest items, per item, at the greatest length and the
    fewest threads that were timed; memory is the greatest peak. The best has the highest recorded
    score on the probe that gated the export, else the highest cosine to the reference; of equals
    it is the quickest.
    """
    metric = bundle.report.get("metric")
    why: dict[str, str] = {}
    fitting: list[tuple[tuple[float, float], str]] = []
    for name in dict.fromkeys(timing.variant for timing in timings):
        rows = [timing for timing in timings if timing.variant == name]
        hardest = min(rows, key=lambda t: (t.batch, -(t.length or 0), t.threads))
        latency = hardest.p50_ms / hardest.batch
        variant = bundle.variant(name)
        size = bundle.manifest.file(variant.file).bytes / 1e6
        memory = max((t.peak_mb for t in rows if t.peak_mb is not None), default=None)
        over = _over(budget, latency=latency, size=size, memory=memory)
        quality, words = _quality(variant, metric, reference=bundle.manifest.reference)
        facts = f"{latency:.3g} ms, {size:.3g} MB, peak {_mb(memory)}, {words}"
        why[name] = f"{facts}: {'; '.join(over) or 'fits'}"
        if not over:
            fitting.append(((-quality, latency), name))
    return Choice(variant=min(fitting)[1] if fitting else None, why=why)


def items(bundle: Bundle, *, length: int | None, count: int, seed: int = 0) -> list[Prepared]:
    """Make up prepared items of exactly `length` tokens.

    Tensors have `length` on every free axis, or what is nearest to it within the limits.
    """
    manifest = bundle.manifest
    if manifest.preprocessing.tokenizer is not None and length is not None:
        draw = np.random.default_rng(seed)
        words = Tokenizer.from_str(bundle.read(manifest.preprocessing.tokenizer).decode())
        ids = draw.integers(words.get_vocab_size(), size=(count, length))
        rest = (np.ones(length, np.int64), np.zeros(length, np.int64))[: len(manifest.inputs) - 1]
        return [Prepared((row, *rest), length, truncated=False) for row in ids]
    shape = trial_inputs.shape_of(manifest.inputs[0], manifest.limits, length or 1)
    return trial_inputs.tensors(manifest, shape, count, seed=seed)


def time_runs(encoder: Encoder, rows: Sequence[Prepared], *, seconds: float) -> list[float]:
    """Repeat one batch for about `seconds`, warm-up discarded: each run's seconds."""
    for _ in range(WARM_UP):
        encoder.infer(rows)
    taken: list[float] = []
    while len(taken) < LEAST_RUNS or (sum(taken) < seconds and len(taken) < MOST_RUNS):
        began = time.perf_counter()
        encoder.infer(rows)
        taken.append(time.perf_counter() - began)
    return taken


def _lengths(manifest: Manifest, lengths: Sequence[int]) -> tuple[int, ...] | None:
    """Check lengths, or choose some; None for an encoder whose input has one shape."""
    least, longest = 1, manifest.max_length
    if longest is None and not _is_free(manifest.inputs[0]):
        if lengths:
            raise InvalidInput(
                f"{manifest.name} takes {manifest.inputs[0].name} of one shape, "
                f"{list(manifest.inputs[0].shape[1:])}; leave lengths out"
            )
        return None
    if longest is None and not trial_inputs.is_open(manifest):
        spec, limits = manifest.inputs[0], manifest.limits
        least, longest = (
            trial_inputs.length_of(spec, trial_inputs.shape_of(spec, limits, size))
            for size in (1, trial_inputs.ANY)
        )
    if lengths and not (min(lengths) >= least and (longest is None or max(lengths) <= longest)):
        raise InvalidInput(
            f"lengths must be from {least} to {longest or 'whatever fits in memory'}; "
            f"got {list(lengths)}"
        )
    if lengths:
        return tuple(lengths)
    if manifest.max_length is not None:
        return (*(n for n in _LENGTHS if n < manifest.max_length), manifest.max_length)
    fitting = [n for n in _LENGTHS if least <= n <= (longest or n) and _is_usual(manifest, n)]
    return tuple(fitting or [least])


def _is_usual(manifest: Manifest, length: int) -> bool:
    """Tell whether a tensor of that length costs no more than the longest usual text."""
    limits = manifest.limits or Limits()
    size = math.prod(trial_inputs.shape_of(manifest.inputs[0], limits, length))
    return size <= trial_inputs.MOST_TOKENS * limits.cost.elements


def _is_free(spec: TensorSpec) -> bool:
    return any(isinstance(axis, str) for axis in spec.shape[1:])


def _facts(bundle: Bundle, variant: Variant) -> dict[str, object]:
    return {
        "precision": variant.precision,
        "attention": variant.attention,
        "bytes": bundle.manifest.file(variant.file).bytes,
        "sha256": bundle.manifest.file(variant.file).sha256,
    }


def _over(budget: Budget, *, latency: float, size: float, memory: float | None) -> list[str]:
    """Say which limits a variant breaks; memory that is not known breaks its limit."""
    met = (
        (budget.latency_ms, latency, "ms"),
        (budget.file_mb, size, "MB"),
        (budget.memory_mb, float("inf") if memory is None else memory, "MB of memory"),
    )
    return [
        f"more than {limit:g} {unit}"
        for limit, value, unit in met
        if limit is not None and value > limit
    ]


def _quality(variant: Variant, metric: object, *, reference: str) -> tuple[float, str]:
    if isinstance(metric, str) and metric in variant.probe:
        return variant.probe[metric], f"{metric} {variant.probe[metric]:.4f}"
    if variant.name == reference:
        return 1.0, "the reference"
    cosine = variant.parity.get("cosine_mean")
    return (cosine, f"cosine {cosine:.5f}") if cosine is not None else (-1.0, "no recorded quality")


def _mb(memory: float | None) -> str:
    return "unknown" if memory is None else f"{memory:.0f} MB"


def _time_all(
    job: Mapping[str, Any], variants: Sequence[str], threads: Sequence[int]
) -> tuple[list[Timing], dict[str, str]]:
    """Time variants, each number of threads in a process; give why some stopped, by name."""
    timings: list[Timing] = []
    skipped: dict[str, str] = {}
    for variant in variants:
        for count in threads:
            rows, end = _in_a_process({**job, "variant": variant, "threads": count})
            timings += rows
            if end is not None:
                skipped[variant] = end
                break
    return timings, skipped


def _in_a_process(job: Mapping[str, Any]) -> tuple[list[Timing], str | None]:
    """Time one variant in a new process; give what it timed, and how it ended if not well."""
    # -P: whatever lies in the working directory is not imported.
    command = [sys.executable, "-P", "-m", "attar.bench"]
    done = subprocess.run(
        command, input=json.dumps(job), capture_output=True, text=True, check=False
    )
    timings = [Timing(**json.loads(line)) for line in done.stdout.splitlines()]
    if not done.returncode:
        return timings, None
    last = (done.stderr.strip().splitlines() or ["it was killed, perhaps for its memory"])[-1]
    return timings, f"on {job['threads']} threads, after {len(timings)} timings: {last}"


def _child(job: Mapping[str, Any]) -> Iterator[Timing]:
    """Time what a job names, the small before the large: memory only ever grows.

    Where the manifest does not say how small an item may be, lengths that are too small to run are
    passed over; raises BackendError where none is left.
    """
    encoder = load(job["path"], variant=job["variant"], threads=job["threads"])
    lengths = job["lengths"] or [None]
    if trial_inputs.is_open(encoder.manifest):
        row = trial_inputs.first_that_runs(encoder)
        least = trial_inputs.length_of(encoder.manifest.inputs[0], row.arrays[0].shape)
        lengths = [length for length in lengths if length >= least] or [least]
    for length in lengths:
        for batch in job["batches"]:
            rows = items(encoder.bundle, length=length, count=batch)
            taken = np.array(time_runs(encoder, rows, seconds=job["seconds"])) * 1e3
            p50, p95, p99 = np.percentile(taken, (50, 95, 99)).round(4).tolist()
            yield Timing(
                variant=job["variant"],
                threads=job["threads"],
                batch=batch,
                length=length,
                runs=len(taken),
                p50_ms=p50,
                p95_ms=p95,
                p99_ms=p99,
                peak_mb=_peak_mb(),
            )


def _peak_mb() -> float | None:
    """Give this process's peak resident memory where the system tells: Linux does."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return None
    peak = next((line for line in status.splitlines() if line.startswith("VmHWM:")), None)
    return round(int(peak.split()[1]) * 1024 / 1e6, 1) if peak else None


if __name__ == "__main__":
    try:
        for timing in _child(json.load(sys.stdin)):
            sys.stdout.write(json.dumps(asdict(timing)) + "\n")
            sys.stdout.flush()  # what was timed is kept if the next one is too large
    except AttarError as error:
        sys.exit(str(error))
