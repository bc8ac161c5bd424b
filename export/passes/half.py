"""float16 and bfloat16 for accelerators: products in half precision, sums and exponentials not.

A node is computed in half precision when it multiplies matrices, works element by element or moves
numbers. What accumulates or leaves the range (softmax, layer norm, reductions, powers, divisions:
each operator that is not listed) stays float32 between casts. So does a node with a constant that
the half type cannot hold, such as a mask's -3.4e38 or the 1e-12 under a division. Inputs and output
keep their types, so a half-precision graph is run like any other.
"""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from attar.errors import InvalidInput

from ..onnx_graph import Graph, changed, rewrite

Half = Literal["fp16", "bf16"]

HALVED = frozenset(
    {
        *("Conv", "Gemm", "MatMul"),
        *("Add", "Clip", "Gelu", "HardSigmoid", "HardSwish", "Mul", "Neg", "Relu", "Sub", "Where"),
        *("Concat", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Pad", "Reshape"),
        *("Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
    }
)
"""Operators that run in half precision; accelerators sum their products in float32."""

_TYPES = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


def to_half(graph: bytes, precision: Half) -> bytes:
    """Give a float32 graph of standard operators that computes in `precision` where that is safe.

    Raises InvalidInput when nothing in the graph can be half.
    """
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(graph))
    converter = _Converter(Graph(model), precision)
    nodes = [written for node in model.graph.node for written in converter.node(node)]
    if not converter.halved:
        raise InvalidInput(
            f"the graph has no operator that runs in {precision}, so it would change nothing; "
            "leave the variant out"
        )
    for value in model.graph.output:
        _, casts = converter.operand(value.name, half=False)
        nodes += casts
    return rewrite(model, nodes, converter.constants, values=())  # their types have changed


def on_a_cpu(graph: bytes) -> bytes:
    """Give a graph that a CPU can run, with the numbers of a bfloat16 graph.

    ONNX Runtime has no bfloat16 kernels for CPUs. Every node that is not float32 already becomes so
    between casts, and its output is rounded to bfloat16, as an accelerator rounds the sums that it
    keeps in float32.
    """
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(graph))
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    types |= {v.name: v.type.tensor_type.elem_type for v in model.graph.value_info}
    half = {name for name, kind in types.items() if kind == TensorProto.BFLOAT16}
    nodes: list[NodeProto] = []
    widened: set[str] = set()
    for node in model.graph.node:
        if node.op_type == "Cast":
            nodes.append(node)
            continue
        for name in node.input:
            if name in half and name not in widened:
                nodes.append(_cast(name, f"{name}.wide", TensorProto.FLOAT))
                widened.add(name)
        inputs = [f"{name}.wide" if name in half else name for name in node.input]
        outputs = [f"{name}.exact" if name in half else name for name in node.output]
        nodes.append(changed(node, inputs=inputs, outputs=outputs))
        nodes += [
            _cast(f"{name}.exact", name, TensorProto.BFLOAT16)
            for name in node.output
            if name in half
        ]
    return rewrite(model, nodes, values=())


def _cast(name: str, result: str, to: int) -> NodeProto:
    return helper.make_node("Cast", [name], [result], to=to)


class _Converter:
    """Gives each node its operands in the precision that it runs in; a value is cast once."""

    def __init__(self, graph: Graph, precision: Half) -> None:
        self._suffix = f".{precision}"
        self._type = _TYPES[precision]
        self._dtype = helper.tensor_dtype_to_np_dtype(self._type)
        opsets = graph.model.opset_import
        self._opset = next(o.version for o in opsets if o.domain in ("", "ai.onnx"))
        self._weights = {
            name: value for name, value in graph.constants.items() if value.dtype == np.float32
        }
        self._floats = {
            *(name for name in graph.values if graph.element_type(name) == TensorProto.FLOAT),
            *self._weights,
        }
        self._available = {*graph.inputs, *self._weights}
        self.constants: dict[str, NDArray[Any]] = {}
        self.halved = 0

    def node(self, node: NodeProto) -> Iterator[NodeProto]:
        """Give the node in its precision, after the casts that its operands need."""
        half = self._runs_in_half(node)
        self.halved += half
        inputs = []
        for name in node.input:
            operand, casts = self.operand(name, half=half)
            inputs.append(operand)
            yield from casts
        outputs = [self._name(name, half=half) for name in node.output]
        self._available.update(outputs)
        yield changed(node, inputs=inputs, outputs=outputs)

    def operand(self, name: str, *, half: bool) -> tuple[str, list[NodeProto]]:
        """Give a value's name in a precision, and the cast that makes it, if it needs one."""
        wanted = self._name(name, half=half)
        if wanted in self._available or name not in self._floats:
            return wanted, []
        self._available.add(wanted)
        if name in self._weights:
            self.constants[wanted] = self._weights[name].astype(self._dtype)
            return wanted, []
        to = self._type if half else TensorProto.FLOAT
        return wanted, [_cast(self._name(name, half=not half), wanted, to)]

    def _name(self, name: str, *, half: bool) -> str:
        return name + self._suffix if half and name in self._floats else name

    def _runs_in_half(self, node: NodeProto) -> bool:
        if node.domain not in ("", "ai.onnx") or node.op_type not in HALVED:
            return False
        schema = onnx.defs.get_schema(node.op_type, self._opset)
        wanted = "bfloat16" if self._type == TensorProto.BFLOAT16 else "float16"
        return (
            any(name in self._floats for name in node.output)
            and any(f"tensor({wanted})" in c.allowed_type_strs for c in schema.type_constraints)
            and all(self._holds(name) for name in node.input)
        )

    def _holds(self, name: str) -> bool:
        """Whether the half type holds a constant: no number becomes infinite, no scalar zero."""
        value = self._weights.get(name)
        if value is None:
            return True
        with np.errstate(over="ignore", under="ignore"):
            half = value.astype(self._dtype).astype(np.float32)
        vanished = value.size == 1 and bool(value.any()) and not half.any()
        return bool((np.isinf(half) == np.isinf(value)).all()) and not vanished
