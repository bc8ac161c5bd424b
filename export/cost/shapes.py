"""What is known of each value of an ONNX graph before it runs: type, shape, and small contents."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import (
    NodeProto,
    TensorProto,
    TypeProto,
    checker,
    defs,
    helper,
    numpy_helper,
    shape_inference,
)
from onnx.reference import ReferenceEvaluator

from attar.errors import InvalidInput

from ..onnx_graph import attribute

MOST_FOLLOWED = 1024
"""Numbers of a value that is followed through the graph: a shape, an axis, a scalar."""

VIEWS = frozenset(
    {"Constant", "Flatten", "Identity", "Reshape", "Shape", "Size", "Squeeze", "Unsqueeze"}
)
"""Operators that give their input's numbers in the same place, or only its shape."""

MATRIX_PRODUCTS = frozenset(
    {
        "DynamicQuantizeMatMul",
        "FusedMatMul",
        "MatMul",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "QLinearMatMul",
    }
)

_FOUR_BITS = (TensorProto.INT4, TensorProto.UINT4)
_SAME_SIGNS = VIEWS | {
    "Cast", "CastLike", "DequantizeLinear", "Expand", "Gather", "Neg", "QuantizeLinear", "Slice",
    "Split", "Tile", "Transpose",
}  # fmt: skip
"""Operators that make -1, 0 and 1 of nothing but -1, 0 and 1 in their first input."""

_SAME_SHAPE = frozenset(
    {
        "BiasAdd", "BiasGelu", "BinarizedAttention", "DequantizeLinear", "FastGelu", "Gelu",
        "QuantizeLinear", "QuickGelu", "RotaryEmbedding", "SimplifiedLayerNormalization",
        "SkipLayerNormalization", "SkipSimplifiedLayerNormalization",
    }
)  # fmt: skip
"""Operators of ONNX Runtime's and attar's own that give the shape of their first input."""

Type = tuple[int, tuple[int, ...] | None]
"""An element type of onnx.TensorProto, and a shape if it is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One value of a graph."""

    kind: int = TensorProto.UNDEFINED
    shape: tuple[int, ...] | None = None
    data: NDArray[Any] | None = None  # of a small one that no input's content decides
    constant: bool = False  # weights and nothing else decide it
    signs: bool = False  # it can hold only -1, 0 and 1

    @property
    def size(self) -> int:
        """Count its numbers."""
        return math.prod(self.shape or ())

    @property
    def bytes(self) -> int:
        """Count its bytes; none where the shape is not known."""
        if self.shape is None or self.kind in (TensorProto.UNDEFINED, TensorProto.STRING):
            return 0
        if self.kind in _FOUR_BITS:
            return -(-self.size // 2)
        return self.size * int(helper.tensor_dtype_to_np_dtype(self.kind).itemsize)


ABSENT = Value()
"""An optional input that is not given."""


def constant(tensor: TensorProto) -> Value:
    """Give what is known of a weight."""
    data = numpy_helper.to_array(tensor) if math.prod(tensor.dims) <= MOST_FOLLOWED else None
    return Value(
        kind=tensor.data_type,
        shape=tuple(tensor.dims),
        data=data,
        constant=True,
        signs=_all_signs(data),
    )


def follow(node: NodeProto, inputs: Sequence[Value], opsets: Mapping[str, int]) -> list[Value]:
    """Give what is known of a node's outputs, by what is known of its inputs.

    Raises InvalidInput when the operator cannot take inputs of these shapes.
    """
    present = [value for value in inputs if value != ABSENT]
    is_constant = node.op_type == "Constant" or (
        bool(present) and all(value.constant for value in present)
    )
    signs = _signs(node, inputs)
    types = _types(node, inputs, opsets)
    data = _contents(node, inputs, types, opsets)
    return [
        Value(
            kind=kind,
            shape=shape,
            data=content,
            constant=is_constant,
            signs=signs or _all_signs(content),
        )
        for (kind, shape), content in zip(types, data, strict=True)
    ]


def _types(node: NodeProto, inputs: Sequence[Value], opsets: Mapping[str, int]) -> list[Type]:
    """Give each output's type by ONNX's own rules, or by those of com.microsoft and attar."""
    unknown: Type = (TensorProto.UNDEFINED, None)
    used = {n: v for n, v in zip(node.input, inputs, strict=True) if n}
    if any(value.shape is None for value in used.values()):
        return [unknown] * len(node.output)
    if node.op_type == "NonZero":
        # It counts what is no padding in a mask: every token, for all items have the same length.
        return [(TensorProto.INT64, (len(inputs[0].shape or ()), inputs[0].size))]
    if not defs.has(node.op_type, node.domain):
        shape = _microsoft(node, inputs)
        # Of a table in codes, rows come out as its scales are.
        typed = inputs[2] if node.op_type == "GatherBlockQuantized" else inputs[0]
        first = (typed.kind, shape) if shape is not None else unknown
        return [first, *[unknown] * (len(node.output) - 1)]
    version = opsets[node.domain or ""]
    try:
        types = shape_inference.infer_node_outputs(
            defs.get_schema(node.op_type, version, node.domain),
            node,
            {n: helper.make_tensor_type_proto(v.kind, v.shape) for n, v in used.items()},
            {n: numpy_helper.from_array(v.data, n) for n, v in used.items() if v.data is not None},
            opset_imports=[helper.make_opsetid(node.domain, version)],
            ir_version=onnx.IR_VERSION,
        )
    except (shape_inference.InferenceError, checker.ValidationError, ValueError) as error:
        shapes = ", ".join(str(value.shape) for value in used.values())
        raise InvalidInput(
            f"the graph cannot run at these sizes: {node.op_type} would meet {shapes}: "
            f"{' '.join(str(error).split())}; ask for a size that it takes"
        ) from None
    return [_type(types[name]) if name in types else unknown for name in node.output]


def _type(proto: TypeProto) -> Type:
    tensor = proto.tensor_type
    axes = [axis.dim_value if axis.HasField("dim_value") else None for axis in tensor.shape.dim]
    known = tensor.HasField("shape") and None not in axes
    return tensor.elem_type, tuple(axis or 0 for axis in axes) if known else None


def _microsoft(node: NodeProto, inputs: Sequence[Value]) -> tuple[int, ...] | None:
    """Give the shape of the first output of an operator that ONNX does not define."""
    kind, shapes = node.op_type, [value.shape or () for value in inputs]
    if kind in _SAME_SHAPE:
        return shapes[0]
    if kind in MATRIX_PRODUCTS:
        left, right = list(shapes[0]), list(shapes[1])
        if attribute(node, "transA", 0):
            left[-2:] = left[:-3:-1]
        if attribute(node, "transB", 0):
            right[-2:] = right[:-3:-1]
        batch = np.broadcast_shapes(tuple(left[:-2]), tuple(right[:-2]))
        return (*batch, left[-2], right[-1])
    match kind:
        case "MatMulNBits":
            return (*shapes[0][:-1], attribute(node, "N", 0))
        case "EmbedLayerNormalization":
            return (*shapes[0], shapes[2][1])
        case "Attention":
            widths = attribute(node, "qkv_hidden_sizes", ())
            return (*shapes[0][:2], widths[2] if widths else shapes[1][1] // 3)
        case "MultiHeadAttention":
            values = shapes[2] if len(shapes) > 2 and shapes[2] else shapes[0]
            deep = values[1] * values[3] if len(values) == 4 else values[-1]
            return (*shapes[0][:2], deep)
        case "GatherBlockQuantized":
            packed = 8 // attribute(node, "bits", 4) if inputs[0].kind == TensorProto.UINT8 else 1
            return (*shapes[1], shapes[0][-1] * packed)
    return None


def _contents(
    node: NodeProto, inputs: Sequence[Value], types: Sequence[Type], opsets: Mapping[str, int]
) -> list[NDArray[Any] | None]:
    """Work out outputs that shapes and small constants decide."""
    shape = inputs[0].shape if inputs else None
    if node.op_type == "Shape" and shape is not None:
        start, end = attribute(node, "start", 0), attribute(node, "end", len(shape))
        return [np.array(shape[start:end], np.int64)]
    if node.op_type == "Size" and shape is not None:
        return [np.array(math.prod(shape), np.int64)]
    small = all(axes is not None and math.prod(axes) <= MOST_FOLLOWED for _, axes in types)
    known = all(value.data is not None for value in inputs if value != ABSENT)
    if not (small and known) or node.domain or node.op_type.startswith("Random"):
        return [None] * len(node.output)
    feed = {n: v.data for n, v in zip(node.input, inputs, strict=True) if n}
    return [np.asarray(x) for x in ReferenceEvaluator(node, opsets=dict(opsets)).run(None, feed)]


def _signs(node: NodeProto, inputs: Sequence[Value]) -> bool:
    """Whether a node's output can only hold -1, 0 and 1."""
    match node.op_type:
        case "Cast" if inputs[0].kind == TensorProto.BOOL:
            return True
        case "Concat" | "Mul":
            return all(value.signs for value in inputs)
        case "Where":
            return inputs[1].signs and inputs[2].signs
        case kind:
            return kind in _SAME_SIGNS and bool(inputs) and inputs[0].signs


def _all_signs(data: NDArray[Any] | None) -> bool:
    return data is not None and bool(data.size) and bool(np.isin(data, (-1, 0, 1)).all())
