"""Operations are counted from the graph's shapes, as torch counts them where torch can."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from attar.errors import InvalidInput
from attar.export.cost.count import Count, count, total
from attar.export.cost.energy import binarized_attention, softmax_attention
from attar.export.graph import to_onnx
from attar.export.passes.fuse import fuse
from attar.export.passes.quantize import quantize_int8
from attar.export.passes.weight_only import quantize_weights
from attar.manifest import TensorSpec
from benchmarks.support.encoders import ATTENTIONS, tiny_encoder, tiny_shape

from ...support.graphs import (
    ANCHORS,
    BITS,
    DEPTH,
    HEADS,
    HIDDEN,
    LENGTH,
    WIDTH,
    counted,
    encoder_graph,
)

PRODUCTS = ("MatMul", "Gemm", "Conv")


def products(counts: Count) -> int:
    return sum(n.operations.multiplications for n in counts.nodes if n.kind in PRODUCTS)


def in_torch(module: nn.Module, *inputs: torch.Tensor) -> int:
    """Let torch count what it multiplies: half of its operations, for it counts additions too."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*inputs)
    return int(counter.get_total_flops()) // 2


def test_softmax_products_are_those_that_torch_counts() -> None:
    ids = torch.ones(3, 9, dtype=torch.int64)
    encoder = tiny_encoder(tiny_shape(width=WIDTH, depth=DEPTH, heads=HEADS))

    counts = counted(encoder_graph("softmax"), batch=3, length=9)

    assert products(counts) == in_torch(encoder, ids, ids)
    assert counts.unknown == {}


def test_products_with_binary_codes_are_additions() -> None:
    """What torch multiplies is either multiplied or, with codes in {-1, 1}, only added."""
    encoder = tiny_encoder(
        tiny_shape(width=WIDTH, depth=DEPTH, heads=HEADS), attention=ATTENTIONS["binarized"]
    )
    ids = torch.ones(1, LENGTH, dtype=torch.int64)
    nodes = [n for n in counted(encoder_graph("binarized")).nodes if n.kind == "MatMul"]
    free = [n for n in nodes if not n.operations.multiplications]

    assert sum(n.operations.additions for n in nodes) == in_torch(encoder, ids, ids)
    assert len(free) == 3 * DEPTH  # codes by values, codes by context, codes by their sum
    assert all(n.attention for n in free)


def test_convolutions_are_those_that_torch_counts() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )
    image = torch.randn(2, 3, 32, 32)
    spec = TensorSpec(name="image", dtype="float32", shape=("batch", 3, 32, 32))
    counts = count(to_onnx(network, (image,), (spec,), output="embedding"), {"batch": 2})

    assert products(counts) == in_torch(network, image)
    assert counts.unknown == {}
    assert not any(node.attention for node in counts.nodes)
    assert {"0", "2", "5"} <= counts.layers().keys()


def test_softmax_attention_is_the_formula_and_two_operations_more_a_weight() -> None:
    """EcoFormer counts a softmax as one multiplication a weight; here it is the scale's."""
    formula = softmax_attention(tokens=LENGTH, width=WIDTH, heads=HEADS)
    graph = total(n for n in counted(encoder_graph("softmax")).nodes if n.attention)
    softmax = 2 * HEADS * LENGTH**2

    assert graph.multiplications == DEPTH * (formula.multiplications + softmax)
    assert graph.additions == DEPTH * (formula.additions + softmax)


def test_binarized_attention_is_the_formula_and_the_distances_that_it_leaves_out() -> None:
    tokens, anchors = LENGTH, ANCHORS
    formula = binarized_attention(
        tokens=tokens, width=WIDTH, heads=HEADS, bits=BITS, anchors=anchors
    )
    distances = tokens * anchors * WIDTH
    graph = total(n for n in counted(encoder_graph("binarized")).nodes if n.attention)

    assert graph.multiplications / DEPTH == pytest.approx(
        formula.multiplications + distances, rel=0.05
    )
    assert graph.additions / DEPTH == pytest.approx(formula.additions, rel=0.1)


def test_layers_are_named_by_their_weights_and_attention_by_what_they_share() -> None:
    layers = counted(encoder_graph("binarized")).layers()
    for name in ("query_key", "value", "out"):
        assert f"transformer.blocks.1.attention.{name}" in layers
    assert all(node.attention for node in layers["transformer.blocks.1.attention"])
    projections = [layers[f"transformer.blocks.0.attention.{n}"] for n in ("query_key", "value")]
    assert not any(node.attention for nodes in projections for node in nodes)


@settings(max_examples=10)
@given(batch=st.integers(1, 40), length=st.integers(1, LENGTH))
def test_work_grows_with_the_batch_and_weights_do_not(batch: int, length: int) -> None:
    one = total(counted(encoder_graph("softmax"), length=length).nodes)
    many = total(counted(encoder_graph("softmax"), batch=batch, length=length).nodes)

    assert many.multiplications == batch * one.multiplications
    assert many.additions == batch * one.additions
    assert one.moved <= many.moved <= batch * one.moved


def test_nothing_runs_so_that_sixteen_thousand_tokens_are_counted_at_once() -> None:
    graph = long_attention()
    counts = count(graph, {"batch": 1, "length": 2**17})

    assert total(counts.nodes).multiplications > 2 * 2**34 * WIDTH  # 137 GB of weights
    assert counts.unknown == {}


def test_int8_products_run_in_int8_on_fewer_bytes() -> None:
    ids = np.ones((2, LENGTH), np.int64)
    graph = encoder_graph("softmax")
    quantised = quantize_int8(graph, [{"input_ids": ids, "attention_mask": ids}])
    whole, codes = counted(graph), counted(quantised)
    matrices = {n.layer: n for n in codes.nodes if n.kind == "MatMul" and not n.attention}

    assert codes.unknown == {}
    assert {node.arithmetic for node in matrices.values()} == {"int8"}
    assert products(codes) == products(whole)
    assert matrices.keys() >= {"transformer.blocks.0.expand", "transformer.blocks.0.attention.out"}
    for layer, node in matrices.items():
        (before,) = (n for n in whole.layers()[layer] if n.kind == "MatMul")
        assert node.operations.moved < before.operations.moved
        assert before.arithmetic == "float32"


def test_a_fused_attention_costs_what_its_parts_do() -> None:
    parts = total(count(long_attention(), {"batch": 2, "length": 7}).nodes)
    fused = count(fused_attention(), {"batch": 2, "length": 7})

    assert total(fused.nodes).multiplications == parts.multiplications
    assert total(fused.nodes).additions == parts.additions
    assert [node.attention for node in fused.nodes] == [False] * 3 + [True]


def test_a_fused_graph_without_padding_multiplies_what_the_plain_one_does() -> None:
    """And gathers its tokens besides; items have the requested length, so none is padding."""
    plain, fused = (
        counted(graph, batch=2, length=9)
        for graph in (encoder_graph("softmax"), fuse(encoder_graph("softmax")))
    )
    assert fused.unknown == {}
    assert total(fused.nodes).multiplications == total(plain.nodes).multiplications
    core = [
        total(node for node in counts.nodes if node.attention).multiplications
        for counts in (plain, fused)
    ]
    assert core[0] == core[1] > 0


@pytest.mark.parametrize("bits", [4, 8])
def test_weights_in_few_bits_are_unpacked_at_each_run_and_move_less(bits: Literal[4, 8]) -> None:
    plain = counted(encoder_graph("softmax"))
    packed = counted(quantize_weights(encoder_graph("softmax"), bits=bits, accuracy="int8"))
    unpacked = DEPTH * (4 * WIDTH**2 + 2 * WIDTH * HIDDEN)

    assert packed.unknown == {}
    assert {n.arithmetic for n in packed.nodes if n.kind == "MatMulNBits"} == {"int8"}
    assert total(packed.nodes).multiplications == total(plain.nodes).multiplications + unpacked
    assert total(packed.nodes).moved < total(plain.nodes).moved


def test_unknown_operators_are_listed_and_the_rest_is_counted() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("Det", ["y"], ["z"]),
        helper.make_node("Strange", ["y"], ["w"], domain="com.microsoft"),
        helper.make_node("Relu", ["w"], ["v"]),
    ]
    counts = count(model(nodes, {"x": ["batch", 4, 4]}, outputs="zv"), {"batch": 3})

    assert counts.unknown == {"Det": 1, "com.microsoft.Strange": 1, "Relu": 1}
    assert total(counts.nodes).additions == 3 * 4 * 4


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"batch": 1}, "length has no size; the graph's free axes are batch, length"),
        ({"batch": 1, "length": 0}, "axis length must be 1 or more; got 0"),
        ({"batch": 1, "length": 4, "width": 4}, "the graph has no axis 'width'"),
        ({"batch": 1, "length": LENGTH + 1}, r"cannot run at these sizes: Add would meet \(1, 17"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        count(encoder_graph("softmax"), sizes)


def projections() -> list[onnx.NodeProto]:
    return [
        helper.make_node("MatMul", ["x", f"layer.{n}.weight"], [n])
        for n in ("query", "key", "value")
    ]


def long_attention() -> bytes:
    """Give one softmax attention of free length, of standard operators."""
    heads = [
        node
        for n, order in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3]))
        for node in (
            helper.make_node("Reshape", [n, "split"], [f"{n}.split"]),
            helper.make_node("Transpose", [f"{n}.split"], [f"{n}.heads"], perm=order),
        )
    ]
    nodes = [
        *projections(),
        *heads,
        helper.make_node("MatMul", ["query.heads", "key.heads"], ["logits"]),
        helper.make_node("Mul", ["logits", "scale"], ["scaled"]),
        helper.make_node("Softmax", ["scaled"], ["weights"]),
        helper.make_node("MatMul", ["weights", "value.heads"], ["mixed"]),
        helper.make_node("Transpose", ["mixed"], ["merged"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["merged", "merge"], ["out"]),
    ]
    constants = {
        "split": np.array([0, 0, HEADS, -1]),
        "merge": np.array([0, 0, -1]),
        "scale": np.float32(0.5),
    }
    return model(nodes, {"x": ["batch", "length", WIDTH]}, outputs=["out"], constants=constants)


def fused_attention() -> bytes:
    """Give the same as ONNX Runtime fuses it."""
    fused = helper.make_node(
        "MultiHeadAttention",
        ["query", "key", "value"],
        ["out"],
        domain="com.microsoft",
        num_heads=HEADS,
    )
    return model([*projections(), fused], {"x": ["batch", "length", WIDTH]}, outputs=["out"])


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, list[int | str]],
    *,
    outputs: Sequence[str],
    constants: dict[str, Any] | None = None,
) -> bytes:
    weights = {
        name: np.zeros((WIDTH, WIDTH), np.float32)
        for node in nodes
        for name in node.input
        if name.endswith(".weight")
    }
    graph = helper.make_graph(
        list(nodes),
        "counted",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, axes) for n, axes in inputs.items()],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [
            numpy_helper.from_array(np.asarray(value), name)
            for name, value in {**weights, **(constants or {})}.items()
        ],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    serialized: bytes = helper.make_model(graph, opset_imports=opsets).SerializeToString()
    return serialized
