"""The two gates of a variant: parity with the reference encoder, and quality on a probe."""

from dataclasses import dataclass

from .measure import Measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """How far a variant may be from the reference: its least cosines, and the most it may lose.

    Cosines are with the torch encoder's embeddings of the parity items.
    """

    cosine_mean: float
    cosine_worst: float
    max_drop: float  # of the probe's metric, in its own unit


FP32 = Gate(cosine_mean=0.99999, cosine_worst=0.9999, max_drop=0.001)
HALF = Gate(cosine_mean=0.9999, cosine_worst=0.999, max_drop=0.002)
INT8 = Gate(cosine_mean=0.995, cosine_worst=0.98, max_drop=0.01)
# Four bits a weight buy the smallest file with the fine grain of the space.
INT4 = Gate(cosine_mean=0.95, cosine_worst=0.85, max_drop=0.03)
# Binarized attention approximates softmax attention and was distilled to it; its codes are sharp,
# so a single text may move far while the space stays the same.
BINARIZED = Gate(cosine_mean=0.95, cosine_worst=0.5, max_drop=0.03)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """The gate of each kind of variant; `half` is fp16's, and bf16 is held to `int8`."""

    fp32: Gate = FP32
    half: Gate = HALF
    int8: Gate = INT8
    int4: Gate = INT4
    binarized: Gate = BINARIZED


GATES = Gates()
"""What variants must hold where a caller gives no other gates."""

SLACK = 1e-9  # of a drop: 0.64 - 0.63 is a little more than 0.01 in floating point


def failures(
    measured: Measured, gate: Gate, *, metric: str | None, reference: Measured
) -> list[str]:
    """Give why a variant may not enter the bundle: a sentence a broken bound, none if it may.

    Token vectors are held to the bounds of embeddings. Quality is the probe's `metric`, compared
    with the `reference` variant's; without a metric parity alone decides. A figure that is not a
    number breaks its bound.
    """
    bounds = [
        (value >= bound, f"{of}{which} cosine {value:.5f} is below {bound}")
        for of, parity in (("", measured), ("tokens' ", measured.tokens))
        if parity is not None
        for which, value, bound in (
            ("mean", parity.cosine_mean, gate.cosine_mean),
            ("worst", parity.cosine_worst, gate.cosine_worst),
        )
    ]
    if metric is not None:
        drop = reference.probe[metric] - measured.probe[metric]
        loss = f"{metric} lost {drop:.4f}, more than {gate.max_drop}"
        bounds.append((drop <= gate.max_drop + SLACK, loss))
    return [reason for holds, reason in bounds if not holds]
