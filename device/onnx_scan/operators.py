"""The operators that a bundle's graphs may call.

Every one of them computes tensors from tensors. Left out is what holds graphs (If, Loop, Scan,
SequenceMap), draws numbers, reads text or coded images, may be absent (Optional) or is made for
training; of ONNX Runtime's own, whatever neither attar's variants nor ONNX Runtime's tools for
transformers and quantisation make: EPContext reads files, PythonOp and TritonOp run code. Left out
too is what ends the process at scales of another shape: QLinearConcat, QLinearLeakyRelu,
QLinearSigmoid, QLinearSoftmax and QLinearWhere.
"""

from collections.abc import Mapping
from types import MappingProxyType

from ..native import DOMAIN as NATIVE

_ONNX = """
Abs Acos Acosh Add AffineGrid And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool
BatchNormalization BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor BlackmanWindow
Cast CastLike CausalConvWithState Ceil Celu CenterCropPad Clip Col2Im Compress Concat
ConcatFromSequence Constant ConstantOfShape Conv ConvInteger ConvTranspose Cos Cosh CumProd CumSum
DFT DeformConv DepthToSpace DequantizeLinear Det Div Dropout DynamicQuantizeLinear Einsum Elu Equal
Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements GatherND Gelu Gemm
GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization
HammingWindow HannWindow HardSigmoid HardSwish Hardmax Identity InstanceNormalization IsInf IsNaN
LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual LinearAttention Log LogSoftmax
LpNormalization LpPool MatMul MatMulInteger Max MaxPool MaxRoiPool MaxUnpool Mean
MeanVarianceNormalization MelWeightMatrix Min Mish Mod Mul Neg NonMaxSuppression NonZero Not OneHot
Or PRelu Pad Pow QLinearConv QLinearMatMul QuantizeLinear RMSNormalization RNN Range Reciprocal
ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
ReduceSumSquare Relu Reshape Resize ReverseSequence RoiAlign RotaryEmbedding Round STFT
ScatterElements ScatterND Selu SequenceAt SequenceConstruct SequenceEmpty SequenceErase
SequenceInsert SequenceLength Shape Shrink Sigmoid Sign SimplifiedLayerNormalization Sin Sinh Size
Slice Softmax Softplus Softsign SpaceToDepth Split SplitToSequence Sqrt Squeeze Sub Sum SwiGLU Swish
Tan Tanh TensorScatter ThresholdedRelu Tile TopK Transpose Trilu Unique Unsqueeze Where Xor
"""

_MICROSOFT = """
Attention BiasAdd BiasGelu BiasSoftmax DequantizeLinear DynamicQuantizeMatMul
EmbedLayerNormalization FastGelu FusedConv FusedGemm FusedMatMul GatherBlockQuantized Gelu
MatMulIntegerToFloat MatMulNBits MultiHeadAttention QAttention QGemm QLinearAdd QLinearAveragePool
QLinearGlobalAveragePool QLinearMul QLinearReduceMean QuantizeLinear QuickGelu RotaryEmbedding
SkipLayerNormalization SkipSimplifiedLayerNormalization
"""

OPERATORS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "ai.onnx": frozenset(_ONNX.split()),
        "com.microsoft": frozenset(_MICROSOFT.split()),
        NATIVE: frozenset({"BinarizedAttention"}),
    }
)
"""Domain -> operators. ONNX spells `ai.onnx` as the empty text as well."""
