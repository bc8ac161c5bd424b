"""Candidates in, one bundle out: every variant is measured through the device runtime, then gated."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attar.bundle import Bundle
from attar.errors import InvalidInput
from attar.host import describe
from attar.inputs import Prepared
from attar.manifest import Manifest, Ranges, Variant

from .gates import GATES, Gate, failures
from .measure import Measured, Probe, measure


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A graph that would be a variant, and what is known of how it was made."""

    name: str
    graph: bytes
    precision: str
    attention: str | None = None
    notes: Mapping[str, object] = field(default_factory=dict)  # into report.json, beside the figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """The bundle that was written, every candidate's figures, and why some were left out."""

    bundle: Bundle
    measured: Mapping[str, Measured]
    refused: Mapping[str, Sequence[str]]


def assemble(
    path: Path,
    manifest: Manifest,
    files: Mapping[str, bytes],
    candidates: Sequence[Candidate],
    *,
    rows: Sequence[Prepared],
    reference: NDArray[np.float32],
    probe: Probe | None,
    metric: str | None,
    gates: Mapping[str, Gate] = GATES,
    overwrite: bool = False,
) -> Exported:
    """Measure the candidates, write those that pass their gates to `path`, and report on all.

    `manifest` describes the encoder; its `variants`, `ranges` and `files` are filled in here.  Parity
    compares with `reference` (n, dim), the torch encoder's embeddings of the prepared `rows`; quality
    compares the probe's `metric`, if there is one, with the first candidate's, which is the reference
    variant and must pass.  Raises InvalidInput when it does not, naming the broken bounds.
    """
    manifest = replace(
        manifest,
        reference=candidates[0].name,
        ranges=_ranges(reference),
        variants=tuple(_variant(candidate) for candidate in candidates),
    )
    graphs = {f"variants/{candidate.name}.onnx": candidate.graph for candidate in candidates}
    measured: dict[str, Measured] = {}
    with tempfile.TemporaryDirectory(prefix="attar-") as scratch:
        draft = Bundle.write(Path(scratch) / "draft.attar", manifest, {**files, **graphs})
        for candidate in candidates:
            measured[candidate.name] = measure(draft.path, candidate.name, rows, reference, probe)
    best = measured[candidates[0].name].probe[metric] if metric else 0.0
    refused = {
        name: reasons
        for name, figures in measured.items()
        if (reasons := failures(figures, gates[name], metric=metric, reference=best))
    }
    if candidates[0].name in refused:
        reasons = "; ".join(refused[candidates[0].name])
        raise InvalidInput(f"the reference variant {candidates[0].name} differs from the encoder: {reasons}")
    passed = [candidate for candidate in candidates if candidate.name not in refused]
    kept = {f"variants/{candidate.name}.onnx": candidate.graph for candidate in passed}
    report = json.dumps(_report(candidates, measured, refused, gates, metric), indent=2, sort_keys=True)
    bundle = Bundle.write(
        path,
        replace(manifest, variants=tuple(_variant(c, measured[c.name]) for c in passed)),
        {**files, **kept, "report.json": report.encode() + b"\n"},
        replace=overwrite,
    )
    return Exported(bundle=bundle, measured=measured, refused=refused)


def _variant(candidate: Candidate, measured: Measured | None = None) -> Variant:
    bare = Variant(
        name=candidate.name,
        file=f"variants/{candidate.name}.onnx",
        precision=candidate.precision,
        attention=candidate.attention,
    )
    if measured is None:
        return bare
    return replace(
        bare,
        parity={"cosine_mean": measured.cosine_mean, "cosine_worst": measured.cosine_worst},
        probe=measured.probe,
        latency=measured.latency,
    )


def _ranges(embeddings: NDArray[np.float32]) -> Ranges:
    """Give each dimension's interval over the embeddings, for int8 output."""
    low, high = embeddings.min(axis=0), embeddings.max(axis=0)
    return Ranges(low=tuple(map(float, low)), high=tuple(map(float, np.maximum(high, low + 1e-6))))


def _report(
    candidates: Sequence[Candidate],
    measured: Mapping[str, Measured],
    refused: Mapping[str, Sequence[str]],
    gates: Mapping[str, Gate],
    metric: str | None,
) -> dict[str, object]:
    return {
        "host": describe(),
        "metric": metric,
        "variants": {
            candidate.name: {
                **asdict(measured[candidate.name]),
                "bytes": len(candidate.graph),
                "gate": asdict(gates[candidate.name]),
                "written": candidate.name not in refused,
                "refused_because": list(refused.get(candidate.name, ())),
                **candidate.notes,
            }
            for candidate in candidates
        },
    }
