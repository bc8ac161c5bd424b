"""Symmetric int8: codes around zero, the numbers of the int8 that a CPU runs."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from attar.export.passes.quantize import quantize_int8
from attar.export.targets.tensorrt.parser import refusals
from attar.export.targets.tensorrt.symmetric import symmetric
from attar.export.text import text_feeds
from attar.inputs import TextInput

from ...support.students import MAX_LENGTH, student_graph, texts, tokenizer


@cache
def feeds() -> Sequence[Mapping[str, NDArray[Any]]]:
    host = TextInput(tokenizer(), max_length=MAX_LENGTH, prompts={})
    return text_feeds(host, host.prepare(texts(), role="passage", truncation="truncate"))


def run(graph: bytes, feed: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, dict(feed))
    return np.asarray(found)


def zero_points(graph: bytes) -> list[NDArray[Any]]:
    model = onnx.load_from_string(graph)
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    return [
        constants[node.input[2]]
        for node in model.graph.node
        if node.op_type in ("QuantizeLinear", "DequantizeLinear")
    ]


def test_an_encoders_int8_keeps_its_numbers_and_becomes_what_tensorrt_takes() -> None:
    graph = quantize_int8(student_graph(), feeds())
    changed = symmetric(graph)

    assert any(zero.any() for zero in zero_points(graph))
    assert "zero point" in refusals(graph)[0]
    assert refusals(changed) == []
    assert zero_points(changed)
    assert all(zero.dtype == np.int8 and not zero.any() for zero in zero_points(changed))
    for feed in feeds()[:2]:
        # A sum in another order now and then rounds to the neighbouring code.
        assert np.abs(run(graph, feed) - run(changed, feed)).max() < 2e-3


def test_a_graph_without_codes_is_given_back() -> None:
    assert symmetric(student_graph()) == student_graph()


def test_the_same_graph_gives_the_same_bytes() -> None:
    graph = quantize_int8(student_graph(), feeds())

    assert symmetric(graph) == symmetric(graph)
    assert symmetric(symmetric(graph)) == symmetric(graph)


def quantised(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, Any],
    shape: Sequence[Any],
    result: Sequence[Any],
) -> bytes:
    """Give a graph of DQ(Q(x)) and what follows it."""
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, shape),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, result),
    ]
    first = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
    ]
    initializers = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    graph = helper.make_graph([*first, *nodes], "g", ends[:1], ends[1:], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    serialized: bytes = model.SerializeToString()
    return serialized


@given(st.integers(0, 255), st.floats(1e-4, 10), st.integers(0, 2**32 - 1))
def test_a_product_keeps_its_value_whatever_the_zero_point(
    zero: int, scale: float, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    nodes = [
        helper.make_node("DequantizeLinear", ["w8", "ws", "wz"], ["w"], axis=1),
        helper.make_node("MatMul", ["d", "w"], ["y"]),
    ]
    constants: dict[str, Any] = {
        "s": np.float32(scale),
        "z": np.uint8(zero),
        "w8": draw.integers(-63, 64, (8, 3)).astype(np.int8),
        "ws": draw.uniform(0.01, 1, 3).astype(np.float32),
        "wz": np.zeros(3, np.int8),
    }
    graph = quantised(nodes, constants, ["n", 8], ["n", 3])
    # In the middle of a step: where x / s lies between two codes, the last bit decides.
    codes = draw.integers(0, 256, (5, 8))
    x = ((codes - zero + draw.uniform(-0.3, 0.3, (5, 8))) * scale).astype(np.float32)
    expected, found = run(graph, {"x": x}), run(symmetric(graph), {"x": x})

    reach = 255 * scale * 8 * 63 * constants["ws"].max()
    assert refusals(symmetric(graph)) == []
    assert np.abs(found - expected).max() <= 1e-5 * reach


def test_what_enters_a_convolution_is_padded_with_zeros_still() -> None:
    draw = np.random.default_rng(0)
    nodes = [
        helper.make_node("DequantizeLinear", ["w8", "ws", "wz"], ["w"], axis=0),
        helper.make_node("DequantizeLinear", ["b32", "bs", "bz"], ["b"], axis=0),
        helper.make_node("Conv", ["d", "w", "b"], ["y"], pads=[1, 1, 1, 1]),
    ]
    constants: dict[str, Any] = {
        "s": np.float32(1 / 255),
        "z": np.uint8(0),  # after a ReLU
        "w8": draw.integers(-63, 64, (2, 1, 3, 3)).astype(np.int8),
        "ws": np.full(2, 0.01, np.float32),
        "wz": np.zeros(2, np.int8),
        "b32": np.array([100, -200], np.int32),
        "bs": np.full(2, 0.01 / 255, np.float32),
        "bz": np.zeros(2, np.int32),
    }
    graph = quantised(nodes, constants, ["n", 1, 6, 6], ["n", 2, 6, 6])
    x = draw.uniform(0, 1, (3, 1, 6, 6)).astype(np.float32)
    expected, found = run(graph, {"x": x}), run(symmetric(graph), {"x": x})

    assert refusals(symmetric(graph)) == []
    # Half a step of the new scale and half of the old, for each of nine products.
    assert np.abs(found - expected).max() <= 9 * 63 * 0.01 * (0.5 / 127 + 0.5 / 255)


def test_codes_that_are_read_as_such_are_left_alone() -> None:
    nodes = [
        helper.make_node("Cast", ["q"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["c", "d"], ["y"]),
    ]
    graph = quantised(nodes, {"s": np.float32(0.1), "z": np.uint8(7)}, ["n", 8], ["n", 8])

    assert symmetric(graph) == graph
    assert "zero point [7]" in refusals(graph)[0]
