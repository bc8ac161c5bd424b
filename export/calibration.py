"""Calibration: the inner values of a graph on some data, for quantisation."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper

from attar.errors import InvalidInput

from .onnx_graph import Constants, attribute

Feed = Mapping[str, NDArray[Any]]
"""A batch as a graph takes it: arrays by input name."""

ROWS = 8  # of one run: many values are held together, and an image network's fill the memory


def observe(
    model: ModelProto, names: Sequence[str], calibration: Sequence[Feed]
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Give named values of a graph as it runs on some feeds, a few rows at a time.

    Of a value (batch, length, ...) under a feed's `attention_mask` only the real tokens are given,
    as (tokens, ...). Raises InvalidInput when there are no feeds.
    """
    if not calibration:
        raise InvalidInput("int8 needs calibration data; pass at least one batch")
    watched = ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    running = session(watched.SerializeToString())
    for feed in _pieces(calibration):
        values = running.run(list(names), dict(feed))
        for name, value in zip(names, values, strict=True):
            yield name, _real(value, feed.get("attention_mask"))


def run(graph: bytes, feeds: Sequence[Feed]) -> NDArray[np.float32]:
    """Run a graph on feeds and stack its first output, the embeddings: (n, dim)."""
    running = session(graph)
    return np.concatenate([running.run(None, dict(feed))[0] for feed in feeds])


def run_tokens(graph: bytes, feeds: Sequence[Feed], name: str) -> NDArray[np.float32]:
    """Run a graph on feeds and stack the vectors of all real tokens: (m, dim)."""
    running = session(graph)
    parts = []
    for feed in feeds:
        (tokens,) = running.run([name], dict(feed))
        parts.append(_real(tokens, feed.get("attention_mask")).reshape(-1, tokens.shape[-1]))
    return np.concatenate(parts)


def session(graph: bytes) -> ort.InferenceSession:
    """Start a quiet session on the CPU: what fails is raised."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def first_rows(feeds: Sequence[Feed], count: int) -> Iterator[Feed]:
    """Give the first `count` rows of some feeds."""
    for feed in feeds:
        if count <= 0:
            return
        yield {name: value[:count] for name, value in feed.items()}
        count -= _rows(feed)


def is_product(node: NodeProto, weights: Constants) -> bool:
    """Whether a node is a product with a constant matrix, and not of two activations."""
    if node.op_type == "Gemm":
        plain = {"alpha": 1.0, "beta": 1.0, "transA": 0}
        if any(attribute(node, name, value) != value for name, value in plain.items()):
            return False
    elif node.op_type != "MatMul":
        return False
    matrix = weights.get(node.input[1])
    return matrix is not None and matrix.ndim == 2 and matrix.dtype == np.float32


def _real(value: NDArray[Any], mask: NDArray[Any] | None) -> NDArray[Any]:
    """Leave out padding where a value has tokens at all."""
    if mask is None or value.shape[: mask.ndim] != mask.shape:
        return value
    real: NDArray[Any] = value[mask.astype(bool)]
    return real


def _pieces(feeds: Sequence[Feed]) -> Iterator[Feed]:
    """Cut feeds into pieces of at most ROWS rows."""
    for feed in feeds:
        for start in range(0, _rows(feed), ROWS):
            yield {name: value[start : start + ROWS] for name, value in feed.items()}


def _rows(feed: Feed) -> int:
    return len(next(iter(feed.values())))
