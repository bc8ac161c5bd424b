"""int8 for binarized attention: codes are -1 or +1, so their sums of values are integer products.

A graph of BinarizedAttention sums values by code, h^T v, and h is exact in any integer type. Here
the codes become uint8 {0, 2} with zero point 1, the values int8 with one scale a head, and the
product a MatMulInteger, which loses nothing but the rounding of the values. The products with
anchors and hash functions stay in float: they decide the codes. So does the second product, of a
token's code with the sums: these are known at run time only, and the standard has no product of
int8 with int32. `quantize_binarized` does all that int8 does besides.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper

from attar.errors import InvalidInput

from ..calibration import Feed, session
from ..onnx_graph import Graph, live, rewrite
from .quantize import quantize_int8

VALUE_STEPS = 127
LOW, ZERO, HIGH = np.uint8(0), np.uint8(1), np.uint8(2)  # -1, 0 and +1 in units of one


def quantize_binarized(graph: bytes, calibration: Sequence[Feed]) -> bytes:
    """Quantise a float32 graph of binarized attention: its constant products, and its code sums.

    Raises InvalidInput as `quantize_int8` does, and when no layer has binarized attention.
    """
    return integer_codes(quantize_int8(graph, calibration), calibration)


def integer_codes(graph: bytes, calibration: Sequence[Feed]) -> bytes:
    """Make every sum of values by code an integer product, values scaled as the feeds need.

    A feed's padding has zero values, so it does not stretch a scale. Raises InvalidInput when there
    is no feed or no such sum.
    """
    if not calibration:
        raise InvalidInput("int8 needs calibration data; pass at least one batch")
    indexed = Graph.read(graph)
    sums = {code_sum.product.output[0]: code_sum for code_sum in _code_sums(indexed)}
    if not sums:
        raise InvalidInput("the graph has no binarized attention; quantise it as any other graph")
    values = sorted({code_sum.values for code_sum in sums.values()})
    scales = _scales(indexed.model, values, calibration)
    nodes: list[NodeProto] = []
    constants: dict[str, NDArray[Any]] = {
        name: np.asarray(value)
        for name, value in (("codes.low", LOW), ("codes.zero", ZERO), ("codes.high", HIGH))
    }
    for node in indexed.nodes:
        code_sum = sums.get(node.output[0]) if node.output else None
        if code_sum is None:
            nodes.append(node)
            continue
        integer_sum, scale = _integer_sum(code_sum, scales[code_sum.values])
        nodes += integer_sum
        constants |= scale
    return rewrite(indexed.model, live(nodes, indexed.outputs), constants)


@dataclass(frozen=True, slots=True)
class _CodeSum:
    """h^T v in a graph: the product, and its h as a condition that is true for +1."""

    product: NodeProto
    positive: str  # (batch, heads, tokens, bits)
    values: str  # (batch, heads, tokens, depth)


def _code_sums(graph: Graph) -> Iterator[_CodeSum]:
    """Find MatMul(Transpose(Where(c, 1, -1)), v), as BinarizedAttention exports."""
    for product in graph.nodes:
        if product.op_type != "MatMul":
            continue
        transposed = graph.producer(product.input[0], "Transpose")
        codes = transposed and graph.producer(transposed.input[0], "Where")
        if codes is None:
            continue
        signs = [graph.constants.get(name) for name in codes.input[1:]]
        if all(sign is not None and sign.size == 1 for sign in signs) and [
            float(sign.item()) for sign in signs if sign is not None
        ] == [1.0, -1.0]:
            yield _CodeSum(product, codes.input[0], product.input[1])


def _integer_sum(
    code_sum: _CodeSum, scale: NDArray[np.float32]
) -> tuple[list[NodeProto], dict[str, NDArray[Any]]]:
    """Write h^T v in integers: uint8 codes, int8 values, an int32 product, one scale a head."""
    out = code_sum.product.output[0]
    heads = len(scale)
    constants: dict[str, NDArray[Any]] = {
        f"{out}.scale": scale,
        f"{out}.zero": np.zeros(heads, np.int8),
        f"{out}.scales": scale.reshape(1, heads, 1, 1),
    }
    codes, turned, values = f"{out}.codes", f"{out}.turned", f"{out}.values"
    nodes = [
        helper.make_node("Where", [code_sum.positive, "codes.high", "codes.low"], [codes]),
        helper.make_node("Transpose", [codes], [turned], perm=[0, 1, 3, 2]),
        helper.make_node(
            "QuantizeLinear", [code_sum.values, f"{out}.scale", f"{out}.zero"], [values], axis=1
        ),
        helper.make_node("MatMulInteger", [turned, values, "codes.zero"], [f"{out}.sums"]),
        helper.make_node("Cast", [f"{out}.sums"], [f"{out}.exact"], to=TensorProto.FLOAT),
        helper.make_node(
            "Mul", [f"{out}.exact", f"{out}.scales"], [out], name=code_sum.product.name
        ),
    ]
    return nodes, constants


def _scales(
    model: ModelProto, names: Sequence[str], calibration: Sequence[Feed]
) -> Mapping[str, NDArray[np.float32]]:
    """Give for each value (batch, heads, tokens, depth) the int8 step of every head, over feeds."""
    watched = ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    running = session(watched.SerializeToString())
    greatest: dict[str, NDArray[np.float32]] = {}
    for feed in calibration:
        for name, value in zip(names, running.run(list(names), dict(feed)), strict=True):
            code_sum = np.abs(value).max(axis=(0, 2, 3))
            greatest[name] = np.maximum(greatest.get(name, np.float32(1e-12)), code_sum)
    return {name: (top / VALUE_STEPS).astype(np.float32) for name, top in greatest.items()}
