"""float16 and bfloat16 for accelerators: products in half precision, sums and exponentials not.

A node is computed in half precision when it multiplies matrices, works element by element or moves
numbers about.  Whatever accumulates or leaves the range (softmax, layer norm, reductions, powers,
divisions: whatever is not listed) stays float32 between casts, and so does a node with a constant
that the half type cannot hold, such as a mask's -3.4e38 or the 1e-12 under a division.  Inputs and
output keep their types, so a half-precision graph is fed and read like any other.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from attar.errors import InvalidInput

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
    converter = _Converter(model, precision)
    nodes = [made for node in model.graph.node for made in converter.node(node)]
    if not converter.halved:
        raise InvalidInput(
            f"the graph has no operator that runs in {precision}, so it would change nothing; "
            "leave the variant out"
        )
    for value in model.graph.output:
        _, casts = converter.operand(value.name, half=False)
        nodes += casts
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.node[:], model.graph.initializer[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend([*kept, *converter.constants])
    onnx.checker.check_model(model)
    serialized: bytes = model.SerializeToString(deterministic=True)
    return serialized


def on_a_cpu(graph: bytes) -> bytes:
    """Give a bfloat16 graph's numbers to a CPU, for which ONNX Runtime has no such kernels.

    Every node that is not float32 already becomes so between casts, and what it gives is rounded
    to bfloat16, as an accelerator rounds the sums that it keeps in float32.
    """
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(graph))
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    kinds |= {v.name: v.type.tensor_type.elem_type for v in model.graph.value_info}
    half = {name for name, kind in kinds.items() if kind == TensorProto.BFLOAT16}
    nodes: list[NodeProto] = []
    widened: set[str] = set()
    for original in model.graph.node:
        node = NodeProto()
        node.CopyFrom(original)
        if node.op_type == "Cast":
            nodes.append(node)
            continue
        for place, name in enumerate(original.input):
            if name in half:
                node.input[place] = f"{name}.wide"
                if name not in widened:
                    nodes.append(_cast(name, f"{name}.wide", TensorProto.FLOAT))
                    widened.add(name)
        nodes.append(node)
        for place, name in enumerate(original.output):
            if name in half:
                node.output[place] = f"{name}.exact"
                nodes.append(_cast(f"{name}.exact", name, TensorProto.BFLOAT16))
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    serialized: bytes = model.SerializeToString(deterministic=True)
    return serialized


def _cast(name: str, result: str, to: int) -> NodeProto:
    return helper.make_node("Cast", [name], [result], to=to)


class _Converter:
    """Gives each node its operands in the precision that it runs in; a value is cast once."""

    def __init__(self, model: onnx.ModelProto, precision: Half) -> None:
        graph = model.graph
        self._suffix = f".{precision}"
        self._type = _TYPES[precision]
        self._dtype = helper.tensor_dtype_to_np_dtype(self._type)
        self._opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
        self._weights = {
            tensor.name: numpy_helper.to_array(tensor)
            for tensor in graph.initializer
            if tensor.data_type == TensorProto.FLOAT
        }
        values = (*graph.input, *graph.value_info, *graph.output)
        self._floats = {
            *(v.name for v in values if v.type.tensor_type.elem_type == TensorProto.FLOAT),
            *self._weights,
        }
        self._there = {*(value.name for value in graph.input), *self._weights}
        self.constants: list[TensorProto] = []
        self.halved = 0

    def node(self, node: NodeProto) -> Iterator[NodeProto]:
        """Give the node in its precision, after the casts that its operands need."""
        half = self._runs_in_half(node)
        self.halved += half
        made = NodeProto()
        made.CopyFrom(node)
        for place, name in enumerate(node.input):
            made.input[place], casts = self.operand(name, half=half)
            yield from casts
        for place, name in enumerate(node.output):
            made.output[place] = self._name(name, half=half)
            self._there.add(made.output[place])
        yield made

    def operand(self, name: str, *, half: bool) -> tuple[str, list[NodeProto]]:
        """Say what a value is called in a precision, and give the cast that makes it, if any."""
        wanted = self._name(name, half=half)
        if wanted in self._there or name not in self._floats:
            return wanted, []
        self._there.add(wanted)
        if name in self._weights:
            value = self._weights[name].astype(self._dtype)
            self.constants.append(numpy_helper.from_array(value, wanted))
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
        """Tell whether a constant survives: none becomes infinite, and no lone number zero."""
        value = self._weights.get(name)
        if value is None:
            return True
        with np.errstate(over="ignore", under="ignore"):
            half = value.astype(self._dtype).astype(np.float32)
        vanished = value.size == 1 and bool(value.any()) and not half.any()
        return bool((np.isinf(half) == np.isinf(value)).all()) and not vanished
