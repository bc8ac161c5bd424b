"""int8: small, integer where it says so, near fp32, and an item's numbers are its own."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from attar.errors import InvalidInput
from attar.export.calibration import Feed
from attar.export.gates import INT8
from attar.export.int8 import halves
from attar.export.measure import cosine
from attar.export.passes.quantize import (
    TABLE_STEPS,
    WEIGHT_STEPS,
    quantize_columns,
    quantize_int8,
    quantize_within,
)
from attar.export.passes.smoothquant import smooth
from attar.export.text import text_feeds
from attar.inputs import Prepared, TextInput

from ...support.students import MAX_LENGTH, student_graph, texts, tokenizer, trained

ALONE_OR_TOGETHER = 1e-6
"""What an item may move with its batch-mates: the measured difference is 1.2e-7 on an AMD EPYC
with VNNI, in float32's last digit, here and for all-MiniLM's six layers alike. It would be 1e-2 if
scales followed the batch."""


@cache
def host() -> TextInput:
    return TextInput(tokenizer(), max_length=MAX_LENGTH, prompts={})


@cache
def rows() -> list[Prepared]:
    return host().prepare(texts(), role="passage", truncation="truncate")


@cache
def int8() -> bytes:
    return quantize_int8(student_graph(), text_feeds(host(), rows()))


def session(graph: bytes, optimised: Path | None = None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # it warns that a saved graph fits this CPU only
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def run(running: ort.InferenceSession, some: list[Prepared]) -> NDArray[np.float32]:
    ids, mask = host().batch(some)
    (embeddings,) = running.run(["embedding"], {"input_ids": ids, "attention_mask": mask})
    return np.asarray(embeddings)


def constants(graph: bytes) -> dict[str, NDArray[Any]]:
    initializers = onnx.load_from_string(graph).graph.initializer
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in initializers}


def test_n_singles_equal_one_batch_of_n() -> None:
    running = session(int8())
    some = rows()[:64]
    alone = np.concatenate([run(running, [row]) for row in some])
    assert np.abs(run(running, some) - alone).max() <= ALONE_OR_TOGETHER


def test_an_item_does_not_depend_on_who_shares_its_batch() -> None:
    running = session(int8())
    item, mates = rows()[5], rows()
    first = run(running, [item, *mates[:9]])[0]
    longest = max(mates, key=lambda row: row.tokens)
    second = run(running, [item, longest])[0]
    assert np.abs(first - second).max() <= ALONE_OR_TOGETHER


def test_int8_is_near_graph() -> None:
    batches = run(session(student_graph()), rows()), run(session(int8()), rows())
    cosines = np.einsum("nd,nd->n", *batches)
    assert cosines.mean() >= 0.999
    assert cosines.min() >= 0.998


def test_products_really_are_integer_once_onnx_runtime_has_optimised(tmp_path: Path) -> None:
    session(int8(), tmp_path / "optimised.onnx")
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    products = sum(
        node.op_type == "MatMul" for node in onnx.load_from_string(student_graph()).graph.node
    )
    attention = 2 * len(trained().encoder.transformer.blocks)  # of two activations: float
    assert kinds.count("MatMulIntegerToFloat") == products - attention
    # Values that three products share, as attention's inputs are, are quantised once.
    assert kinds.count("QuantizeLinear") < kinds.count("MatMulIntegerToFloat")


def test_weights_use_seven_bits_and_tables_eight() -> None:
    held = constants(int8())
    matrices = [array for name, array in held.items() if name.endswith(f".int8.{WEIGHT_STEPS}")]
    tables = [array for name, array in held.items() if name.endswith(f".int8.{TABLE_STEPS}")]
    assert len(matrices) == 13  # six a layer, and the table's expansion
    assert len(tables) == 1
    for codes, steps in ((matrices, 63), (tables, 127)):
        for array in codes:
            assert array.dtype == np.int8
            # Symmetric, and every column reaches its end: no step is wasted.
            assert (np.abs(array.astype(int)).max(axis=0) == steps).all()


def test_no_sum_of_two_products_leaves_sixteen_bits() -> None:
    assert 2 * 255 * WEIGHT_STEPS < 2**15


def test_the_graph_is_smaller_and_keeps_no_weight_twice() -> None:
    assert len(int8()) < 0.6 * len(student_graph())
    held, used = constants(int8()), constants(student_graph())
    floats = sum(array.nbytes for array in held.values() if array.dtype == np.float32)
    assert floats < 0.25 * sum(array.nbytes for array in used.values())


def test_the_same_graph_and_data_give_the_same_bytes() -> None:
    assert quantize_int8(student_graph(), text_feeds(host(), rows())) == int8()


def test_without_calibration_there_is_no_int8() -> None:
    with pytest.raises(InvalidInput, match="int8 needs calibration data; pass at least one batch"):
        quantize_int8(student_graph(), [])


def model(nodes: list[onnx.NodeProto], weights: Mapping[str, NDArray[Any]], *inputs: str) -> bytes:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", "m", 4]) for name in inputs],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", "m", "k"])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    serialized: bytes = made.SerializeToString()
    return serialized


def test_a_graph_without_a_constant_matrix_is_refused() -> None:
    product = model([helper.make_node("MatMul", ["x", "y"], ["out"])], {}, "x", "y")
    square = np.zeros((2, 4, 4), np.float32)
    with pytest.raises(InvalidInput, match="no product with a constant matrix"):
        quantize_int8(product, [{"x": square, "y": square}])


def test_calibration_ignores_what_stands_on_padding() -> None:
    nodes = [
        helper.make_node("Cast", ["attention_mask"], ["unused"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "w"], ["out"]),
    ]
    matrix = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    graph = onnx.load_from_string(model(nodes, {"w": matrix}, "x"))
    mask_spec = helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["n", "m"])
    graph.graph.input.append(mask_spec)
    x = np.random.default_rng(1).standard_normal((2, 3, 4)).astype(np.float32)
    mask = np.array([[1, 1, 0], [1, 0, 0]])
    wild = np.where(mask[..., None] == 1, x, 1e6).astype(np.float32)

    def scale(batch: Feed) -> float:
        return float(constants(quantize_int8(graph.SerializeToString(), [batch]))["x.smooth.scale"])

    padded = {"attention_mask": mask}
    assert scale({"x": wild, **padded}) == scale({"x": x, **padded})
    assert scale({"x": wild, "attention_mask": np.ones_like(mask)}) > 1000


def convolutions(first: NDArray[np.float32], second: NDArray[np.float32]) -> bytes:
    """Give a graph of two convolutions, a ReLU after each and the mean of pixels at the end."""
    nodes = [
        helper.make_node("Conv", ["x", "first.weight", "bias"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "second.weight"], ["c"], group=6 // second.shape[1]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("ReduceMean", ["d", "axes"], ["out"], keepdims=0),
    ]
    weights = {
        "first.weight": first,
        "bias": np.linspace(-0.2, 0.4, len(first)).astype(np.float32),
        "second.weight": second,
        "axes": np.array([2, 3]),
    }
    made = onnx.load_from_string(model(nodes, weights, "x"))
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4, "h", "w"])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", len(second)])
    del made.graph.input[:], made.graph.output[:]
    made.graph.input.append(image)
    made.graph.output.append(out)
    serialized: bytes = made.SerializeToString()
    return serialized


def drawn(*shape: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# The second is depthwise: two outputs for each of six channels.
FIRST, SECOND = drawn(6, 4, 3, 3, seed=1), drawn(12, 1, 3, 3, seed=2)
IMAGES = [{"x": drawn(20, 4, 9, 9, seed=3)}]


def test_convolutions_really_are_integer_and_near(tmp_path: Path) -> None:
    quantised = quantize_int8(convolutions(FIRST, SECOND), IMAGES)
    session(quantised, tmp_path / "optimised.onnx")
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert kinds.count("QLinearConv") == 2
    assert "Conv" not in kinds
    held = constants(quantised)
    for out in ("a", "c"):
        assert held[f"{out}.w.codes"].dtype == np.int8
        assert np.abs(held[f"{out}.w.codes"].astype(int)).max() == WEIGHT_STEPS
        assert held[f"{out}.b.codes"].dtype == np.int32
    both = [run_once(graph, IMAGES[0]) for graph in (convolutions(FIRST, SECOND), quantised)]
    assert cosine(*both).min() >= 0.999


def test_a_channels_mean_survives_the_rounding_of_its_weights() -> None:
    positive = np.abs(drawn(6, 4, 3, 3, seed=4))
    positive[:, 0, 0, 0] = 20  # so that the other weights round coarsely
    shifted = [{"x": 3 + drawn(20, 4, 9, 9, seed=5)}]  # errors of one sign add up
    graph = convolutions(positive, SECOND)
    exact = run_once(graph, shifted[0])
    lost = np.abs(run_once(quantize_int8(graph, shifted), shifted[0]) - exact).mean()
    assert lost <= 0.01 * np.abs(exact).mean()


def test_a_layer_that_breaks_the_gate_is_left_in_float_and_named() -> None:
    first, second = FIRST.copy(), drawn(8, 6, 3, 3, seed=6)
    second -= second.mean((2, 3), keepdims=True)  # what is constant gives nothing
    first[0] = 0  # channel 0 is its bias, -0.2, and then the ReLU's zero
    second[:, 0] = 1000  # what that channel's weights leave to the others of seven bits is nothing
    graph = convolutions(first, second)
    made = quantize_within(graph, IMAGES, IMAGES, INT8)
    assert list(made.float_layers) == ["second"]
    assert made.float_layers["second"] > 1
    assert made.layers == 1
    assert cosine(run_once(made.graph, IMAGES[0]), run_once(graph, IMAGES[0])).min() >= 0.99
    assert made.notes == {"int8_layers": 1, "float_layers": dict(made.float_layers)}


def test_where_all_layers_hold_the_gate_all_are_int8() -> None:
    feeds = text_feeds(host(), rows())
    made = quantize_within(student_graph(), feeds, feeds, INT8)
    assert made.graph == int8()
    assert made.float_layers == {}
    assert made.layers == 14


def test_smoothing_changes_no_output_and_evens_channels_out() -> None:
    x = drawn(2, 3, 4, seed=7) * np.array([100, 1, 1, 0.01], np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["out"])]
    graph = model(nodes, {"w": drawn(4, 5, seed=8)}, "x")
    smoothed = smooth(graph, [{"x": x}])
    np.testing.assert_allclose(
        run_once(smoothed, {"x": x}), run_once(graph, {"x": x}), rtol=1e-4, atol=1e-4
    )
    inverse = constants(smoothed)["x.inverse"]
    largest = np.abs(x).max(axis=(0, 1))
    assert (
        (largest * inverse).max() / (largest * inverse).min() < 20 < largest.max() / largest.min()
    )


def run_once(graph: bytes, feed: Feed) -> NDArray[np.float32]:
    (out,) = session(graph).run(None, dict(feed))
    return np.asarray(out)


@pytest.mark.parametrize("steps", [WEIGHT_STEPS, TABLE_STEPS])
@given(
    weight=arrays(
        np.float32,
        st.tuples(st.integers(1, 6), st.integers(1, 6)),
        elements=st.floats(-(2**99), 2**99, width=32),
    )
)
def test_a_weight_is_lost_by_half_a_step_at_most(weight: NDArray[np.float32], steps: int) -> None:
    codes, scale = quantize_columns(weight, steps=steps)
    assert codes.dtype == np.int8
    assert np.abs(codes.astype(int)).max() <= steps
    assert (scale > 0).all()
    # In float64, and with room for the one division's rounding.
    lost = np.abs(weight.astype(np.float64) - codes * scale.astype(np.float64))
    assert (lost <= scale.astype(np.float64) * (0.5 + steps * 2**-23)).all()


@given(value=st.floats(2**-60, 2**60, width=32))
def test_a_column_of_one_size_is_kept_to_the_last_bit_of_its_scale(value: float) -> None:
    weight = np.array([[value], [-value], [0]], np.float32)
    codes, scale = quantize_columns(weight, steps=WEIGHT_STEPS)
    assert codes[:, 0].tolist() == [WEIGHT_STEPS, -WEIGHT_STEPS, 0]
    np.testing.assert_allclose(codes * scale, weight, rtol=1e-6)


def test_int8_is_judged_on_other_rows_than_it_was_calibrated_on() -> None:
    drawn = host().prepare(["ba"] * 101, role="passage", truncation="truncate")
    calibrating, judging = halves(drawn)
    assert len(calibrating) == 51
    assert len(judging) == 50
    assert not {id(row) for row in calibrating} & {id(row) for row in judging}
    assert halves(rows()[:1]) == (rows()[:1], rows()[:1])
