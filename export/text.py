"""A text encoder becomes a bundle: fp32, int8 and binarized attention, each behind its gates."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from attar.errors import InvalidInput
from attar.inputs import Prepared, TextInput
from attar.manifest import Manifest, Output, Preprocessing, TensorSpec
from attar.training.checkpoints.encoder_folder import TextModel, attention_kinds
from attar.training.encoders.text import TextEncoder, TextNetwork
from attar.training.probes.text_retrieval import embed

from .bundling import Candidate, Exported, assemble, refuse_taken, refuse_unknown
from .calibration import Feed
from .gates import GATES, Gates
from .graph import to_onnx
from .graph_variants import DERIVED, derive
from .int8 import halves, int8
from .measure import BATCH, Probe
from .passes.binarized import quantize_binarized
from .targets.native import NATIVE, native_candidates, refuse_without_library
from .tokens import TOKENS, refuse_without_tokens, token_reference

INPUTS = (
    TensorSpec(name="input_ids", dtype="int64", shape=("batch", "length")),
    TensorSpec(name="attention_mask", dtype="int64", shape=("batch", "length")),
)
OUTPUT = "embedding"
TOKENIZER = "tokenizer.json"
VARIANTS = ("int8", "binarized_int8")  # made with data, and attempted by default


def export_text(
    path: str | Path,
    model: TextModel[TextNetwork],
    *,
    name: str,
    version: str = "1",
    texts: Sequence[str],
    probe: Probe | None,
    metric: str | None,
    variants: Sequence[str] = VARIANTS,
    binarized: TextEncoder | None = None,
    notes: Mapping[str, Mapping[str, object]] | None = None,
    tokens: bool = False,
    gates: Gates = GATES,
    overwrite: bool = False,
) -> Exported:
    """Write `model` to the bundle `path`, under `name` and `version`; give what was measured.

    `variants` names what to attempt next to the reference, fp32; a variant that fails its gate is
    left out and reported. `texts` are for parity, and some of them calibrate int8; `probe` and its
    `metric` are the quality gate. `binarized` is the same encoder with hashed attention, already
    recovered; "binarized_int8" and the native variants are made of it. `notes` go into report.json
    under their variant's name. With `tokens` the graphs also give token vectors.

    Raises InvalidInput when there are no texts, a variant is unknown or the reference fails its
    gates, NotSupported for a native variant without the library attar-native or tokens of an
    encoder that has none, and AlreadyExists when `path` is taken and `overwrite` is false.
    """
    path = Path(path)
    refuse_taken(path, overwrite=overwrite)
    if not texts:
        raise InvalidInput("texts are empty; pass some for parity and calibration")
    refuse_unknown(variants, (*VARIANTS, *NATIVE, *DERIVED))
    refuse_without_library(variants)
    encoder = model.encoder
    if tokens:
        refuse_without_tokens(encoder)
    host = TextInput(model.tokenizer, max_length=encoder.max_length, prompts={})
    rows = host.prepare(texts, role="passage", truncation="truncate")
    return assemble(
        path,
        _manifest(model, host, name=name, version=version),
        {TOKENIZER: model.tokenizer},
        _candidates(
            encoder,
            rows,
            partial(text_feeds, host),
            variants=variants,
            binarized=binarized,
            notes=notes or {},
            gates=gates,
            tokens=tokens,
        ),
        rows=rows,
        reference=embed(encoder, [row.arrays[0] for row in rows]),
        probe=probe,
        metric=metric,
        overwrite=overwrite,
        tokens=token_reference(encoder.eval(), host, rows) if tokens else None,
    )


def _candidates(
    encoder: TextNetwork,
    rows: Sequence[Prepared],
    feeds: Callable[[Sequence[Prepared]], list[Feed]],
    *,
    variants: Sequence[str],
    binarized: TextEncoder | None,
    notes: Mapping[str, Mapping[str, object]],
    gates: Gates,
    tokens: bool,
) -> list[Candidate]:
    """Make the reference, and the graphs of the `variants`."""
    graph, attention = text_graph(encoder, tokens=tokens), attention_kinds(encoder)
    reference = Candidate(
        name="fp32",
        graph=graph,
        precision="fp32",
        attention=attention,
        gate=gates.fp32,
        notes=notes.get("fp32", {}),
    )
    candidates = [reference]
    if "int8" in variants:
        note = notes.get("int8")
        candidates.append(
            int8(graph, rows, feeds, gate=gates.int8, attention=attention, notes=note)
        )
    candidates += [
        derive(name, graph, attention=attention, gates=gates)
        for name in DERIVED
        if name in variants
    ]
    if binarized is not None:
        hashed = replace(
            reference,
            name="binarized",
            graph=text_graph(binarized, tokens=tokens),
            attention="binarized",
            gate=gates.binarized,
            notes=notes.get("binarized", {}),
        )
        candidates.append(hashed)
        if "binarized_int8" in variants:
            integers = quantize_binarized(hashed.graph, feeds(halves(rows)[0]))
            note = notes.get("binarized_int8", {})
            name = "binarized_int8"
            candidates.append(
                replace(hashed, name=name, graph=integers, precision="int8", notes=note)
            )
    return [*candidates, *native_candidates(variants, candidates)]


def _manifest(
    model: TextModel[TextNetwork], host: TextInput, *, name: str, version: str
) -> Manifest:
    """Describe the encoder; `assemble` adds the variants."""
    encoder = model.encoder
    return Manifest(
        name=name,
        version=version,
        modality="text",
        inputs=INPUTS,
        max_length=encoder.max_length,
        preprocessing=Preprocessing(
            tokenizer=TOKENIZER,
            prompts=dict(model.prompts),
            truncation_side=host.truncation_side,
        ),
        output=Output(
            name=OUTPUT,
            dim=encoder.dim,
            dims=(*model.dims, encoder.dim),
            normalized=model.normalized,
        ),
        reference="fp32",
        lineage=dict(model.lineage),
        licence=model.licence,
        variants=(),
    )


def text_graph(encoder: TextNetwork, *, tokens: bool = False) -> bytes:
    """Export a text encoder to ONNX: ids and mask in, embeddings out, and its token vectors."""
    # Two rows of unequal length: a mask that is all ones could be folded away.
    ids = torch.tensor([[1, 2, 3, 4], [1, 2, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    named = TOKENS if tokens else None
    return to_onnx(encoder, (ids, mask), INPUTS, output=OUTPUT, tokens=named)


def text_feeds(host: TextInput, rows: Sequence[Prepared]) -> list[Feed]:
    """Give prepared texts as the graph takes them, in padded batches."""
    names = [spec.name for spec in INPUTS]
    batches = (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))
    return [dict(zip(names, host.batch(batch), strict=True)) for batch in batches]
