"""Binarized attention in int8: its codes are exact integers, and only what should be is rounded."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import helper

from attar.errors import InvalidInput
from attar.export.measure import cosine
from attar.export.passes.binarized import integer_codes, quantize_binarized
from attar.training.data.text import pad
from benchmarks.support.encoders import random_rows

from ..support.graphs import encoder_graph

Feed = dict[str, NDArray[np.int64]]


def feed(seed: int = 0) -> Feed:
    ids, mask = pad(random_rows(64, seed=seed))
    return {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}


def binarized() -> bytes:
    return encoder_graph("binarized")


def run(graph: bytes, fed: Feed, *names: str) -> list[NDArray[np.float32]]:
    """Run a graph, and give the named values inside it."""
    model = onnx.load_from_string(graph)
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, fed))


def test_sums_by_code_are_exact_integer_products() -> None:
    graph = integer_codes(binarized(), [feed()])
    products = [n for n in onnx.load_from_string(graph).graph.node if n.op_type == "MatMulInteger"]
    assert len(products) == 2  # one a layer
    for product in products:
        turned, values, zero = product.input
        _, codes, rounded, one, sums = run(graph, feed(), turned, values, zero, product.output[0])
        h = codes.astype(np.int64) - one
        assert set(np.unique(h)) == {-1, 1}
        assert rounded.dtype == np.int8
        assert np.abs(rounded.astype(int)).max() == 127  # the calibration's greatest, in some head
        np.testing.assert_array_equal(sums, h @ rounded.astype(np.int64))


def test_rounding_the_values_is_all_that_integer_codes_lose() -> None:
    fed = feed(seed=1)
    (exact,), (given,) = (run(g, fed) for g in (binarized(), integer_codes(binarized(), [feed()])))
    assert 0 < np.abs(given - exact).max() < 0.01
    assert cosine(given, exact).min() > 0.9999


def test_int8_keeps_the_embeddings_and_standard_operators() -> None:
    graph = quantize_binarized(binarized(), [feed()])
    (exact,), (given,) = (run(g, feed(seed=1)) for g in (binarized(), graph))
    assert cosine(given, exact).mean() > 0.99
    nodes = onnx.load_from_string(graph).graph.node
    assert {node.domain for node in nodes} == {""}
    assert "Sign" not in {node.op_type for node in nodes}  # it is 0 at 0, and a code is not
    assert "Where" in {node.op_type for node in nodes}


def test_the_products_that_decide_codes_stay_in_float() -> None:
    graph = onnx.load_from_string(quantize_binarized(binarized(), [feed()])).graph
    constants = {tensor.name for tensor in graph.initializer}
    hashes = [name for name in constants if name.endswith("attention.hash")]
    assert len(hashes) == 2
    read = {name: node.op_type for node in graph.node for name in node.input}
    assert {read[name] for name in hashes} == {"MatMul"}


def test_a_graph_without_codes_is_refused() -> None:
    softmax = encoder_graph("softmax")
    with pytest.raises(InvalidInput, match="has no binarized attention; quantise it as any other"):
        quantize_binarized(softmax, [feed()])
    with pytest.raises(InvalidInput, match="needs calibration data; pass at least one batch"):
        quantize_binarized(binarized(), [])
