"""Candidates in, one bundle out: each is measured through the device runtime, then gated."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attar.bundle import HEADS, Bundle
from attar.errors import AlreadyExists, InvalidInput
from attar.heads import Head
from attar.host import describe, instruction_set
from attar.inputs import Prepared
from attar.manifest import TOKENS_SCHEMA_VERSION, Manifest, Ranges, Requires, Variant

from .encoding_recall import encodings_report
from .gates import Gate, failures
from .measure import Measured, Probe, measure
from .onnx_graph import node_counts
from .tokens import TokenReference


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A graph that would be a variant, the gate it has to pass, and how it was made.

    One that is made for an execution `provider` of ONNX Runtime other than the CPU's is gated on
    the CPU all the same, which shows its numbers but neither its speed nor that it runs there;
    where the CPU cannot run it, a graph of the same numbers is a `stand_in` for that. `library` is
    the distribution with operators that the graph calls next to the runtime's.
    """

    name: str
    graph: bytes
    precision: str
    gate: Gate
    attention: str | None = None
    provider: str | None = None
    stand_in: bytes | None = None
    library: str | None = None
    notes: Mapping[str, object] = field(default_factory=dict)  # for report.json

    @property
    def file(self) -> str:
        """Where the graph lies in a bundle."""
        return f"variants/{self.name}.onnx"


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
    overwrite: bool,
    heads: Mapping[str, Head] | None = None,
    tokens: TokenReference | None = None,
) -> Exported:
    """Measure the candidates, write those that pass their gates to `path`, and report on all.

    `manifest` describes the encoder; its reference, variants and ranges are filled in here. Parity
    compares with `reference` (n, dim), the torch encoder's embeddings of the prepared `rows`;
    quality compares the probe's `metric`, if there is one, with the first candidate's, which is the
    reference variant and must pass. `heads` are written as they are, but of this bundle's space.
    With `tokens` every graph has token vectors, which are held to those. Nothing is written where
    it raises InvalidInput that names the broken bounds, or AlreadyExists as `Bundle.write` does.
    """
    if (probe is None) != (metric is None):
        raise InvalidInput(f"probe and metric go together; got {probe} and {metric!r}")
    manifest = replace(manifest, reference=candidates[0].name, ranges=_ranges(reference))
    manifest = _with_tokens(manifest, tokens)
    measured, fingerprint = _measure_all(
        manifest, files, candidates, rows=rows, reference=reference, probe=probe, tokens=tokens
    )
    own = {
        f"{HEADS}{name}.npz": replace(head, model=manifest.name, fingerprint=fingerprint).to_bytes()
        for name, head in (heads or {}).items()
    }
    refused = _refused(candidates, measured, metric)
    passed = [candidate for candidate in candidates if candidate.name not in refused]
    encodings = encodings_report(reference, manifest.ranges)
    report = {**_report(candidates, measured, refused, metric), "encodings": encodings}
    bundle = Bundle.write(
        path,
        replace(manifest, variants=tuple(_variant(c, measured[c.name]) for c in passed)),
        {
            **files,
            **own,
            **{candidate.file: candidate.graph for candidate in passed},
            "report.json": json.dumps(report, indent=2, sort_keys=True).encode() + b"\n",
        },
        replace=overwrite,
    )
    return Exported(bundle=bundle, measured=measured, refused=refused)


def _with_tokens(manifest: Manifest, tokens: TokenReference | None) -> Manifest:
    if tokens is None:
        return manifest
    output = replace(tokens.output, ranges=_ranges(tokens.vectors))
    return replace(manifest, schema_version=TOKENS_SCHEMA_VERSION, tokens=output)


def refuse_taken(path: Path, *, overwrite: bool) -> None:
    """Raise AlreadyExists for a taken path before the work, which `Bundle.write` does after it."""
    if path.exists() and not overwrite:
        raise AlreadyExists(f"{path} exists; choose another path, or remove it first")


def refuse_unknown(variants: Sequence[str], available: Sequence[str]) -> None:
    """Raise InvalidInput for a variant that cannot be attempted, with those that can."""
    if unknown := sorted({*variants} - {*available}):
        raise InvalidInput(
            f"there is no variant {unknown[0]!r} to attempt; besides fp32, which is always "
            f"written, there is {', '.join(available)}"
        )


def _measure_all(
    manifest: Manifest,
    files: Mapping[str, bytes],
    candidates: Sequence[Candidate],
    *,
    rows: Sequence[Prepared],
    reference: NDArray[np.float32],
    probe: Probe | None,
    tokens: TokenReference | None,
) -> tuple[dict[str, Measured], str]:
    """Measure every candidate in a draft of the bundle, as a user would meet it.

    Gives the draft's fingerprint too, which is the bundle's: the first candidate is in both.
    """
    draft = replace(manifest, variants=tuple(_variant(candidate) for candidate in candidates))
    graphs = {candidate.file: candidate.stand_in or candidate.graph for candidate in candidates}
    with tempfile.TemporaryDirectory(prefix="attar-") as scratch:
        bundle = Bundle.write(Path(scratch) / "draft.attar", draft, {**files, **graphs})
        measured = {
            c.name: measure(bundle.path, c.name, rows, reference, probe, tokens=tokens)
            for c in candidates
        }
        return measured, bundle.manifest.fingerprint


def _refused(
    candidates: Sequence[Candidate], measured: Mapping[str, Measured], metric: str | None
) -> dict[str, Sequence[str]]:
    """Give the broken bounds of each candidate that fails its gate; the first one must pass."""
    first = candidates[0].name
    if metric is not None and metric not in measured[first].probe:
        known = ", ".join(measured[first].probe)
        raise InvalidInput(f"the probe gives no {metric!r}; it gives {known}")
    reasons = {
        candidate.name: failures(
            measured[candidate.name], candidate.gate, metric=metric, reference=measured[first]
        )
        for candidate in candidates
    }
    if reasons[first]:
        raise InvalidInput(
            f"the reference variant {first} differs from the torch encoder, so nothing is "
            f"written: {'; '.join(reasons[first])}"
        )
    return {name: broken for name, broken in reasons.items() if broken}


def _variant(candidate: Candidate, measured: Measured | None = None) -> Variant:
    bare = Variant(
        name=candidate.name,
        file=candidate.file,
        precision=candidate.precision,
        attention=candidate.attention,
        requires=Requires(library=candidate.library),
    )
    if measured is None:
        return bare
    gated = replace(
        bare,
        parity=_parity(measured),
        tolerance=measured.tolerance,
        probe=measured.probe,
    )
    if candidate.provider is not None:
        return replace(gated, requires=replace(bare.requires, provider=candidate.provider))
    return replace(
        gated,
        latency=measured.latency,
        latency_all_threads=measured.latency_all_threads,
        peak_mb=measured.peak_mb,
        proven_on=(instruction_set(),),
    )


def _parity(measured: Measured) -> dict[str, float]:
    parity = {"cosine_mean": measured.cosine_mean, "cosine_worst": measured.cosine_worst}
    if measured.tokens is not None:
        parity["token_cosine_mean"] = measured.tokens.cosine_mean
        parity["token_cosine_worst"] = measured.tokens.cosine_worst
    return parity


def _ranges(embeddings: NDArray[np.float32]) -> Ranges:
    """Give each dimension's interval over the embeddings, never empty, for int8 output."""
    low = embeddings.min(axis=0).astype(np.float64)
    high = np.maximum(embeddings.max(axis=0), low + 1e-6)
    return Ranges(low=tuple(low.tolist()), high=tuple(high.tolist()))


def _figures(measured: Measured) -> dict[str, object]:
    """Give a variant's figures by name; those of tokens where there are any."""
    figures = asdict(measured)
    if measured.tokens is None:
        del figures["tokens"]
    return figures


def _report(
    candidates: Sequence[Candidate],
    measured: Mapping[str, Measured],
    refused: Mapping[str, Sequence[str]],
    metric: str | None,
) -> dict[str, object]:
    return {
        "host": describe(),
        "metric": metric,
        "variants": {
            candidate.name: {
                **candidate.notes,
                **_figures(measured[candidate.name]),
                "bytes": len(candidate.graph),
                "nodes": node_counts(candidate.graph),
                "provider": candidate.provider,
                "gate": asdict(candidate.gate),
                "written": candidate.name not in refused,
                "refused_because": list(refused.get(candidate.name, ())),
            }
            for candidate in candidates
        },
    }
