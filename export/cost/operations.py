"""What one operator of an ONNX graph multiplies and adds, by the shapes that it meets.

A product of n pairs is n multiplications and n additions. A function of one number (exp, erf,
square root, division) counts as one multiplication, a comparison as one addition, and a softmax as
two of each a number. A product with values that can only be -1, 0 or 1, such as binary codes and
masks, costs its additions alone, as EcoFormer counts (Liu et al. 2022, arXiv:2209.09004); a stock
runtime multiplies all the same.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from onnx import NodeProto

from ..onnx_graph import attribute
from .shapes import MATRIX_PRODUCTS, VIEWS, Value

CONVOLUTIONS = frozenset({"Conv", "ConvInteger", "FusedConv", "QLinearConv"})
ATTENTIONS = frozenset({"Attention", "BinarizedAttention", "MultiHeadAttention"})
NORMS = frozenset(
    {
        "BatchNormalization",
        "EmbedLayerNormalization",
        "GroupNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "RMSNormalization",
        "SimplifiedLayerNormalization",
        "SkipLayerNormalization",
        "SkipSimplifiedLayerNormalization",
    }
)
MOVES = VIEWS | {
    "And", "Cast", "CastLike", "Concat", "ConstantOfShape", "DepthToSpace", "Dropout", "Equal",
    "Expand", "Gather", "GatherBlockQuantized", "GatherElements", "GatherND", "IsInf", "IsNaN",
    "NonZero", "Not", "OneHot", "Or", "Pad", "Range", "ScatterElements", "ScatterND", "Slice",
    "SpaceToDepth", "Split", "Tile", "Transpose", "Trilu", "Where", "Xor",
}  # fmt: skip
"""Operators without arithmetic on the numbers that they pass on."""

PER_OUTPUT: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        **dict.fromkeys(("Add", "Sub", "Max", "Min", "Relu", "Neg", "Abs", "Sign"), (0, 1)),
        **dict.fromkeys(("Greater", "GreaterOrEqual", "Less", "LessOrEqual"), (0, 1)),
        **dict.fromkeys(("Round", "Floor", "Ceil"), (0, 1)),
        **dict.fromkeys(("Mul", "Div", "Mod", "Pow", "Sqrt", "Reciprocal"), (1, 0)),
        **dict.fromkeys(("Exp", "Log", "Erf", "Tanh", "Sin", "Cos"), (1, 0)),
        **dict.fromkeys(("Sigmoid", "LeakyRelu", "HardSigmoid", "Softplus"), (2, 1)),
        **dict.fromkeys(("Clip", "PRelu", "BiasAdd"), (0, 2)),
        **dict.fromkeys(("HardSwish", "Swish", "QuickGelu", "Elu", "Selu"), (3, 1)),
        **dict.fromkeys(("QuantizeLinear", "DequantizeLinear", "BatchNormalization"), (1, 1)),
        "DynamicQuantizeLinear": (1, 3),  # the least, the greatest, the zero point
        **dict.fromkeys(("Softmax", "LogSoftmax"), (2, 2)),
        "Gelu": (4, 1),
        "BiasGelu": (4, 2),
        "FastGelu": (6, 3),
        **dict.fromkeys(("LayerNormalization", "GroupNormalization"), (3, 4)),
        "InstanceNormalization": (3, 4),
        # Two sums in front: of the residual or the tables, and a bias.
        **dict.fromkeys(("SkipLayerNormalization", "EmbedLayerNormalization"), (3, 6)),
        **dict.fromkeys(("RMSNormalization", "SimplifiedLayerNormalization"), (3, 1)),
        "SkipSimplifiedLayerNormalization": (3, 2),
        "RotaryEmbedding": (2, 1),
    }
)
"""Multiplications and additions for each number that comes out."""

PER_INPUT: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        **dict.fromkeys(("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "CumSum"), (0, 1)),
        **dict.fromkeys(("ReduceL1", "ArgMax", "ArgMin", "TopK"), (0, 1)),
        **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool"), (0, 1)),
        **dict.fromkeys(("ReduceL2", "ReduceSumSquare"), (1, 1)),
        **dict.fromkeys(("ReduceLogSumExp", "LpNormalization"), (2, 1)),
        "ReduceProd": (1, 0),
    }
)
"""Multiplications and additions for each number that goes in."""

_RESIZE = MappingProxyType({"nearest": (0, 0), "linear": (4, 3), "cubic": (16, 15)})
"""The same for each number of an enlarged or reduced image, by the way it is interpolated."""

Work = tuple[int, int]
"""Multiplications and additions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operations:
    """How much is multiplied, added and moved; `moved` is in bytes."""

    multiplications: int = 0
    additions: int = 0
    moved: int = 0

    def __add__(self, other: "Operations") -> "Operations":
        """Sum each kind."""
        return Operations(
            multiplications=self.multiplications + other.multiplications,
            additions=self.additions + other.additions,
            moved=self.moved + other.moved,
        )


def work(node: NodeProto, inputs: Sequence[Value], output: Value) -> Work | None:
    """Count an operator's multiplications and additions; None for one that is not known."""
    kind = node.op_type
    if kind in MOVES:
        return 0, 0
    if kind == "BinarizedAttention":
        return _binarized(inputs)
    if kind in ATTENTIONS:
        return _attention(node, inputs, output)
    if kind in PER_OUTPUT:
        multiplications, additions = PER_OUTPUT[kind]
        chosen = kind == "Mul" and any(value.signs for value in inputs)
        return (0 if chosen else output.size * multiplications), output.size * additions
    if kind in PER_INPUT:
        multiplications, additions = PER_INPUT[kind]
        return inputs[0].size * multiplications, inputs[0].size * additions
    if kind == "Resize":
        mode = attribute(node, "mode", b"nearest").decode()
        per = _RESIZE.get(mode)
        return None if per is None else (output.size * per[0], output.size * per[1])
    if kind in ("AveragePool", "MaxPool"):
        return 0, output.size * math.prod(attribute(node, "kernel_shape", ()))
    return _product(node, inputs, output)


def projection(inputs: Sequence[Value]) -> Work:
    """Count the three projections, biases included, that com.microsoft's Attention does itself."""
    (*rows, width), columns = inputs[0].shape or (0,), (inputs[1].shape or (0, 0))[1]
    numbers = math.prod(rows) * columns
    return numbers * width, numbers * (width + 1)


def _product(node: NodeProto, inputs: Sequence[Value], output: Value) -> Work | None:
    kind, shapes = node.op_type, [value.shape or () for value in inputs]
    if kind == "MatMulNBits":
        depth, columns = attribute(node, "K", 0), attribute(node, "N", 0)
        # Each weight is unpacked at each run: less its zero point, times its scale.
        both = depth * (output.size + columns)
        return both, both
    biased = len(inputs) > 2 and kind in ("Gemm", "Conv", "FusedConv", "ConvTranspose")
    if kind == "ConvTranspose":
        products = inputs[0].size * math.prod(shapes[1][1:])
    elif kind in CONVOLUTIONS:
        weights = shapes[3 if kind == "QLinearConv" else 1]
        products = output.size * math.prod(weights[1:])
    elif kind in MATRIX_PRODUCTS or kind == "Gemm":
        products = output.size * shapes[0][-2 if attribute(node, "transA", 0) else -1]
    else:
        return None
    chosen = inputs[0].signs or (len(inputs) > 1 and inputs[1].signs)
    return (0 if chosen else products), products + output.size * biased


def _binarized(inputs: Sequence[Value]) -> Work | None:
    """Count attar-native's attention by what native/src/attention.inc does.

    For each token and head: its length, its distances to the anchors, their kernel values less
    their mean, the projections of these and their signs; its values into one of 16 buckets for each
    four bits of the code; as many entries of a table added up, and divided by a weight. For each
    row and head: the table.
    """
    tokens, anchors, hashes = (inputs[i].shape for i in (0, 2, 4))
    if tokens is None or anchors is None or hashes is None:
        return None
    (heads, depth, count), bits = anchors, hashes[2]
    groups, pairs = -(-bits // 4), tokens[0] * heads
    features = count * (depth + 2 + bits)
    multiplications = features + 2 * depth + 4
    additions = features + bits + 2 * groups * (depth + 1)
    if (
        inputs[5].shape is None
    ):  # each row's own bandwidth: lengths, and products with a mean anchor
        multiplications, additions = multiplications + 2 * depth + 2, additions + 2 * depth + 1
    rows = pairs * tokens[1]
    return (
        rows * multiplications + pairs * depth * 48 * groups,
        rows * additions + pairs * depth * (71 * groups + 16),
    )


def _attention(node: NodeProto, inputs: Sequence[Value], output: Value) -> Work | None:
    """Count a fused attention: two products, the scale, the softmax, and a bias if it adds one."""
    shapes = [value.shape for value in inputs]
    query = shapes[0] or ()
    alone = node.op_type == "Attention" and node.domain == "com.microsoft"
    key = query if alone or len(shapes) < 2 else shapes[1] or query
    heads = attribute(node, "num_heads", 0) or attribute(node, "q_num_heads", 0)
    if len(query) == 4:
        heads = query[1]
    if len(query) not in (3, 4) or len(key) not in (3, 4) or not heads:
        return None
    batch, queries, keys = query[0], query[len(query) - 2], key[len(key) - 2]
    weights = batch * heads * queries * keys
    products = 2 * output.size * keys
    biased = node.op_type == "MultiHeadAttention" and len(shapes) > 3 and shapes[3] is not None
    return products + 3 * weights, products + 2 * weights + 3 * output.size * biased
