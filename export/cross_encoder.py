"""A cross-encoder becomes a bundle that scores pairs of texts, held to torch's scores."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from attar.bundle import Bundle
from attar.errors import InvalidInput
from attar.host import describe, instruction_set
from attar.inputs import Prepared, TextPair
from attar.manifest import (
    SCORE,
    SEGMENTS,
    TEXT_PAIR,
    TOKENS_SCHEMA_VERSION,
    Latency,
    Manifest,
    Output,
    Preprocessing,
    TensorSpec,
    Variant,
)
from attar.runtime import Encoder, load
from attar.text_pairs import PairInput
from attar.training.huggingface.cross_encoder import CrossEncoderModel
from attar.trial_inputs import check

from .bundling import Exported, refuse_taken
from .graph import to_onnx
from .measure import BATCH, SINGLES, in_a_process, latency, tolerance
from .text import INPUTS, TOKENIZER

MAX_DIFFERENCE = 1e-4
"""Of a logit to torch's, of the greater of 1 and its size: float32 in another order of sums."""

REFERENCE = "fp32"
_FILE = f"variants/{REFERENCE}.onnx"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredScores:
    """The figures of a cross-encoder's graph.

    `difference_worst` is the greatest difference of a logit from torch's, of the greater of 1 and
    its size; `tolerance` what one moved with its batch-mates, rounded up to one digit. The other
    figures are as an encoder's have them.
    """

    difference_worst: float
    tolerance: float
    latency: Latency
    latency_all_threads: Latency
    peak_mb: float | None


def export_cross_encoder(
    path: str | Path,
    model: CrossEncoderModel,
    *,
    name: str,
    pairs: Sequence[TextPair],
    overwrite: bool = False,
) -> Exported:
    """Write `model` to the bundle `path` under `name`, in fp32; parity is checked on `pairs`.

    What was measured is in the bundle's report. Raises InvalidInput when a score differs from
    torch's by more than `MAX_DIFFERENCE`, and AlreadyExists when `path` is taken and `overwrite` is
    false; either way nothing is written.
    """
    path = Path(path)
    refuse_taken(path, overwrite=overwrite)
    host = PairInput(
        model.tokenizer,
        max_length=model.max_length,
        segments=model.segments,
        truncation_side=None,
    )
    rows = host.prepare(pairs, role="passage", truncation="truncate")
    manifest = _manifest(model, host, name=name)
    files = {TOKENIZER: model.tokenizer, _FILE: _graph(model)}
    with tempfile.TemporaryDirectory(prefix="attar-") as scratch:
        draft = Bundle.write(Path(scratch) / "draft.attar", manifest, files)
        measured = _measure(draft.path, rows, _torch_logits(model, host, rows))
    if not measured.difference_worst <= MAX_DIFFERENCE:
        raise InvalidInput(
            f"the graph of {name} differs from torch's scores by {measured.difference_worst:.2g}, "
            f"more than {MAX_DIFFERENCE:g}, so nothing is written"
        )
    report = {"host": describe(), "variants": {REFERENCE: asdict(measured)}}
    bundle = Bundle.write(
        path,
        replace(manifest, variants=(_variant(measured),)),
        {**files, "report.json": json.dumps(report, indent=2, sort_keys=True).encode() + b"\n"},
        replace=overwrite,
    )
    return Exported(bundle=bundle, measured={}, refused={})


def inputs_of(model: CrossEncoderModel) -> tuple[TensorSpec, ...]:
    """Give what the graph takes: ids, mask, and segments where it is shown them."""
    segments = TensorSpec(name=SEGMENTS, dtype="int64", shape=("batch", "length"))
    return (*INPUTS, segments) if model.segments else INPUTS


def _manifest(model: CrossEncoderModel, host: PairInput, *, name: str) -> Manifest:
    return Manifest(
        schema_version=TOKENS_SCHEMA_VERSION,
        name=name,
        version="1",
        modality=TEXT_PAIR,
        inputs=inputs_of(model),
        max_length=model.max_length,
        preprocessing=Preprocessing(tokenizer=TOKENIZER, truncation_side=host.truncation_side),
        output=Output(name=SCORE, dim=1, dims=(1,), normalized=False, activation=model.activation),
        reference=REFERENCE,
        lineage=dict(model.lineage),
        variants=(_variant(None),),
    )


def _variant(measured: MeasuredScores | None) -> Variant:
    bare = Variant(name=REFERENCE, file=_FILE, precision="fp32", attention="softmax")
    if measured is None:
        return bare
    return replace(
        bare,
        parity={"difference_worst": measured.difference_worst},
        tolerance=measured.tolerance,
        latency=measured.latency,
        latency_all_threads=measured.latency_all_threads,
        peak_mb=measured.peak_mb,
        proven_on=(instruction_set(),),
    )


def _graph(model: CrossEncoderModel) -> bytes:
    # Two rows of unequal length: a mask that is all ones could be folded away.
    ids = torch.tensor([[1, 2, 3, 4], [1, 2, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    segments = torch.tensor([[0, 0, 1, 1], [0, 1, 0, 0]])
    example = (ids, mask, segments) if model.segments else (ids, mask)
    return to_onnx(model.network, example, inputs_of(model), output=SCORE)


def _torch_logits(
    model: CrossEncoderModel, host: PairInput, rows: Sequence[Prepared]
) -> NDArray[np.float32]:
    """Score each row alone in torch: (n,)."""
    with torch.no_grad():
        logits = [model.network(*map(torch.from_numpy, host.batch([row]))) for row in rows]
    scores: NDArray[np.float32] = torch.cat(logits)[:, 0].numpy()
    return scores


def _measure(
    bundle: Path, rows: Sequence[Prepared], reference: NDArray[np.float32]
) -> MeasuredScores:
    """Run the graph on rows in shuffled batches, and some alone, against torch's logits (n,)."""
    encoder = load(bundle, variant=REFERENCE)
    check(encoder)
    order = np.random.default_rng(0).permutation(len(rows))
    logits = np.empty(len(rows), np.float32)
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        logits[batch] = _logits(encoder, [rows[i] for i in batch])
    some = order[:SINGLES]
    alone = np.concatenate([_logits(encoder, [rows[i]]) for i in some])
    differences = np.abs(logits - reference) / np.maximum(1, np.abs(reference))
    longest = max(rows, key=lambda row: row.tokens)
    all_threads, peak_mb = in_a_process(encoder, longest)
    return MeasuredScores(
        difference_worst=float(differences.max()),
        tolerance=tolerance(float(np.abs(alone - logits[some]).max())),
        latency=latency(bundle, REFERENCE, longest),
        latency_all_threads=all_threads,
        peak_mb=peak_mb,
    )


def _logits(encoder: Encoder, rows: Sequence[Prepared]) -> NDArray[np.float32]:
    logits: NDArray[np.float32] = encoder.finish(encoder.infer(rows))[:, 0]
    return logits
