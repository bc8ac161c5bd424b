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

from attar.constants import RULES, Constant, check_constants
from attar.onnxops import OPERATORS
from attar.onnxproto import read

Arrays = dict[str, NDArray[Any]]


def graph(nodes: list[onnx.NodeProto], constants: Arrays) -> onnx.ModelProto:
    """Give a graph of these nodes and constants that gives each node's first output."""
    made = [helper.make_empty_tensor_value_info(node.output[0]) for node in nodes]
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    whole = helper.make_graph(nodes, "g", [], made, stored)
    return helper.make_model(whole, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


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
]


@pytest.mark.parametrize(("node", "constants"), ROWS)
def test_a_rule_gives_the_runtimes_shape_and_numbers(
    node: onnx.NodeProto, constants: Arrays
) -> None:
    agree(graph([node], constants))


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
