"""What TensorRT's parser would refuse is reported by node and operator, before a build."""

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from attar.export.targets.tensorrt.parser import OPERATORS, refusals
from benchmarks.support.bundles import text_graph

from ...support.students import student_graph


def graph_of(nodes: Sequence[onnx.NodeProto], *, opset: int = 20) -> bytes:
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for name in ("x", nodes[-1].output[0])
    ]
    constants = [
        numpy_helper.from_array(np.asarray(np.float32(0.1)), "scale"),
        numpy_helper.from_array(np.asarray(np.uint8(3)), "three"),
        numpy_helper.from_array(np.asarray(np.uint8(0)), "zero"),
        numpy_helper.from_array(np.asarray(np.int8(0)), "int8"),
    ]
    graph = helper.make_graph(list(nodes), "g", ends[:1], ends[1:], constants)
    domains = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    serialized: bytes = helper.make_model(graph, opset_imports=domains).SerializeToString()
    return serialized


def test_the_encoders_that_attar_exports_are_taken() -> None:
    assert refusals(text_graph()) == []
    assert refusals(student_graph()) == []


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (
            helper.make_node("Gelu", ["x"], ["y"], name="act", domain="com.microsoft"),
            "node 'act' (Gelu) is of com.microsoft, and the parser takes standard operators only",
        ),
        (
            helper.make_node("DynamicQuantizeLinear", ["x"], ["y", "s", "z"]),
            "node 'y' (DynamicQuantizeLinear) is no operator that the parser takes",
        ),
        (
            helper.make_node("QuantizeLinear", ["x", "scale", "three"], ["y"]),
            "node 'y' (QuantizeLinear) has zero point [3], and the parser takes 0 only",
        ),
        (
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["y"]),
            "node 'y' (QuantizeLinear) is of uint8, and the parser takes int8",
        ),
        (
            helper.make_node("QuantizeLinear", ["x", "scale"], ["y"]),
            (
                "node 'y' (QuantizeLinear) has no constant zero point; "
                "the parser takes int8 around zero"
            ),
        ),
        (
            helper.make_node("Resize", ["x", "", "scale"], ["y"], antialias=1, mode="linear"),
            "node 'y' (Resize) smooths before it shrinks (antialias), which the parser does not",
        ),
        (
            helper.make_node("Resize", ["x", "", "scale"], ["y"], mode="cubic"),
            "node 'y' (Resize) is cubic, and the parser takes nearest and linear",
        ),
        (
            helper.make_node("LayerNormalization", ["x", "scale"], ["y", "mean"]),
            (
                "node 'y' (LayerNormalization) gives more than its first output, "
                "and the parser gives that one only"
            ),
        ),
    ],
)
def test_what_is_not_taken_is_named(node: onnx.NodeProto, message: str) -> None:
    assert refusals(graph_of([node])) == [message]


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("QuantizeLinear", ["x", "scale", "int8"], ["y"]),
        helper.make_node("DequantizeLinear", ["x", "scale"], ["y"]),
        helper.make_node("Resize", ["x", "", "scale"], ["y"], mode="linear"),
        helper.make_node("LayerNormalization", ["x", "scale"], ["y"]),
    ],
)
def test_the_same_operators_are_taken_where_they_keep_to_the_rules(node: onnx.NodeProto) -> None:
    assert refusals(graph_of([node])) == []


def test_a_graph_within_a_graph_is_looked_into() -> None:
    inner = helper.make_graph(
        [helper.make_node("Unique", ["x"], ["a"], name="deep")],
        "branch",
        [],
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, None)],
    )
    choice = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)

    found = refusals(graph_of([choice]))

    assert found == ["node 'deep' (Unique) is no operator that the parser takes"] * 2


@pytest.mark.parametrize(("opset", "taken"), [(8, False), (9, True), (24, True), (25, False)])
def test_an_opset_beyond_the_table_is_refused(opset: int, *, taken: bool) -> None:
    found = refusals(graph_of([helper.make_node("Relu", ["x"], ["y"])], opset=opset))

    expected = f"the graph is of opset {opset}, and the parser takes 9 to 24"
    assert found == ([] if taken else [expected])


def test_the_table_names_operators_that_onnx_has() -> None:
    known = {schema.name for schema in onnx.defs.get_all_schemas()}

    # Four are older than ONNX's first version or were its experiments.
    assert OPERATORS - known <= {"ImageScaler", "ParametricSoftplus", "ScaledTanh"}
