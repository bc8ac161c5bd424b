"""The two gates of a variant: parity with the reference encoder, and quality on a probe."""

from dataclasses import dataclass

from .measure import Measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """How far a variant may be from the reference: cosine at least, probe metric lost at most."""

    cosine_mean: float
    cosine_worst: float
    max_drop: float  # of the probe's metric, in its own unit


GATES = {
    "fp32": Gate(cosine_mean=0.99999, cosine_worst=0.9999, max_drop=0.001),
    "int8": Gate(cosine_mean=0.995, cosine_worst=0.98, max_drop=0.01),
    # Binarized attention approximates softmax attention and was distilled to it; its codes are sharp,
    # so a single text may move far while the space stays the same.
    "binarized": Gate(cosine_mean=0.95, cosine_worst=0.5, max_drop=0.03),
}


def failures(measured: Measured, gate: Gate, *, metric: str | None, reference: float) -> list[str]:
    """Say why a variant may not enter the bundle: one sentence for each broken bound, none if it may."""
    drop = reference - measured.probe[metric] if metric else 0.0
    checks = (
        (measured.cosine_mean < gate.cosine_mean, f"mean cosine {measured.cosine_mean:.5f} < {gate.cosine_mean}"),
        (measured.cosine_worst < gate.cosine_worst, f"worst cosine {measured.cosine_worst:.5f} < {gate.cosine_worst}"),
        (drop > gate.max_drop + 1e-9, f"{metric} lost {drop:.4f} > {gate.max_drop}"),
    )
    return [reason for broken, reason in checks if broken]
