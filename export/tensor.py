"""An encoder of arrays, such as images, becomes a bundle: one tensor in, an embedding out."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from attar.errors import InvalidInput
from attar.heads import Head
from attar.inputs import Items, Prepared, TensorInput
from attar.manifest import Limits, Manifest, Output, TensorSpec
from attar.training.checkpoints.encoder_folder import TensorModel, attention_kinds
from attar.training.run_data import read_for
from attar.training.sampler import evenly

from .bundling import Candidate, Exported, assemble, refuse_taken, refuse_unknown
from .calibration import Feed
from .gates import GATES, Gates
from .graph import to_onnx
from .graph_variants import DERIVED, derive
from .int8 import int8
from .measure import BATCH, Probe
from .random_inputs import noise
from .tokens import TOKENS, refuse_without_tokens, token_reference

OUTPUT = "embedding"
VARIANTS = ("int8",)  # made with data
PARITY_ITEMS = 256  # enough to calibrate on


def export_tensor(
    path: str | Path,
    encoder: nn.Module,
    *,
    name: str,
    version: str = "1",
    spec: TensorSpec,
    limits: Limits | None = None,
    items: Items,
    modality: str = "image",
    probe: Probe | None = None,
    metric: str | None = None,
    variants: Sequence[str] = (),
    lineage: Mapping[str, object] | None = None,
    licence: str | None = None,
    heads: Mapping[str, Head] | None = None,
    tokens: bool = False,
    gates: Gates = GATES,
    overwrite: bool = False,
) -> Exported:
    """Write an encoder of one tensor to the bundle `path` and give what was measured.

    `name`, `version`, `modality`, `lineage` and `licence` go into the manifest. `spec` is the
    tensor as the graph takes it, batch first, and `limits` which items it takes: the smallest and
    the largest are embedded before anything is written, and items beyond them are refused wherever
    the bundle runs. `items` (n, ...) are for parity, and some of them calibrate int8; where the
    spec names axes they may be of several shapes. `variants` names what to attempt next to the
    reference, fp32; a variant that fails its gate is left out and reported. `probe` and its
    `metric` are the quality gate, and `heads` small models on the embeddings, by name. With
    `tokens` the graphs also give token vectors, on the grid that the encoder has.

    Raises ShapeError when items do not fit the spec or are beyond the limits, InvalidInput when
    there are fewer than two, when a variant is unknown or finds nothing to quantise, or when the
    reference fails its gates, BackendError when the least or the largest item cannot be embedded,
    AlreadyExists when `path` is taken and `overwrite` is false, and NotSupported for tokens of an
    encoder that has none.
    """
    path = Path(path)
    refuse_taken(path, overwrite=overwrite)
    refuse_unknown(variants, (*VARIANTS, *DERIVED))
    if tokens:
        refuse_without_tokens(encoder)
    if len(items) < 2:
        raise InvalidInput(f"parity needs two items or more, of {spec.name}; got {len(items)}")
    host = TensorInput(spec, limits)
    rows = host.prepare(items, role="passage", truncation="error")
    candidates = _candidates(
        encoder, spec, host, rows, variants=variants, gates=gates, tokens=tokens
    )
    reference = _embed(encoder, host, rows)
    dim, lengths = reference.shape[1], np.linalg.norm(reference, axis=1)
    unit = bool(np.allclose(lengths, 1, atol=1e-4))
    manifest = Manifest(
        name=name,
        version=version,
        modality=modality,
        inputs=(spec,),
        limits=limits,
        output=Output(name=OUTPUT, dim=dim, dims=(dim,), normalized=unit),
        reference="fp32",
        lineage=dict(lineage or {}),
        licence=licence,
        variants=(),
    )
    return assemble(
        path,
        manifest,
        {},
        candidates,
        rows=rows,
        reference=reference,
        probe=probe,
        metric=metric,
        overwrite=overwrite,
        heads=heads,
        tokens=token_reference(_evaluating(encoder), host, rows) if tokens else None,
    )


def export_model(
    path: str | Path,
    model: TensorModel,
    *,
    name: str,
    version: str = "1",
    items: Items | None = None,
    limits: Limits | None = None,
    probe: Probe | None = None,
    metric: str | None = None,
    variants: Sequence[str] = (),
    tokens: bool = False,
    gates: Gates = GATES,
    overwrite: bool = False,
) -> Exported:
    """Write an encoder that attar saved to the bundle `path`, and give what was measured.

    Without `items` parity is checked on noise, at two sizes of every axis that is free; int8 is
    then calibrated on noise too, which is seldom what an encoder will meet. `limits` are which
    items the bundle takes, where not the model's own. For the rest see `export_tensor`, which this
    is with the model's own input, modality, lineage, licence and heads.
    """
    limits = limits or model.limits
    if items is None:
        items = noise(model.input, model.encoder.examples, values=limits.values)
    return export_tensor(
        path,
        model.encoder.at_unit_length() if model.normalize else model.encoder,
        name=name,
        version=version,
        spec=model.input,
        limits=limits,
        items=items,
        modality=model.encoder.modality,
        probe=probe,
        metric=metric,
        variants=variants,
        lineage=model.lineage,
        licence=model.licence,
        heads=model.heads,
        tokens=tokens,
        gates=gates,
        overwrite=overwrite,
    )


def export_with_data(
    bundle: Path,
    model: TensorModel,
    *,
    data: str | None,
    reading: Sequence[str],
    tokens: bool = False,
    gates: Gates,
) -> Exported:
    """Export an encoder; parity and int8 see some of the items of `data`, or noise without it."""
    items = None
    if data is None and reading:
        raise InvalidInput(f"--read {reading[0]} says how --data is read, and there is none")
    if data is not None:
        source = read_for(model.encoder, data, reading)
        items = source.train[torch.tensor(evenly(range(len(source.train)), PARITY_ITEMS))].numpy()
    return export_model(
        bundle,
        model,
        name=bundle.name.removesuffix(".attar"),
        items=items,
        variants=VARIANTS,
        tokens=tokens,
        gates=gates,
    )


def _candidates(
    encoder: nn.Module,
    spec: TensorSpec,
    host: TensorInput,
    rows: Sequence[Prepared],
    *,
    variants: Sequence[str],
    gates: Gates,
    tokens: bool,
) -> list[Candidate]:
    """Make the reference, and the graphs of the `variants`."""
    # Twice the first: an example has two rows, and the first two may be of different shapes.
    (example,) = host.batch([rows[0], rows[0]])
    graph = to_onnx(
        encoder,
        (torch.from_numpy(example),),
        (spec,),
        output=OUTPUT,
        tokens=TOKENS if tokens else None,
    )
    attention = attention_kinds(encoder)
    candidates = [
        Candidate(name="fp32", graph=graph, precision="fp32", attention=attention, gate=gates.fp32)
    ]
    if "int8" in variants:
        feeds = partial(_feeds, spec.name, host)
        candidates.append(int8(graph, rows, feeds, gate=gates.int8, attention=attention))
    candidates += [
        derive(name, graph, attention=attention, gates=gates)
        for name in DERIVED
        if name in variants
    ]
    return candidates


def _feeds(name: str, host: TensorInput, rows: Sequence[Prepared]) -> list[Feed]:
    """Give prepared items as the graph takes them, in batches of one shape."""
    return [{name: host.batch([rows[i] for i in batch])[0]} for batch in _batches(host, rows)]


def _embed(encoder: nn.Module, host: TensorInput, rows: Sequence[Prepared]) -> NDArray[np.float32]:
    """Run the encoder in evaluation mode, as to_onnx exports it: (n, dim)."""
    encoder = _evaluating(encoder)
    parts, order = [], []
    with torch.no_grad():
        for batch in _batches(host, rows):
            (arrays,) = host.batch([rows[i] for i in batch])
            parts.append(encoder(torch.from_numpy(arrays)))
            order += batch
    embeddings: NDArray[np.float32] = torch.cat(parts).numpy()
    return embeddings[np.argsort(order)]


def _evaluating(encoder: nn.Module) -> Any:
    return copy.deepcopy(encoder).cpu().eval()


def _batches(host: TensorInput, rows: Sequence[Prepared]) -> Iterator[list[int]]:
    """Split rows into batches of one shape, by their indices."""
    indices: dict[tuple[int, ...], list[int]] = {}
    for index, row in enumerate(rows):
        indices.setdefault(host.key(row), []).append(index)
    for group in indices.values():
        yield from (group[start : start + BATCH] for start in range(0, len(group), BATCH))
