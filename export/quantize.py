"""int8 by static calibration: the same numbers on every CPU, whoever shares the batch.

Weights of matrix products become int8 per output channel, the activations that enter them uint8 with
a scale fixed by calibration, in standard QuantizeLinear/DequantizeLinear pairs that ONNX Runtime fuses
into integer products.  Two choices keep one artifact's numbers the same everywhere.  Scales are fixed
rather than taken from the running batch, so an item does not depend on its batch-mates.  Weights use 7
of 8 bits: CPUs without VNNI add two uint8 x int8 products in 16 bits, which then cannot saturate.
A token table is stored in int8 with one scale per column and widened after the look-up.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from attar.errors import InvalidInput

WEIGHT_STEPS = 63  # 7 bits: 2 * 255 * 63 < 2**15
TABLE_STEPS = 127  # a look-up multiplies nothing, so all 8 bits are safe

Feed = Mapping[str, NDArray[Any]]


def quantize_int8(graph: bytes, calibration: Sequence[Feed]) -> bytes:
    """Quantise a float32 graph's weight products and token tables by calibrating on some feeds.

    A feed with an `attention_mask` calibrates on its real tokens only.  Raises InvalidInput when there
    is nothing to calibrate on or nothing to quantise.
    """
    if not calibration:
        raise InvalidInput("int8 needs calibration data; pass at least one batch")
    model = onnx.load_from_string(graph)
    weights = {init.name: numpy_helper.to_array(init) for init in model.graph.initializer}
    products = [node for node in model.graph.node if _is_product(node, weights)]
    tables = [node for node in model.graph.node if _is_table(node, weights)]
    if not products:
        raise InvalidInput("the graph has no product with a constant matrix, so int8 would change nothing")
    ranges = _ranges(model, sorted({node.input[0] for node in products}), calibration)
    rewriter = _Rewriter(weights, ranges)
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        if node in products:
            nodes += rewriter.product(node)
        elif node in tables:
            nodes += rewriter.table(node)
        else:
            nodes.append(node)
    used = {name for node in nodes for name in node.input}
    kept = [init for init in model.graph.initializer if init.name in used]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend([*kept, *rewriter.constants.values()])
    onnx.checker.check_model(model)
    serialized: bytes = model.SerializeToString()
    return serialized


def _is_product(node: NodeProto, weights: Mapping[str, NDArray[Any]]) -> bool:
    return node.op_type == "MatMul" and node.input[1] in weights and weights[node.input[1]].ndim == 2


def _is_table(node: NodeProto, weights: Mapping[str, NDArray[Any]]) -> bool:
    table = weights.get(node.input[0]) if node.op_type == "Gather" else None
    return table is not None and table.ndim == 2 and table.dtype == np.float32


def _ranges(
    model: onnx.ModelProto, names: Sequence[str], calibration: Sequence[Feed]
) -> dict[str, tuple[float, float]]:
    """Give each value's range over the feeds, zero included."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    session = ort.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    low, high = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for feed in calibration:
        mask = feed.get("attention_mask")
        for name, value in zip(names, session.run(list(names), dict(feed)), strict=True):
            real = value[mask.astype(bool)] if mask is not None and value.ndim == mask.ndim + 1 else value
            low[name] = min(low[name], float(real.min()))
            high[name] = max(high[name], float(real.max()))
    return {name: (low[name], high[name]) for name in names}


class _Rewriter:
    """Turns nodes into their quantised form and collects the constants they need."""

    def __init__(
        self, weights: Mapping[str, NDArray[Any]], ranges: Mapping[str, tuple[float, float]]
    ) -> None:
        self.weights = weights
        self.ranges = ranges
        self.constants: dict[str, TensorProto] = {}

    def product(self, node: NodeProto) -> list[NodeProto]:
        """x @ W becomes DQ(Q(x)) @ DQ(W8); x is quantised once however many products it enters."""
        x, w = node.input
        out = node.output[0]
        nodes = []
        if f"{x}.scale" not in self.constants:
            low, high = self.ranges[x]
            scale = max(high - low, 1e-12) / 255
            self._constant(f"{x}.scale", np.float32(scale))
            self._constant(f"{x}.zero", np.uint8(np.clip(round(-low / scale), 0, 255)))
            nodes.append(helper.make_node("QuantizeLinear", [x, f"{x}.scale", f"{x}.zero"], [f"{x}.int8"]))
        self._weight(w, steps=WEIGHT_STEPS)
        return [
            *nodes,
            helper.make_node("DequantizeLinear", [f"{x}.int8", f"{x}.scale", f"{x}.zero"], [f"{out}.x"]),
            helper.make_node(
                "DequantizeLinear", [f"{w}.int8", f"{w}.scale", f"{w}.zero"], [f"{out}.w"], axis=1
            ),
            helper.make_node("MatMul", [f"{out}.x", f"{out}.w"], [out], name=node.name),
        ]

    def table(self, node: NodeProto) -> list[NodeProto]:
        """table[ids] becomes DQ(table8[ids]): only the rows looked up are ever widened."""
        table, ids = node.input
        out = node.output[0]
        self._weight(table, steps=TABLE_STEPS)
        return [
            helper.make_node("Gather", [f"{table}.int8", ids], [f"{out}.rows"], name=node.name),
            helper.make_node(
                "DequantizeLinear", [f"{out}.rows", f"{table}.scale", f"{table}.zero"], [out], axis=-1
            ),
        ]

    def _weight(self, name: str, *, steps: int) -> None:
        """Quantise a matrix symmetrically, one scale a column."""
        weight = self.weights[name]
        scale = np.abs(weight).max(axis=0) / steps
        scale[scale == 0] = 1
        self._constant(f"{name}.int8", np.round(weight / scale).astype(np.int8))
        self._constant(f"{name}.scale", scale.astype(np.float32))
        self._constant(f"{name}.zero", np.zeros(weight.shape[1], np.int8))

    def _constant(self, name: str, value: NDArray[Any] | np.generic) -> None:
        self.constants[name] = numpy_helper.from_array(np.asarray(value), name)
