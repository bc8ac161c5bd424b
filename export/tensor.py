"""An encoder of arrays, such as images, becomes a bundle: one tensor in, an embedding out."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from attar.errors import InvalidInput
from attar.inputs import TensorInput
from attar.manifest import Manifest, Output, TensorSpec

from .bundling import Candidate, Exported, assemble, refuse_taken
from .gates import FP32, INT8
from .graph import to_onnx
from .measure import BATCH, Probe
from .quantize import quantize_int8

OUTPUT = "embedding"


def export_tensor(
    path: Path,
    encoder: nn.Module,
    *,
    name: str,
    version: str = "1",
    spec: TensorSpec,
    items: NDArray[Any],
    modality: str = "image",
    probe: Probe | None = None,
    metric: str | None = None,
    int8: bool = False,
    lineage: Mapping[str, object] | None = None,
    licence: str | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write an encoder of one tensor to the bundle `path` and give what was measured.

    `spec` is the tensor as the graph takes it, batch first; `items` (n, ...) are for parity and
    calibrate `int8`, which quantises products with a constant matrix and no convolution. `probe`
    and its `metric` are the quality gate.

    Raises ShapeError when items do not fit the spec, InvalidInput when there are fewer than two,
    when `int8` finds nothing to quantise, or when the reference variant fails its gates, and
    AlreadyExists when `path` is taken and `overwrite` is false.
    """
    refuse_taken(path, overwrite=overwrite)
    if len(items) < 2:
        raise InvalidInput(f"parity needs two items or more, of {spec.name}; got {len(items)}")
    host = TensorInput(spec)
    rows = host.prepare(items, role="passage", truncation="error")
    (batch,) = host.batch(rows)
    graph = to_onnx(encoder, (torch.from_numpy(batch[:2]),), (spec,), output=OUTPUT)
    candidates = [Candidate(name="fp32", graph=graph, precision="fp32", gate=FP32)]
    if int8:
        starts = range(0, len(batch), BATCH)
        quantised = quantize_int8(graph, [{spec.name: batch[s : s + BATCH]} for s in starts])
        candidates.append(Candidate(name="int8", graph=quantised, precision="int8", gate=INT8))
    reference = _embed(encoder, batch)
    dim, lengths = reference.shape[1], np.linalg.norm(reference, axis=1)
    unit = bool(np.allclose(lengths, 1, atol=1e-4))
    manifest = Manifest(
        name=name,
        version=version,
        modality=modality,
        inputs=(spec,),
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
    )


def _embed(encoder: nn.Module, batch: NDArray[Any]) -> NDArray[np.float32]:
    """Run the encoder in evaluation mode, as to_onnx exports it: (n, dim)."""
    encoder = copy.deepcopy(encoder).cpu().eval()
    parts = (
        torch.from_numpy(batch[start : start + BATCH]) for start in range(0, len(batch), BATCH)
    )
    with torch.no_grad():
        embeddings: NDArray[np.float32] = torch.cat([encoder(part) for part in parts]).numpy()
    return embeddings
