"""A text encoder becomes a bundle: fp32, int8 and binarized-attention variants behind their gates."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from attar.inputs import Prepared, TextInput
from attar.manifest import Manifest, Output, Preprocessing, TensorSpec
from attar.training.data.text import embed
from attar.training.encoders.saved import TextModel
from attar.training.encoders.text import TextEncoder

from .bundling import Candidate, Exported, assemble
from .graph import to_onnx
from .measure import BATCH, Probe
from .quantize import Feed, quantize_int8

INPUTS = (
    TensorSpec(name="input_ids", dtype="int64", shape=("batch", "length")),
    TensorSpec(name="attention_mask", dtype="int64", shape=("batch", "length")),
)
OUTPUT = "embedding"
CALIBRATION_TEXTS = 512


def export_text(
    path: Path,
    model: TextModel,
    *,
    name: str,
    version: str = "1",
    texts: Sequence[str],
    probe: Probe | None,
    metric: str | None,
    int8: bool = True,
    binarized: TextEncoder | None = None,
    notes: Mapping[str, Mapping[str, object]] | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write `model` to the bundle `path` and give what was measured.

    `texts` are for parity, and the first of them for int8 calibration; `probe` and its `metric` are
    the quality gate. `binarized` is the same encoder with hashed attention, already recovered.
    `notes` go into report.json under the variant's name. Raises InvalidInput when the reference
    fails, AlreadyExists when `path` exists and `overwrite` is false.
    """
    encoder = model.encoder
    host = TextInput(model.tokenizer, max_length=encoder.shape.max_length, prompts={})
    rows = host.prepare(texts, role="passage", truncation="truncate")
    notes = notes or {}
    fp32 = text_graph(encoder)
    candidates = [
        Candidate(name="fp32", graph=fp32, precision="fp32", attention="softmax", notes=notes.get("fp32", {}))
    ]
    if int8:
        feeds = [_feed(host, rows[i : i + BATCH]) for i in range(0, min(len(rows), CALIBRATION_TEXTS), BATCH)]
        graph = quantize_int8(fp32, feeds)
        candidates.append(
            Candidate(name="int8", graph=graph, precision="int8", attention="softmax", notes=notes.get("int8", {}))
        )
    if binarized is not None:
        candidates.append(
            Candidate(
                name="binarized",
                graph=text_graph(binarized),
                precision="fp32",
                attention="binarized",
                notes=notes.get("binarized", {}),
            )
        )
    manifest = Manifest(
        name=name,
        version=version,
        modality="text",
        inputs=INPUTS,
        max_length=encoder.shape.max_length,
        preprocessing=Preprocessing(tokenizer="tokenizer.json", prompts=dict(model.prompts)),
        output=Output(name=OUTPUT, dim=encoder.dim, dims=(encoder.dim,), normalized=True),
        reference="fp32",
        lineage=dict(model.lineage),
        licence=model.licence,
        variants=(),
    )
    return assemble(
        path,
        manifest,
        {"tokenizer.json": model.tokenizer},
        candidates,
        rows=rows,
        reference=embed(encoder, [row.arrays[0] for row in rows]),
        probe=probe,
        metric=metric,
        overwrite=overwrite,
    )


def text_graph(encoder: TextEncoder) -> bytes:
    """Export a text encoder to ONNX: ids and mask in, unit embeddings out."""
    # Two rows of unequal length, distinct tensors: a mask that is all ones could be folded away.
    ids = torch.tensor([[1, 2, 3, 4], [1, 2, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    return to_onnx(encoder, (ids, mask), INPUTS, output=OUTPUT)


def _feed(host: TextInput, rows: Sequence[Prepared]) -> Feed:
    ids, mask = host.batch(rows)
    return {"input_ids": np.asarray(ids), "attention_mask": np.asarray(mask)}
