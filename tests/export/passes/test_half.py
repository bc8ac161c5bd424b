"""Half precision: casts where they are needed, float32 where it is safer, the same space."""

from functools import cache

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from attar.errors import InvalidInput
from attar.export.calibration import run
from attar.export.measure import cosine
from attar.export.passes.half import Half, on_a_cpu, to_half
from attar.export.text import text_feeds
from attar.inputs import TextInput

from ...support.students import MAX_LENGTH, student_graph, texts, tokenizer

ELEMENTS: dict[Half, int] = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


@cache
def half(precision: Half) -> bytes:
    return to_half(student_graph(), precision)


def types(graph: bytes) -> dict[str, int]:
    """Give every value's element type, and every constant's."""
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(graph), strict_mode=True)
    values = (*model.graph.input, *model.graph.value_info, *model.graph.output)
    found = {value.name: value.type.tensor_type.elem_type for value in values}
    return {**found, **{t.name: t.data_type for t in model.graph.initializer}}


def test_fp16_embeds_as_float32_does_to_its_own_rounding() -> None:
    host = TextInput(tokenizer(), max_length=MAX_LENGTH, prompts={})
    feeds = text_feeds(host, host.prepare(texts(), role="passage", truncation="truncate"))
    exact, given = (run(graph, feeds) for graph in (student_graph(), half("fp16")))
    assert given.dtype == np.float32
    assert cosine(given, exact).min() >= 0.99999


def test_bf16_embeds_as_float32_does_to_its_own_rounding_on_a_cpu_that_has_none() -> None:
    host = TextInput(tokenizer(), max_length=MAX_LENGTH, prompts={})
    feeds = text_feeds(host, host.prepare(texts(), role="passage", truncation="truncate"))
    exact, given = (run(graph, feeds) for graph in (student_graph(), on_a_cpu(half("bf16"))))
    assert cosine(given, exact).min() >= 0.999
    assert np.abs(given - exact).max() > 1e-4  # its rounding is there


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_every_product_is_half_and_every_sum_over_tokens_is_not(precision: Half) -> None:
    kinds, wanted = types(half(precision)), ELEMENTS[precision]
    by_kind: dict[str, set[int]] = {}
    for node in onnx.load_from_string(half(precision)).graph.node:
        by_kind.setdefault(node.op_type, set()).add(kinds[node.output[0]])
    for kind in ("MatMul", "Gelu"):
        assert by_kind[kind] == {wanted}
    for kind in ("Softmax", "LayerNormalization", "ReduceSum", "Div", "ReduceL2"):
        assert by_kind[kind] == {TensorProto.FLOAT}
    # 1e-12, under the lengths that are divided by, is zero in float16 and not in bfloat16.
    assert (TensorProto.FLOAT in by_kind["Clip"]) == (precision == "fp16")


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_matrices_are_stored_in_half_and_nothing_twice(precision: Half) -> None:
    kinds = types(half(precision))
    model = onnx.load_from_string(half(precision))
    assert {kinds[t.name] for t in model.graph.initializer if len(t.dims) == 2} == {
        ELEMENTS[precision]
    }
    assert len(half(precision)) < 0.6 * len(student_graph())
    assert to_half(student_graph(), precision) == half(precision)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_inputs_and_the_output_keep_their_types(precision: Half) -> None:
    before, after = (onnx.load_from_string(g).graph for g in (student_graph(), half(precision)))
    assert list(before.input) == list(after.input)
    assert list(before.output) == list(after.output)


def graph(nodes: list[onnx.NodeProto], **weights: NDArray[np.float32]) -> bytes:
    made = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    serialized: bytes = model.SerializeToString()
    return serialized


@pytest.mark.parametrize(("constant", "is_half"), [(0.5, True), (-3.4e38, False), (1e-12, False)])
def test_a_number_that_float16_cannot_hold_keeps_its_node_in_float32(
    constant: float, *, is_half: bool
) -> None:
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["doubled"]),
        helper.make_node("Add", ["doubled", "constant"], ["out"]),
    ]
    numbers = {"two": np.float32(2), "constant": np.float32(constant)}
    kinds = types(to_half(graph(nodes, **{k: np.asarray(v) for k, v in numbers.items()}), "fp16"))
    assert kinds["doubled.fp16"] == TensorProto.FLOAT16
    assert ("out.fp16" in kinds) == is_half
    assert kinds["out"] == TensorProto.FLOAT


def test_an_infinity_is_an_infinity_in_half() -> None:
    node = helper.make_node("Add", ["x", "mask"], ["out"])
    mask = np.array([0, -np.inf, 0, -np.inf], np.float32)
    (given,) = run(to_half(graph([node], mask=mask), "fp16"), [{"x": np.ones((1, 4), np.float32)}])
    assert given.tolist() == [1, -np.inf, 1, -np.inf]


def test_a_graph_that_is_all_sums_is_refused() -> None:
    node = helper.make_node("Softmax", ["x"], ["out"])
    with pytest.raises(InvalidInput, match="no operator that runs in fp16"):
        to_half(graph([node]), "fp16")
