"""What attar says that constants compute is what ONNX Runtime computes of them."""

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from attar.errors import BundleRefused
from attar.onnx_scan.constant_folding import RULES, Constant, check_constants
from attar.onnx_scan.operators import OPERATORS
from attar.onnx_scan.protobuf import read

Arrays = dict[str, NDArray[Any]]


def graph(nodes: list[onnx.NodeProto], constants: Arrays) -> onnx.ModelProto:
    """Give a graph of these nodes and constants that gives each node's first output."""
    made = [helper.make_empty_tensor_value_info(node.output[0]) for node in nodes]
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    whole = helper.make_graph(nodes, "g", [], made, stored)
    return helper.make_model(whole, opset_imports=[helper.make_opsetid("", 24)], ir_version=10)


def counted(model: onnx.ModelProto) -> dict[str, Constant]:
    data = model.graph.SerializeToString()
    return dict(check_constants(read(data, "GraphProto"), len(data), "x.onnx"))


def run(model: onnx.ModelProto) -> Arrays:
    """Run it by ONNX Runtime."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in model.graph.output]
    return dict(zip(names, session.run(names, {}), strict=True))


def agree(model: onnx.ModelProto) -> None:
    ours = counted(model)
    for name, array in run(model).items():
        assert ours[name].shape == array.shape, name
        if (numbers := ours[name].numbers) is not None:
            np.testing.assert_array_equal(numbers, array)


def floats(*shape: int) -> NDArray[np.float32]:
    return np.linspace(0.1, 0.9, int(np.prod(shape)), dtype=np.float32).reshape(shape)


def whole(*numbers: int) -> NDArray[np.int64]:
    return np.array(numbers, np.int64)


def op(kind: str, *inputs: NDArray[Any] | None, outputs: int = 1, **attributes: Any) -> Any:
    """Give a row: one node, and what it reads."""
    names = [f"{kind}.{i}" if value is not None else "" for i, value in enumerate(inputs)]
    node = helper.make_node(kind, names, [f"y{i}" for i in range(outputs)], **attributes)
    constants = {name: value for name, value in zip(names, inputs, strict=True) if name}
    return pytest.param(node, constants, id=f"{kind}{len(inputs)}{sorted(attributes)}")


ALONE = (
    *("Asinh", "Atanh", "Celu", "HardSigmoid", "HardSwish", "Hardmax", "IsInf", "IsNaN", "Mish"),
    *("Selu", "Shrink", "Softsign", "Swish", "ThresholdedRelu"),
)
"""Operators of one tensor, of which each number becomes one."""

ROWS = [
    op("Add", floats(3, 1), floats(4)),
    op("Where", np.array([True, False]), whole(1, 2), whole(3)),
    op("Softmax", floats(2, 3)),
    op("DequantizeLinear", np.ones((4, 3), np.int8), floats(3), axis=1),
    op("MatMul", floats(2, 1, 3, 4), floats(5, 4, 6)),
    op("MatMul", floats(4), floats(4, 6)),
    op("MatMul", floats(3, 4), floats(4)),
    op("MatMul", floats(4), floats(4)),
    op("Gemm", floats(4, 3), floats(5, 4), transA=1, transB=1),
    op("Transpose", floats(2, 3, 4)),
    op("Transpose", floats(2, 3, 4), perm=[1, 0, 2]),
    op("Gather", floats(5, 3), np.array([[0, 1], [2, 3]]), axis=1 - 1),
    op("Gather", whole(7, 8, 9), np.array(-1)),
    op("GatherElements", floats(2, 2), np.array([[0], [1]]), axis=1),
    op("Concat", floats(2, 3), floats(4, 3), axis=-2),
    op("Concat", whole(1, 2), whole(3), axis=0),
    op("Constant", value_ints=[3, -4]),
    op("Constant", value_int=5),
    op("Constant", value_float=0.5),
    op("Constant", value_floats=[0.5, 0.25]),
    op("Constant", value=numpy_helper.from_array(whole(2, 3))),
    op("ConstantOfShape", whole(2, 0, 3)),
    op("Expand", floats(3, 1), whole(2, 1, 4)),
    op("Tile", floats(3, 1), whole(2, 4)),
    op("Range", whole(1)[0], whole(10)[0], whole(4)[0]),
    op("Range", whole(10)[0], whole(1)[0], whole(-4)[0]),
    op("Range", whole(1)[0], whole(10)[0], whole(-4)[0]),
    op("Pad", floats(2, 3), whole(1, 0, -1, 2)),
    op("Pad", floats(2, 3), whole(1, 2), None, whole(-1)),
    op("Resize", floats(1, 1, 3, 3), None, np.array([1, 1, 1.7, 0.5], np.float32)),
    op("Resize", floats(1, 1, 3, 3), None, None, whole(1, 1, 5, 2)),
    op("OneHot", whole(0, 1), np.array(4), floats(2)),
    op("HannWindow", np.array(7)),
    op("Reshape", floats(2, 6), whole(0, -1, 3)),
    op("Reshape", whole(1, 2), whole(2, 1)),
    op("Flatten", floats(2, 3, 4), axis=2),
    op("Flatten", floats(2, 3, 4), axis=0),
    op("Squeeze", floats(1, 3, 1)),
    op("Squeeze", floats(1, 3, 1), whole(-1)),
    op("Unsqueeze", floats(3), whole(0, -1)),
    op("ReduceMean", floats(2, 3, 4)),
    op("ReduceMean", floats(2, 3, 4), whole(-1, 0), keepdims=0),
    op("Slice", floats(5, 6), whole(1, -1), whole(4, -9), whole(0, 1), whole(2, -2)),
    op("Slice", floats(5, 6), whole(1), whole(2**40)),
    op("Split", floats(6, 2), outputs=2, num_outputs=2),
    op("Split", floats(6, 2), whole(4, 2), outputs=2),
    op("Shape", floats(2, 3, 4)),
    op("Shape", floats(2, 3, 4), start=-2, end=-1),
    op("Size", floats(2, 3, 4)),
    op("Cast", whole(2**33, -1), to=TensorProto.INT32),
    op("EyeLike", floats(2, 3)),
    op("CumSum", floats(2, 3), np.array(1)),
    *(op(kind, floats(2, 3)) for kind in ALONE),
    op("Acosh", floats(2, 3) + 1),
    op("BatchNormalization", floats(2, 3, 4), floats(3), floats(3), floats(3), floats(3)),
    op("InstanceNormalization", floats(2, 3, 4), floats(3), floats(3)),
    op("GroupNormalization", floats(2, 4, 5), floats(4), floats(4), num_groups=2),
    op("RMSNormalization", floats(2, 3), floats(3)),
    op("LRN", floats(1, 3, 2, 2), size=3),
    op("MeanVarianceNormalization", floats(2, 3, 4, 4)),
    op("BitShift", np.ones((3, 1), np.uint8), np.ones(4, np.uint8), direction="LEFT"),
    op("ArgMax", floats(2, 3, 4)),
    op("ArgMin", floats(2, 3, 4), axis=-1, keepdims=0),
    op("GatherND", floats(5, 6, 7), np.zeros((3, 2), np.int64)),
    op("GatherND", floats(3, 6, 7), np.zeros((3, 4, 1), np.int64), batch_dims=1),
    op("TopK", floats(2, 5), whole(3), outputs=2),
    op("TopK", floats(2, 5), whole(1), outputs=2, axis=0),
    op("Conv", floats(2, 3, 7, 8), floats(5, 3, 2, 3)),
    op("Conv", floats(2, 4, 9), floats(6, 2, 3), group=2, strides=[2], dilations=[2], pads=[1, 0]),
    op("MaxPool", floats(1, 2, 7, 8), outputs=2, kernel_shape=[3, 2], strides=[2, 3]),
    op("AveragePool", floats(1, 2, 7), kernel_shape=[3], pads=[1, 1]),
    op("LpPool", floats(1, 2, 7), kernel_shape=[3]),
    op("GlobalAveragePool", floats(2, 3, 4, 5)),
    op("GlobalMaxPool", floats(2, 3, 4)),
    op("Einsum", floats(3, 4), floats(4, 5), equation="ij, jk -> ki"),
    op("Einsum", floats(2, 3, 4), floats(2, 3), equation="bij,bi->bj"),
    op("Einsum", floats(4, 4), equation="ii->i"),
    op("Flatten", floats(2, 3, 4), axis=-1),
    op("OneHot", whole(0, 1), np.array(4), floats(2), axis=0),
    op("ReduceSum", floats(2, 3), whole()),
    op("ReduceSum", floats(2, 3), whole(), noop_with_empty_axes=1),
    op("Range", whole(2**60)[0], whole(2**60 + 1)[0], whole(1)[0]),
    op("Range", *(np.array(each, np.float32) for each in (0, 0.7, 0.1))),
    op("Resize", floats(1, 1, 10, 1), None, np.array([1, 1, 0.7, 1], np.float32)),
]

BOUNDED = [
    op("NonZero", np.array([[1, 0, 2], [0, 3, 0]])),
    op("NonZero", np.array([1])),
    op("Split", floats(5, 2), outputs=3, num_outputs=3),
    op("Split", floats(5, 2), whole(1, 4), outputs=2),
]
"""What depends on numbers, or differs among outputs: the bound's axes are as large or larger."""

AMBIGUOUS = [
    op("Reshape", np.ones((5, 0), np.float32), whole(0, 7), allowzero=1),
    op("Resize", floats(1, 1, 3, 3), None, None, whole(1, 1, 9, 5), axes=[0, 1, 3, 2]),
    op("Conv", floats(1, 1, 7), floats(1, 1, 3), auto_pad="SAME_UPPER"),
    op("MaxPool", floats(1, 1, 7), kernel_shape=[2], strides=[2], ceil_mode=1),
    op("MaxPool", floats(1, 1, 2), kernel_shape=[3], strides=[2]),
    op("Einsum", floats(3, 4), equation="ij"),
    op("Einsum", floats(3, 4), equation="ij->ik"),
    op("Einsum", floats(3, 4), equation="...->..."),
    op("GatherND", floats(2, 2), whole(0), batch_dims=-1),
    op("LayerNormalization", floats(2, 3), floats(3), outputs=2),
]


@pytest.mark.parametrize(("node", "constants"), ROWS)
def test_a_rule_gives_the_runtimes_shape_and_numbers(
    node: onnx.NodeProto, constants: Arrays
) -> None:
    agree(graph([node], constants))


@pytest.mark.parametrize(("node", "constants"), BOUNDED)
def test_a_bound_holds_each_output(node: onnx.NodeProto, constants: Arrays) -> None:
    model = graph([node], constants)
    ours = counted(model)
    for name in node.output[1:]:
        model.graph.output.append(helper.make_empty_tensor_value_info(name))
    for name, array in run(model).items():
        assert ours[name].at_most
        assert all(a <= b for a, b in zip(array.shape, ours[name].shape, strict=True)), name


@pytest.mark.parametrize("kind", ["Shape", "Size", "Squeeze", "Flatten", "GlobalMaxPool"])
def test_nothing_is_computed_from_a_bound_as_if_it_were_exact(kind: str) -> None:
    nodes = [helper.make_node("NonZero", ["a"], ["at"]), helper.make_node(kind, ["at"], ["b"])]
    with pytest.raises(BundleRefused, match="it reads what is known up to a bound"):
        counted(graph(nodes, {"a": whole(1, 0)}))


def test_a_mask_of_constants_may_choose_among_them() -> None:
    nodes = [
        helper.make_node("NonZero", ["mask"], ["at"]),
        helper.make_node("Transpose", ["at"], ["rows"]),
        helper.make_node("GatherND", ["weights", "rows"], ["chosen"]),
        helper.make_node("Abs", ["chosen"], ["b"]),
    ]
    ours = counted(graph(nodes, {"mask": whole(1, 0, 2), "weights": floats(3, 4)}))
    assert ours["b"] == Constant((3, 4), at_most=True)


@pytest.mark.parametrize(("node", "constants"), AMBIGUOUS)
def test_a_shape_that_is_not_followed_is_refused(node: onnx.NodeProto, constants: Arrays) -> None:
    with pytest.raises(BundleRefused, match="does not follow from the file"):
        counted(graph([node], constants))


COSTS = [
    (op("MatMul", floats(1024, 512), floats(512, 1024)), 1024 * 512 * 1024),
    (op("Conv", floats(1, 64, 128, 128), floats(256, 64, 3, 3)), 256 * 126 * 126 * 64 * 9),
    (op("MaxPool", floats(1, 1, 2048), kernel_shape=[1024], pads=[2**18] * 2), 1024 * 525313),
    (op("LRN", floats(1, 1, 1, 2), size=2**28), 2**29),
    (op("Einsum", *[floats(2**10)] * 3, equation="a,b,c->"), 2**30),
    (op("Max", floats(2**10), *[floats(2**10, 1)] * 299), 300 * 2**20),
]


@pytest.mark.parametrize(("row", "cost"), COSTS, ids=[row.id for row, _ in COSTS])
def test_a_node_costs_what_it_multiplies(row: Any, cost: int) -> None:
    node, constants = row.values
    with pytest.raises(BundleRefused, match=f"computes {cost} numbers"):
        counted(graph([node], constants))


def test_reading_costs_as_much_as_writing() -> None:
    nodes = [helper.make_node("ConstantOfShape", ["n"], ["big"])]
    nodes += [helper.make_node("ReduceSum", ["big"], [f"{i}"]) for i in range(10)]
    with pytest.raises(BundleRefused, match="up to '7' by ReduceSum"):
        counted(graph(nodes, {"n": whole(2**12, 2**12)}))


def test_products_of_two_weights_are_free() -> None:
    nodes = [helper.make_node("MatMul", ["a", "b"], [f"{i}"]) for i in range(6)]
    counted(graph(nodes, {"a": floats(256, 256), "b": floats(256, 256)}))


def test_every_rule_is_of_an_operator_that_a_bundle_may_call() -> None:
    assert set(RULES) <= OPERATORS["ai.onnx"]


FEW = st.lists(
    st.sampled_from([-7, -3, -1, 0, 1, 2, 5, 2**31, 2**62, -(2**63)]), min_size=2, max_size=2
)


@settings(max_examples=30, deadline=None)
@given(
    first=FEW,
    second=FEW,
    kinds=st.lists(
        st.sampled_from(["Add", "Sub", "Mul", "Neg", "Equal", "Concat"]), min_size=1, max_size=6
    ),
)
def test_numbers_are_followed_as_the_runtime_computes_them(
    first: list[int], second: list[int], kinds: list[str]
) -> None:
    nodes, last = [], "a"
    for i, kind in enumerate(kinds):
        inputs = [last] if kind == "Neg" else [last, "b" if kind != "Concat" else last]
        attributes: dict[str, Any] = {"axis": 0} if kind == "Concat" else {}
        nodes.append(helper.make_node(kind, inputs, [f"{i}"], **attributes))
        last = f"{i}" if kind not in {"Equal", "Concat"} else last
    agree(graph(nodes, {"a": whole(*first), "b": whole(*second)}))


@settings(max_examples=30, deadline=None)
@given(over=st.integers(-20, 20), under=st.integers(-20, 20).filter(bool))
def test_whole_numbers_are_divided_towards_zero(over: int, under: int) -> None:
    agree(
        graph([helper.make_node("Div", ["a", "b"], ["c"])], {"a": whole(over), "b": whole(under)})
    )
