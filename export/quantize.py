"""int8 by static calibration: the same numbers on every CPU, whoever shares the batch.

Weights of matrix products become int8 with one scale a column, the activations that enter them
uint8 with one scale fixed by calibration, in standard QuantizeLinear/DequantizeLinear pairs that
ONNX Runtime fuses into integer products.  Two choices keep an item's numbers its own.  Scales are
fixed rather than taken from the running batch, so an item does not depend on its batch-mates.
Weights use 7 of 8 bits: CPUs without VNNI add two uint8 x int8 products in 16 bits, which then
cannot saturate.  A token table is stored in int8 with one scale a column and widened after the
look-up.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from attar.errors import InvalidInput

WEIGHT_STEPS = 63  # 7 bits: 2 * 255 * 63 < 2**15
TABLE_STEPS = 127  # a look-up multiplies nothing, so all 8 bits are safe

Feed = Mapping[str, NDArray[Any]]


def quantize_int8(graph: bytes, calibration: Sequence[Feed]) -> bytes:
    """Quantise a float32 graph's weight products and token tables, calibrated on some feeds.

    A feed with an `attention_mask` calibrates on its real tokens only. Raises InvalidInput when
    there is nothing to calibrate on or nothing to quantise.
    """
    if not calibration:
        raise InvalidInput("int8 needs calibration data; pass at least one batch")
    model = onnx.load_from_string(graph)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    entering = {node.input[0] for node in model.graph.node if _is_product(node, weights)}
    if not entering:
        raise InvalidInput(
            "the graph has no product with a constant matrix, so int8 would change nothing; "
            "leave it out"
        )
    rewriter = _Rewriter(weights, _ranges(model, sorted(entering), calibration))
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        if _is_product(node, weights):
            nodes += rewriter.product(node)
        elif _is_table(node, weights):
            nodes += rewriter.table(node)
        else:
            nodes.append(node)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend([*kept, *rewriter.constants.values()])
    onnx.checker.check_model(model)
    serialized: bytes = model.SerializeToString(deterministic=True)
    return serialized


def quantize_columns(
    weight: NDArray[np.float32], *, steps: int
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round a matrix (k, n) to codes within +-`steps` and a scale for each column (n,).

    What is lost is at most half a scale: |weight - codes * scale| <= scale / 2.
    """
    least = np.finfo(np.float32).tiny  # below it float32 has too few digits to divide by
    scale = np.maximum(np.abs(weight).max(axis=0) / steps, least).astype(np.float32)
    return np.round(weight / scale).astype(np.int8), scale


def _is_product(node: NodeProto, weights: Mapping[str, NDArray[Any]]) -> bool:
    """Tell a product with a constant matrix from one of two activations, as in attention."""
    matrix = weights.get(node.input[1]) if node.op_type == "MatMul" else None
    return matrix is not None and matrix.ndim == 2 and matrix.dtype == np.float32


def _is_table(node: NodeProto, weights: Mapping[str, NDArray[Any]]) -> bool:
    table = weights.get(node.input[0]) if node.op_type == "Gather" else None
    return table is not None and table.ndim == 2 and table.dtype == np.float32


def _ranges(
    model: ModelProto, names: Sequence[str], calibration: Sequence[Feed]
) -> dict[str, tuple[float, float]]:
    """Give each value's range over the feeds, zero included."""
    watched = ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    session = ort.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    low, high = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for feed in calibration:
        for name, value in zip(names, session.run(list(names), dict(feed)), strict=True):
            real = _real(value, feed.get("attention_mask"))
            low[name] = min(low[name], float(real.min()))
            high[name] = max(high[name], float(real.max()))
    return {name: (low[name], high[name]) for name in names}


def _real(value: NDArray[Any], mask: NDArray[Any] | None) -> NDArray[Any]:
    """Leave out padding where a value (batch, length, ...) has tokens at all."""
    if mask is None or value.shape[: mask.ndim] != mask.shape:
        return value
    real: NDArray[Any] = value[mask.astype(bool)]
    return real


class _Rewriter:
    """Turns nodes into their quantised form and collects the constants they need."""

    def __init__(
        self, weights: Mapping[str, NDArray[Any]], ranges: Mapping[str, tuple[float, float]]
    ) -> None:
        self._weights = weights
        self._ranges = ranges
        self.constants: dict[str, TensorProto] = {}

    def product(self, node: NodeProto) -> list[NodeProto]:
        """Turn x @ W into DQ(Q(x)) @ DQ(W8); x is quantised once however many it enters."""
        x, w = node.input
        out = node.output[0]
        code = [f"{x}.int8", f"{x}.scale", f"{x}.zero"]
        nodes = []
        if f"{x}.scale" not in self.constants:
            self._activation(x)
            nodes.append(helper.make_node("QuantizeLinear", [x, *code[1:]], code[:1]))
        matrix = self._weight(w, steps=WEIGHT_STEPS)
        return [
            *nodes,
            helper.make_node("DequantizeLinear", code, [f"{out}.x"]),
            helper.make_node("DequantizeLinear", matrix, [f"{out}.w"], axis=1),
            helper.make_node("MatMul", [f"{out}.x", f"{out}.w"], [out], name=node.name),
        ]

    def table(self, node: NodeProto) -> list[NodeProto]:
        """Turn table[ids] into DQ(table8[ids]): only the rows looked up are ever widened."""
        table, ids = node.input
        out = node.output[0]
        codes, *affine = self._weight(table, steps=TABLE_STEPS)
        rows = [f"{out}.rows", *affine]
        return [
            helper.make_node("Gather", [codes, ids], rows[:1], name=node.name),
            helper.make_node("DequantizeLinear", rows, [out], axis=-1),
        ]

    def _activation(self, name: str) -> None:
        low, high = self._ranges[name]
        scale = max(high - low, 1e-12) / 255
        self._constant(f"{name}.scale", np.float32(scale))
        self._constant(f"{name}.zero", np.uint8(np.clip(round(-low / scale), 0, 255)))

    def _weight(self, name: str, *, steps: int) -> list[str]:
        """Quantise a matrix, once for each number of steps; name its codes, scales and zeros."""
        codes, scale = quantize_columns(self._weights[name], steps=steps)
        return [
            self._constant(f"{name}.int8.{steps}", codes),
            self._constant(f"{name}.scale.{steps}", scale),
            self._constant(f"{name}.zero.{steps}", np.zeros(len(scale), np.int8)),
        ]

    def _constant(self, name: str, value: NDArray[Any] | np.generic) -> str:
        self.constants[name] = numpy_helper.from_array(np.asarray(value), name)
        return name
