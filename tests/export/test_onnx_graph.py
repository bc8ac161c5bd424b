"""The index of a graph, and what a rewritten graph keeps."""

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from attar.export.onnx_graph import (
    Graph,
    attribute,
    changed,
    live,
    node_counts,
    rewrite,
    stated,
)


def model() -> ModelProto:
    """Give y = softmax(relu(x + bias)), with the sum for a second reader and a weight unread."""
    nodes = [
        helper.make_node("Add", ["x", "bias"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["positive"]),
        helper.make_node("Softmax", ["positive"], ["y"], axis=1),
        helper.make_node("Neg", ["sum"], ["unread"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [
            numpy_helper.from_array(np.ones(3, np.float32), "bias"),
            numpy_helper.from_array(np.zeros(3, np.float32), "spare"),
        ],
        value_info=[
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["batch", 3]),
            helper.make_tensor_value_info("unread", TensorProto.FLOAT, ["batch", 3]),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_a_graph_knows_who_produces_and_consumes_each_value() -> None:
    graph = Graph(model())

    assert graph.producers["positive"].op_type == "Relu"
    assert graph.producer("positive", "Relu") is graph.nodes[1]
    assert graph.producer("positive", "Add") is None
    assert [node.op_type for node in graph.consumers["sum"]] == ["Relu", "Neg"]
    assert graph.only_consumer("sum") is None
    assert graph.only_consumer("positive") is graph.nodes[2]
    assert graph.only_consumer("y") is None
    assert graph.constants.keys() == {"bias", "spare"}
    assert (graph.shape("sum"), graph.shape("positive")) == (("batch", 3), ())
    assert graph.element_type("sum") == TensorProto.FLOAT
    assert graph.element_type("positive") == TensorProto.UNDEFINED


def test_an_attribute_has_its_value_or_the_default() -> None:
    softmax = model().graph.node[2]

    assert attribute(softmax, "axis", -1) == 1
    assert attribute(softmax, "other", "none") == "none"


def test_a_changed_node_is_a_copy() -> None:
    node = model().graph.node[0]
    copy = changed(node, inputs=["a", "b"], outputs=["c"])

    assert ([*copy.input], [*copy.output]) == (["a", "b"], ["c"])
    assert ([*node.input], [*node.output]) == (["x", "bias"], ["sum"])


def test_a_rewritten_graph_has_what_its_outputs_need_and_nothing_else() -> None:
    old = model()
    tanh = helper.make_node("Tanh", ["sum"], ["positive"])
    scaled = helper.make_node("Mul", ["x", "scale"], ["sum"])
    graph = Graph(old)
    nodes = live(graph.nodes, graph.outputs, {"positive": tanh, "sum": scaled})

    constants = {"scale": np.array([1, 2, 3], np.float32), "spare": np.ones(1, np.float32)}
    serialized = rewrite(old, nodes, constants, values=stated(old, nodes))
    new = onnx.load_from_string(serialized)

    assert node_counts(serialized) == {"Mul": 1, "Tanh": 1, "Softmax": 1}
    assert [tensor.name for tensor in new.graph.initializer] == ["scale"]
    assert [value.name for value in new.graph.value_info] == ["sum"]
    assert serialized == rewrite(old, nodes, constants, values=stated(old, nodes))
    assert old == model()


def test_a_new_constant_replaces_an_initialiser_of_its_name() -> None:
    old = model()
    serialized = rewrite(old, Graph(old).nodes, {"bias": np.array([7, 7, 7], np.float32)})

    (bias,) = onnx.load_from_string(serialized).graph.initializer
    assert numpy_helper.to_array(bias).tolist() == [7, 7, 7]


def test_new_operators_domain_is_imported_once() -> None:
    old = model()
    once = rewrite(old, Graph(old).nodes, domain="com.microsoft")
    twice = rewrite(onnx.load_from_string(once), Graph.read(once).nodes, domain="com.microsoft")

    opsets = onnx.load_from_string(twice).opset_import
    assert [opset.domain for opset in opsets] == ["", "com.microsoft"]


def test_a_graph_that_is_no_model_is_refused() -> None:
    old = model()

    with pytest.raises(onnx.checker.ValidationError):
        rewrite(old, [helper.make_node("Relu", ["nothing"], ["y"])])
