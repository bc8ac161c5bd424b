"""What TensorRT's ONNX parser takes of a graph, checked before a build that would fail.

The table is that of onnx-tensorrt for TensorRT 10.15, docs/operators.md: the operators marked Y,
and of their restrictions those that an encoder's graph can meet.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, helper, numpy_helper

OPSETS = range(9, 25)

OPERATORS = frozenset(
    """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool
    BatchNormalization BlackmanWindow Cast CastLike Ceil Celu Clip Concat Constant ConstantOfShape
    Conv ConvTranspose Cos Cosh CumSum DeformConv DepthToSpace DequantizeLinear Div Dropout Einsum
    Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements GatherND Gelu Gemm
    GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample
    GroupNormalization HammingWindow HannWindow HardSigmoid HardSwish Hardmax Identity If
    ImageScaler InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu Less
    LessOrEqual Log LogSoftmax Loop LpNormalization LpPool MatMul Max MaxPool Mean
    MeanVarianceNormalization Min Mish Mod Mul Neg NonMaxSuppression NonZero Not OneHot Or PRelu Pad
    ParametricSoftplus Pow QuantizeLinear RMSNormalization RNN RandomNormal RandomNormalLike
    RandomUniform RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp
    ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize
    ReverseSequence RoiAlign RotaryEmbedding Round STFT ScaledTanh Scan Scatter ScatterElements
    ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign
    SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh TensorScatter ThresholdedRelu Tile TopK
    Transpose Trilu Unsqueeze Upsample Where Xor
    """.split()  # noqa: SIM905 -- a table
)

Constants = Mapping[str, NDArray[Any]]


def refusals(graph: bytes) -> list[str]:
    """Say what the parser would refuse: a sentence a node, none for a graph that it takes."""
    model = onnx.load_from_string(graph)
    standard = {o.version for o in model.opset_import if o.domain in ("", "ai.onnx")}
    refused = [
        f"the graph is of opset {version}, and the parser takes {OPSETS.start} to {OPSETS.stop - 1}"
        for version in sorted(standard)
        if version not in OPSETS
    ]
    for node, constants in _nodes(model.graph, {}):
        refused += [
            f"node {_name(node)} ({node.op_type}) {why}" for why in _why_not(node, constants)
        ]
    return refused


def _nodes(graph: GraphProto, outer: Constants) -> Iterator[tuple[NodeProto, Constants]]:
    """Walk a graph and the graphs inside its nodes, each node with the constants it can see."""
    constants = {**outer, **{t.name: numpy_helper.to_array(t) for t in graph.initializer}}
    for node in graph.node:
        yield node, constants
        for attribute in node.attribute:
            for below in (attribute.g, *attribute.graphs):
                yield from _nodes(below, constants)


def _name(node: NodeProto) -> str:
    """Name a node; a node without a name is called by its first output."""
    return repr(node.name or node.output[0])


def _why_not(node: NodeProto, constants: Constants) -> Iterator[str]:
    if node.domain not in ("", "ai.onnx"):
        yield f"is of {node.domain}, and the parser takes standard operators only"
        return
    if node.op_type not in OPERATORS:
        yield "is no operator that the parser takes"
    elif node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        yield from _why_not_quantised(node, constants)
    elif node.op_type == "LayerNormalization" and any(node.output[1:]):
        yield "gives more than its first output, and the parser gives that one only"
    elif node.op_type == "Resize":
        options = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if options.get("antialias"):
            yield "smooths before it shrinks (antialias), which the parser does not"
        if options.get("mode", b"nearest") == b"cubic":
            yield "is cubic, and the parser takes nearest and linear"


def _why_not_quantised(node: NodeProto, constants: Constants) -> Iterator[str]:
    """Quantised numbers are int8 around zero."""
    zero = constants.get(node.input[2]) if len(node.input) > 2 else None
    if zero is None:  # uint8 is what QuantizeLinear makes where nothing is said
        if node.op_type == "QuantizeLinear":
            yield "has no constant zero point; the parser takes int8 around zero"
    elif np.any(zero != 0):
        shown = np.unique(zero)[:3].tolist()
        yield f"has zero point {shown}, and the parser takes 0 only"
    elif zero.dtype != np.int8:
        yield f"is of {zero.dtype}, and the parser takes int8"
