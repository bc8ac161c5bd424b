"""What a graph computes from constants alone.

A few bytes of constants may ask for any amount of work: 28 kB of MatMul nodes are 1000 products of
4096 x 4096. Sessions are opened without constant folding, so that none of it is done as a file is
opened. This counts what a run would do, by the shapes that follow from the file, and refuses a file
that asks for far more than it holds, or for what has no rule here.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import BundleRefused
from .protobuf import Message
from .tensors import numbers_of, shape_of

FREE = 2**27
"""Numbers made and pairs multiplied that any file may ask for.

They are counted here and not computed: no load folds them. A run does, as it does what its items
ask for, which has no bound. Two products of weights of 256 x 256 are a quarter of it.
"""

PER_BYTE = 16
"""The same for each byte of the file: weights of 4 bits that become float32 are 2."""

_INT, _TEXT, _INTS = 2, 3, 7  # AttributeProto.AttributeType

_FEW = 64
"""Numbers of a tensor whose values are followed: shapes have no more."""

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Constant:
    """A tensor that no input changes, and its numbers where they are few and known.

    Of `at_most` it is known that no axis is larger: how many numbers are not zero depends on them.
    """

    shape: Shape
    numbers: NDArray[Any] | None = None
    at_most: bool = False

    @property
    def whole(self) -> Shape:
        """Give the numbers, as those of a shape; ValueError where they are not known."""
        if self.numbers is None:
            raise ValueError("its numbers are not known")
        if self.numbers.ndim > 1:
            raise ValueError(f"its numbers are of shape {self.shape}, and one axis is due")
        return tuple(int(each) for each in np.atleast_1d(self.numbers))


Inputs: TypeAlias = Sequence[Constant]
Rule: TypeAlias = Callable[[Message, Inputs], Shape]
"""Gives a node's output shape; where none follows, ValueError, LookupError or ArithmeticError."""


def check_constants(graph: Message, size: int, name: str) -> Mapping[str, Constant]:
    """Give a graph's constants by name.

    Raises BundleRefused for one whose constants ask for more than a file of `size` bytes may.
    """
    most, cost = FREE + PER_BYTE * size, 0
    known = {tensor.get("name", ""): _stored(tensor) for tensor in graph.each("initializer")}
    known[""] = Constant(())  # an input that is left out
    for node in graph.each("node"):
        given = [known.get(each) for each in node.each("input")]
        constants = [each for each in given if each is not None]
        outputs = node.each("output")
        shown = f"{(outputs or [''])[0]!r:.80} by {node.get('op_type')}"
        try:
            if len(constants) == len(given):
                made = _output(node, constants)
                cost += _cost(node, constants, made.shape)
                known.update({each: made for each in outputs if each})
            elif node.get("op_type") in _ENLARGED and given[1:2] != [None]:
                cost += _least(given[1:2])
        except (ValueError, LookupError, ArithmeticError) as error:
            raise BundleRefused(
                "unbounded",
                f"{name} computes {shown} from constants, and how large that is does not follow "
                f"from the file ({error}); compute it before the export",
            ) from None
        if cost > most:
            raise BundleRefused(
                "unbounded",
                f"{name} computes {cost} numbers from constants up to {shown}; a file of {size} "
                f"bytes may {most}; compute them before the export",
            )
    return known


def attribute(node: Message, name: str, default: Any) -> Any:
    """Give an attribute of whole numbers: several where the default is several, or one.

    Raises ValueError for another type.
    """
    several = isinstance(default, Sequence)
    for each in node.each("attribute"):
        if each.get("name") == name:
            if each.get("type") != (_INTS if several else _INT):
                raise ValueError(f"attribute {name} is of type {each.get('type')}")
            return each.numbers("ints", most=_FEW) if several else each.get("i", 0)
    return default


def _stored(tensor: Message) -> Constant:
    return Constant(shape_of(tensor), numbers_of(tensor, most=_FEW))


def _output(node: Message, inputs: Inputs) -> Constant:
    kind = node.get("op_type", "")
    if kind == "Constant":
        return _constant(node)
    if kind not in RULES:
        raise ValueError("attar has no rule for it")
    if any(node.each("output")[1:]) and kind not in _SEVERAL:
        raise ValueError("attar has no rule for its further outputs")
    at_most = any(each.at_most for each in inputs)
    if at_most and kind not in _GROWING:
        raise ValueError("it reads what is known up to a bound")
    shape = RULES[kind](node, inputs)
    if min(shape, default=0) < 0:
        raise ValueError(f"its shape is {shape}")
    if at_most or kind == "NonZero" or (kind == "Split" and _uneven(node, inputs, shape)):
        return Constant(shape, at_most=True)
    return Constant(shape, _followed(kind, node, inputs, shape))


def _followed(kind: str, node: Message, inputs: Inputs, shape: Shape) -> NDArray[Any] | None:
    """Give the numbers that come out, where they are whole and few."""
    if math.prod(shape) > _FEW:
        return None
    if kind == "Shape":
        sizes = np.array(inputs[0].shape, np.int64)
        return sizes[attribute(node, "start", 0) : attribute(node, "end", None)]
    if kind == "Size":
        return np.array(math.prod(inputs[0].shape), np.int64)
    numbers = [each.numbers for each in inputs if each.numbers is not None]
    if kind not in _FOLLOWED or len(numbers) < len(inputs):
        return None
    if any(each.dtype.kind not in "ib" for each in numbers):
        return None
    with np.errstate(all="ignore"):  # whole numbers wrap, as they do in a graph
        made = _FOLLOWED[kind](node, numbers)
    return None if made is None else np.asarray(made).reshape(shape)


def _cost(node: Message, x: Inputs, shape: Shape) -> int:
    """Count what a node does: the numbers that it makes, or the more that it reads for them."""
    kind, made = node.get("op_type", ""), math.prod(shape)
    if kind in _PRODUCTS:
        return made * x[0].shape[0 if attribute(node, "transA", 0) else -1]
    if kind == "Conv":
        return made * math.prod(x[1].shape[1:])
    if kind in _POOLS:
        kernel: list[int] = attribute(node, "kernel_shape", [])
        return made * math.prod(kernel)
    if kind == "LRN":
        size: int = attribute(node, "size", 1)
        return made * max(1, size)
    if kind == "Einsum":
        return math.prod(_labels(_terms(node)[0], x).values())
    if kind in _OF_MANY:
        return made * len(x)
    return max(made, math.prod(x[0].shape)) if kind in _READ_WHOLE else made


def _least(requested: Sequence[Constant | None]) -> int:
    """Give the least that an item becomes by a requested shape."""
    numbers = [each.whole for each in requested if each is not None and each.numbers is not None]
    return max((math.prod(max(1, size) for size in each) for each in numbers), default=0)


def _constant(node: Message) -> Constant:
    (value,) = node.each("attribute")
    if value.get("name") == "value" and "t" in value.fields:
        return _stored(value.get("t"))
    for field in ("i", "f"):
        if field in value.fields:
            return Constant((), np.array(value.get(field)))
    for field in ("ints", "floats"):
        if count := value.count(field):
            if count > _FEW or field == "floats":
                return Constant((count,))
            return Constant((count,), np.array(value.numbers(field, most=_FEW)))
    raise ValueError(f"{value.get('name')} is no number")


def _first(_: Message, x: Inputs) -> Shape:
    return x[0].shape


def _broadcast(_: Message, x: Inputs) -> Shape:
    return tuple(map(int, np.broadcast_shapes(*(each.shape for each in x))))


def _shape_input(_: Message, x: Inputs) -> Shape:
    return x[0].whole


def _expand(_: Message, x: Inputs) -> Shape:
    return tuple(map(int, np.broadcast_shapes(x[0].shape, x[1].whole)))


def _tile(_: Message, x: Inputs) -> Shape:
    return tuple(size * times for size, times in zip(x[0].shape, x[1].whole, strict=True))


def _range(_: Message, x: Inputs) -> Shape:
    """Subtract in the numbers' own type and divide in float64, as the runtime does."""
    start, limit, step = (_scalar(each) for each in x)
    with np.errstate(all="ignore"):
        span = limit - start
    return (max(0, math.ceil(float(span) / float(step))),)


def _scalar(x: Constant) -> Any:
    if x.numbers is None:
        raise ValueError("its numbers are not known")
    return x.numbers.reshape(())[()]


def _pad(_: Message, x: Inputs) -> Shape:
    pads, rank = x[1].whole, len(x[0].shape)
    axes = [each % rank for each in x[3].whole] if len(x) > 3 else list(range(rank))
    sizes = list(x[0].shape)
    for i, axis in enumerate(axes):
        sizes[axis] = max(0, sizes[axis] + pads[i] + pads[len(axes) + i])
    return tuple(sizes)


def _resize(node: Message, x: Inputs) -> Shape:
    requested = x[-1].numbers
    policy = _text(node, "keep_aspect_ratio_policy", "stretch")
    if policy != "stretch" or attribute(node, "axes", []):
        raise ValueError("its sizes are of some axes, or keep a ratio")
    if requested is None or requested.shape != (len(x[0].shape),):
        raise ValueError("its sizes are not known")
    if requested.dtype.kind == "f":
        return tuple(int(each) for each in requested * np.array(x[0].shape, np.float32))
    return x[-1].whole


def _one_hot(node: Message, x: Inputs) -> Shape:
    axis = attribute(node, "axis", -1) % (len(x[0].shape) + 1)
    return (*x[0].shape[:axis], int(_scalar(x[1])), *x[0].shape[axis:])


def _reshape(node: Message, x: Inputs) -> Shape:
    requested, count = list(x[1].whole), math.prod(x[0].shape)
    if attribute(node, "allowzero", 0) and 0 in requested:
        raise ValueError("its shape has a zero that is meant")
    requested = [x[0].shape[axis] if size == 0 else size for axis, size in enumerate(requested)]
    if -1 in requested:
        requested[requested.index(-1)] = count // max(
            1, math.prod(each for each in requested if each != -1)
        )
    return tuple(requested)


def _flatten(node: Message, x: Inputs) -> Shape:
    axis = attribute(node, "axis", 1)
    axis += len(x[0].shape) if axis < 0 else 0
    return math.prod(x[0].shape[:axis]), math.prod(x[0].shape[axis:])


def _axes(node: Message, x: Inputs, rank: int, default: Sequence[int]) -> list[int]:
    """Give the axes of an operator that has them as an attribute or, since opset 13, an input."""
    axes = x[1].whole if len(x) > 1 else attribute(node, "axes", default)
    return [axis % rank for axis in axes]


def _unsqueeze(node: Message, x: Inputs) -> Shape:
    count = len(x[1].whole) if len(x) > 1 else len(attribute(node, "axes", []))
    sizes = list(x[0].shape)
    for axis in sorted(_axes(node, x, len(sizes) + count, [])):
        sizes.insert(axis, 1)
    return tuple(sizes)


def _squeeze(node: Message, x: Inputs) -> Shape:
    ones = [axis for axis, size in enumerate(x[0].shape) if size == 1]
    gone = _axes(node, x, len(x[0].shape), ones)
    return tuple(size for axis, size in enumerate(x[0].shape) if axis not in gone)


def _reduce(node: Message, x: Inputs) -> Shape:
    rank = len(x[0].shape)
    axes = _axes(node, x, rank, []) if rank else []
    if not axes and not attribute(node, "noop_with_empty_axes", 0):
        axes = list(range(rank))
    kept = attribute(node, "keepdims", 1)
    sizes = [1 if axis in axes else size for axis, size in enumerate(x[0].shape)]
    return tuple(size for axis, size in enumerate(sizes) if kept or axis not in axes)


def _arg_most(node: Message, x: Inputs) -> Shape:
    axis, kept = attribute(node, "axis", 0) % len(x[0].shape), attribute(node, "keepdims", 1)
    return (*x[0].shape[:axis], *(1,) * bool(kept), *x[0].shape[axis + 1 :])


def _non_zero(_: Message, x: Inputs) -> Shape:
    """Give the most: every number."""
    return max(1, len(x[0].shape)), math.prod(x[0].shape)


def _top(node: Message, x: Inputs) -> Shape:
    axis = attribute(node, "axis", -1) % len(x[0].shape)
    (count,) = x[1].whole
    return (*x[0].shape[:axis], count, *x[0].shape[axis + 1 :])


def _transpose(node: Message, x: Inputs) -> Shape:
    return tuple(x[0].shape[axis] for axis in attribute(node, "perm", range(len(x[0].shape))[::-1]))


def _gather(node: Message, x: Inputs) -> Shape:
    axis = attribute(node, "axis", 0) % len(x[0].shape)
    return (*x[0].shape[:axis], *x[1].shape, *x[0].shape[axis + 1 :])


def _gather_nd(node: Message, x: Inputs) -> Shape:
    batches, data, at = attribute(node, "batch_dims", 0), x[0].shape, x[1].shape
    if not 0 <= batches < min(len(data), len(at)) or not 1 <= at[-1] <= len(data) - batches:
        raise ValueError(f"it reads from shape {data} at {at}, {batches} axes of batches")
    return (*at[:-1], *data[batches + at[-1] :])


def _concat(node: Message, x: Inputs) -> Shape:
    axis = attribute(node, "axis", 0) % len(x[0].shape)
    return (
        *x[0].shape[:axis],
        sum(each.shape[axis] for each in x),
        *x[0].shape[axis + 1 :],
    )


def _slice(_: Message, x: Inputs) -> Shape:
    starts, ends = x[1].whole, x[2].whole
    axes = x[3].whole if len(x) > 3 else range(len(starts))
    steps = x[4].whole if len(x) > 4 else (1,) * len(starts)
    sizes = list(x[0].shape)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        sizes[axis] = len(range(sizes[axis])[start:end:step])
    return tuple(sizes)


def _split(node: Message, x: Inputs) -> Shape:
    """Give the largest part's shape."""
    axis = attribute(node, "axis", 0) % len(x[0].shape)
    parts = x[1].whole if len(x) > 1 else attribute(node, "split", [])
    most = max(parts, default=-(-x[0].shape[axis] // len(node.each("output"))))
    return (*x[0].shape[:axis], most, *x[0].shape[axis + 1 :])


def _uneven(node: Message, x: Inputs, largest: Shape) -> bool:
    axis: int = attribute(node, "axis", 0) % len(largest)
    return largest[axis] * len(node.each("output")) != x[0].shape[axis]


def _conv(node: Message, x: Inputs) -> Shape:
    weights = x[1].shape
    kernel = attribute(node, "kernel_shape", list(weights[2:]))
    if tuple(kernel) != weights[2:]:
        raise ValueError(f"its kernel is {kernel} and its weights are {weights}")
    return x[0].shape[0], weights[0], *_windows(node, x[0].shape[2:], kernel)


def _pool(node: Message, x: Inputs) -> Shape:
    return (*x[0].shape[:2], *_windows(node, x[0].shape[2:], attribute(node, "kernel_shape", [])))


def _global_pool(_: Message, x: Inputs) -> Shape:
    return (*x[0].shape[:2], *(1 for _ in x[0].shape[2:]))


def _windows(node: Message, sizes: Sequence[int], kernel: Sequence[int]) -> Shape:
    """Give the places of a window along each axis."""
    ones = [1] * len(kernel)
    steps, spread = attribute(node, "strides", ones), attribute(node, "dilations", ones)
    pads = attribute(node, "pads", [0] * 2 * len(kernel))
    if _text(node, "auto_pad", "NOTSET") != "NOTSET" or attribute(node, "ceil_mode", 0):
        raise ValueError("its edges are not given as pads")
    if min((*kernel, *steps, *spread), default=1) < 1 or len(pads) != 2 * len(kernel):
        raise ValueError(f"its window is {kernel} by {steps}, spread by {spread}, padded by {pads}")
    left = [
        size + before + after - wide * (length - 1) - 1
        for size, length, wide, before, after in zip(
            sizes, kernel, spread, pads[: len(kernel)], pads[len(kernel) :], strict=True
        )
    ]
    if min(left, default=0) < 0:
        raise ValueError(f"its window is {kernel}, and what it slides over is {sizes}")
    return tuple(each // step + 1 for each, step in zip(left, steps, strict=True))


def _text(node: Message, name: str, default: str) -> str:
    for each in node.each("attribute"):
        if each.get("name") == name and each.get("type") == _TEXT:
            return bytes(each.get("s", b"")).decode()
    return default


def _einsum(node: Message, x: Inputs) -> Shape:
    terms, given = _terms(node)
    sizes = _labels(terms, x)
    return tuple(sizes[label] for label in given)


def _terms(node: Message) -> tuple[list[str], str]:
    """Give the labels of each tensor that an equation reads, and of what it makes."""
    read, arrow, given = _text(node, "equation", "").replace(" ", "").partition("->")
    if not arrow:
        raise ValueError("its equation has no ->")
    return read.split(","), given


def _labels(terms: Sequence[str], x: Inputs) -> dict[str, int]:
    """Give each label's size."""
    sizes: dict[str, int] = {}
    for term, each in zip(terms, x, strict=True):
        for label, size in zip(term, each.shape, strict=True):
            if not label.isalpha() or sizes.setdefault(label, size) != size:
                raise ValueError(f"its term {term} reads shape {each.shape}")
    return sizes


def _product(node: Message, x: Inputs) -> Shape:
    left, right = x[0].shape, x[1].shape
    left = left[::-1] if attribute(node, "transA", 0) else left
    right = right[::-1] if attribute(node, "transB", 0) else right
    if len(left) < 2 or len(right) < 2:
        return left[:-1] + right[:-2] + right[-1:] * (len(right) > 1)
    stacked = np.broadcast_shapes(left[:-2], right[:-2])
    return (*map(int, stacked), left[-2], right[-1])


def _shape(node: Message, x: Inputs) -> Shape:
    rank = len(x[0].shape)
    return (len(range(rank)[attribute(node, "start", 0) : attribute(node, "end", rank)]),)


_PRODUCTS = ("MatMul", "MatMulInteger", "Gemm")
_SAME = """
Abs Acos Acosh Asin Asinh Atan Atanh BatchNormalization BitwiseNot Cast CastLike Ceil Celu Clip Cos
Cosh CumProd CumSum DequantizeLinear Dropout Elu Erf Exp EyeLike Floor Gelu GroupNormalization
HardSigmoid HardSwish Hardmax Identity InstanceNormalization IsInf IsNaN LRN LayerNormalization
LeakyRelu Log LogSoftmax LpNormalization MeanVarianceNormalization Mish Neg Not QuantizeLinear
RMSNormalization Reciprocal Relu Round ScatterElements ScatterND Selu Shrink Sigmoid Sign Sin Sinh
Softmax Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu Trilu
"""
_BROADCAST = """
Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual
Max Mean Min Mod Mul Or PRelu Pow Sub Sum Where Xor
"""
_REDUCED = """
ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
ReduceSumSquare
"""
_ARG = ("ArgMax", "ArgMin")
_POOLS = ("AveragePool", "LpPool", "MaxPool")
_GLOBAL_POOLS = ("GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool")
_OF_MANY = ("Max", "Mean", "Min", "Sum")
_SEVERAL = ("Dropout", "MaxPool", "Split", "TopK")  # their outputs have one shape, or the largest's
_READ_WHOLE = frozenset({*_REDUCED.split(), *_ARG, *_GLOBAL_POOLS, "NonZero", "Split", "TopK"})

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        **dict.fromkeys(_SAME.split(), _first),
        **dict.fromkeys(_BROADCAST.split(), _broadcast),
        **dict.fromkeys(_REDUCED.split(), _reduce),
        **dict.fromkeys(_PRODUCTS, _product),
        **dict.fromkeys(_ARG, _arg_most),
        **dict.fromkeys(_POOLS, _pool),
        **dict.fromkeys(_GLOBAL_POOLS, _global_pool),
        **dict.fromkeys(("HannWindow", "HammingWindow", "BlackmanWindow"), _shape_input),
        "Concat": _concat,
        "ConstantOfShape": _shape_input,
        "Conv": _conv,
        "Einsum": _einsum,
        "Expand": _expand,
        "Flatten": _flatten,
        "Gather": _gather,
        "GatherElements": lambda _, x: x[1].shape,
        "GatherND": _gather_nd,
        "NonZero": _non_zero,
        "OneHot": _one_hot,
        "Pad": _pad,
        "Range": _range,
        "Reshape": _reshape,
        "Resize": _resize,
        "Shape": _shape,
        "Size": lambda _, __: (),
        "Slice": _slice,
        "Split": _split,
        "Squeeze": _squeeze,
        "Tile": _tile,
        "TopK": _top,
        "Transpose": _transpose,
        "Unsqueeze": _unsqueeze,
    }
)
"""Operator -> the shape of what it makes of constants."""

_GROWING = frozenset(
    {*_SAME.split(), *_BROADCAST.split(), *_REDUCED.split()}
    | {"Concat", "Gather", "GatherND", "MatMul", "Transpose", "Unsqueeze"}
)
"""What makes no more of less: what it makes of a tensor's bound is a bound of what it makes."""

_ENLARGED = frozenset({"Expand", "Tile"})
"""Operators that take an item and a shape: the shape's product is the least that comes out."""


def _cast(numbers: NDArray[Any], to: int) -> NDArray[Any] | None:
    return numbers.astype({6: np.int32, 7: np.int64}[to]) if to in (6, 7) else None


def _divide(over: NDArray[Any], under: NDArray[Any]) -> NDArray[Any]:
    """Divide whole numbers towards zero."""
    if not np.all(under):
        raise ZeroDivisionError("a division by zero")
    quotient: NDArray[Any] = np.sign(over) * np.sign(under) * (np.abs(over) // np.abs(under))
    return quotient


def _moved(rule: Rule) -> Callable[[Message, Sequence[Any]], Any]:
    """Follow numbers that keep their order."""
    return lambda node, x: np.reshape(
        x[0], rule(node, [Constant(np.shape(each), np.asarray(each)) for each in x])
    )


_FOLLOWED: Mapping[str, Callable[[Message, Sequence[Any]], Any]] = MappingProxyType(
    {
        "Add": lambda _, x: x[0] + x[1],
        "Cast": lambda node, x: _cast(x[0], attribute(node, "to", 0)),
        "Concat": lambda node, x: np.concatenate(x, attribute(node, "axis", 0)),
        "Div": lambda _, x: _divide(*x),
        "Equal": lambda _, x: x[0] == x[1],
        "Gather": lambda node, x: np.take(x[0], x[1], attribute(node, "axis", 0)),
        "Identity": lambda _, x: x[0],
        "Mul": lambda _, x: x[0] * x[1],
        "Neg": lambda _, x: -x[0],
        "Reshape": _moved(_reshape),
        "Squeeze": _moved(_squeeze),
        "Sub": lambda _, x: x[0] - x[1],
        "Unsqueeze": _moved(_unsqueeze),
        "Where": lambda _, x: np.where(x[0], x[1], x[2]),
    }
)
"""Operators that shapes are computed with."""
