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
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from attar.errors import InvalidInput

from ..calibration import Feed, session
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
    model = onnx.load_from_string(graph)
    sums = {code_sum.product.output[0]: code_sum for code_sum in _code_sums(model)}
    if not sums:
        raise InvalidInput("the graph has no binarized attention; quantise it as any other graph")
    scales = _scales(model, sorted({code_sum.values for code_sum in sums.values()}), calibration)
    nodes: list[NodeProto] = []
    constants = [
        numpy_helper.from_array(np.asarray(value), name)
        for name, value in (("codes.low", LOW), ("codes.zero", ZERO), ("codes.high", HIGH))
    ]
    for node in model.graph.node:
        code_sum = sums.get(node.output[0]) if node.output else None
        if code_sum is None:
            nodes.append(node)
            continue
        made, scale = _integer_sum(code_sum, scales[code_sum.values])
        nodes += made
        constants += scale
    del model.graph.node[:]
    model.graph.node.extend(_read(nodes, {value.name for value in model.graph.output}))
    model.graph.initializer.extend(constants)
    onnx.checker.check_model(model)
    serialized: bytes = model.SerializeToString(deterministic=True)
    return serialized


@dataclass(frozen=True, slots=True)
class _CodeSum:
    """h^T v in a graph: the product, and its h as a condition that is true for +1."""

    product: NodeProto
    positive: str  # (batch, heads, tokens, bits)
    values: str  # (batch, heads, tokens, depth)


def _code_sums(model: ModelProto) -> Iterator[_CodeSum]:
    """Find MatMul(Transpose(Where(c, 1, -1)), v), as BinarizedAttention exports."""
    made = {name: node for node in model.graph.node for name in node.output}
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for product in model.graph.node:
        turned = made.get(product.input[0]) if product.op_type == "MatMul" else None
        if turned is None or turned.op_type != "Transpose":
            continue
        codes = made.get(turned.input[0])
        if codes is None or codes.op_type != "Where":
            continue
        signs = [constants.get(name) for name in codes.input[1:]]
        if all(sign is not None and sign.size == 1 for sign in signs) and [
            float(sign.item()) for sign in signs if sign is not None
        ] == [1.0, -1.0]:
            yield _CodeSum(product, codes.input[0], product.input[1])


def _integer_sum(
    code_sum: _CodeSum, scale: NDArray[np.float32]
) -> tuple[list[NodeProto], list[TensorProto]]:
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
    return nodes, [numpy_helper.from_array(value, name) for name, value in constants.items()]


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


def _read(nodes: Sequence[NodeProto], outputs: set[str]) -> list[NodeProto]:
    """Leave out nodes whose results nobody reads any more."""
    needed, kept = set(outputs), list[NodeProto]()
    for node in reversed(nodes):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    return kept[::-1]
