"""The variant that needs data: int8, calibrated on one half of it and judged on the other."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from attar.inputs import Prepared

from .bundling import Candidate
from .calibration import Feed
from .gates import INT8, Gate
from .passes.quantize import quantize_within

ROWS = 512  # to calibrate on, and as many others to judge by


def int8(
    graph: bytes,
    rows: Sequence[Prepared],
    feeds: Callable[[Sequence[Prepared]], list[Feed]],
    *,
    gate: Gate = INT8,
    attention: str | None = None,
    notes: Mapping[str, object] | None = None,
) -> Candidate:
    """Make the variant "int8" of the reference's `graph`; `feeds` batches rows as it takes them.

    Ranges come from one half of the rows, and which layers stay in float is decided on the other:
    figures on the data that a range was fitted to are too good. Raises InvalidInput when the graph
    has nothing to quantise.
    """
    calibrating, judging = map(feeds, halves(rows))
    quantised = quantize_within(graph, calibrating, judging, gate)
    return Candidate(
        name="int8",
        graph=quantised.graph,
        precision="int8",
        attention=attention,
        gate=gate,
        notes={**quantised.notes, **(notes or {})},
    )


def halves(rows: Sequence[Prepared]) -> tuple[list[Prepared], list[Prepared]]:
    """Draw two samples of at most `ROWS` rows that share none; a single row is both."""
    drawn = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))[: 2 * ROWS]]
    return drawn[::2], drawn[1::2] or drawn
