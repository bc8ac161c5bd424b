"""Weights in blocks of 4 or 8 bits; activations stay float32, or are rounded token by token.

Every `BLOCK` consecutive weights of a column share one scale and one zero point (com.microsoft
MatMulNBits), and so do those of a token's row in a table (GatherBlockQuantized).  With
`accuracy="int8"` ONNX Runtime also rounds the activations that enter a product, to int8 with one
scale for each block of each token, and multiplies integers: dynamic quantisation without
calibration data in which, unlike DynamicQuantizeLinear's one scale for a whole batch, an item
does not depend on its batch-mates.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from attar.errors import InvalidInput

from ..onnx_graph import Constants, Graph, rewrite

BLOCK = 32
_ACCURACY = {"float32": 1, "int8": 4}  # MatMulNBits' accuracy_level: what it multiplies in

Accuracy = Literal["float32", "int8"]


def quantize_weights(graph: bytes, *, bits: Literal[4, 8], accuracy: Accuracy) -> bytes:
    """Give a float32 graph with its constant matrices and token tables in blocks of `bits`.

    `accuracy` is what products are computed in. Raises InvalidInput when the graph has no product
    with a constant matrix.
    """
    indexed = Graph.read(graph)
    weights = indexed.constants
    nodes: list[NodeProto] = []
    constants: dict[str, NDArray[Any]] = {}
    for node in indexed.nodes:
        if node.op_type == "MatMul" and _is_matrix(weights.get(node.input[1])):
            nodes.append(_product(node, weights, constants, bits, accuracy))
        elif node.op_type == "Gather" and _is_matrix(weights.get(node.input[0])):
            nodes.append(_table(node, weights, constants, bits))
        else:
            nodes.append(node)
    if not any(node.op_type == "MatMulNBits" for node in nodes):
        raise InvalidInput(
            "the graph has no product with a constant matrix, so there are no weights to quantise; "
            "leave the variant out"
        )
    return rewrite(indexed.model, nodes, constants, domain="com.microsoft")


def quantize_blocks(
    rows: NDArray[np.float32], *, bits: int, block: int = BLOCK
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8]]:
    """Round rows (n, k) to codes (n, blocks, block), scales and zero points (n, blocks).

    k is filled up with zeros to whole blocks, and zero is always exact. What is lost is at most
    one scale: |row - (code - zero) * scale| <= scale.
    """
    n, k = rows.shape
    padded = np.pad(rows, ((0, 0), (0, -k % block))).reshape(n, -1, block)
    low = np.minimum(padded.min(axis=2), 0).astype(np.float64)
    high = np.maximum(padded.max(axis=2), 0).astype(np.float64)
    steps = 2**bits - 1
    # Below the least normal number float32 has too few digits to divide by.
    scale = np.maximum((high - low) / steps, np.finfo(np.float32).tiny).astype(np.float32)
    zero = np.clip(np.round(-low / scale), 0, steps)
    codes = np.clip(np.round(padded / scale[..., None]) + zero[..., None], 0, steps)
    return codes.astype(np.uint8), scale, zero.astype(np.uint8)


def _is_matrix(weight: NDArray[Any] | None) -> bool:
    return weight is not None and weight.ndim == 2 and weight.dtype == np.float32


def _product(
    node: NodeProto,
    weights: Constants,
    constants: dict[str, NDArray[Any]],
    bits: int,
    accuracy: Accuracy,
) -> NodeProto:
    """Turn x @ W (k, n) into MatMulNBits, whose weight is W transposed, in blocks along k."""
    x, w = node.input
    k, n = weights[w].shape
    names = _constants(w, weights[w].T, constants, bits)
    return helper.make_node(
        "MatMulNBits",
        [x, *names],
        node.output,
        name=node.name,
        domain="com.microsoft",
        K=k,
        N=n,
        bits=bits,
        block_size=BLOCK,
        accuracy_level=_ACCURACY[accuracy],
    )


def _table(
    node: NodeProto,
    weights: Constants,
    constants: dict[str, NDArray[Any]],
    bits: int,
) -> NodeProto:
    """Turn table[ids] into GatherBlockQuantized: only the rows looked up are ever widened."""
    table, ids = node.input
    codes, scales, zeros = _constants(table, weights[table], constants, bits, flat=True)
    return helper.make_node(
        "GatherBlockQuantized",
        [codes, ids, scales, zeros],
        node.output,
        name=node.name,
        domain="com.microsoft",
        bits=bits,
        block_size=BLOCK,
        gather_axis=0,
        quantize_axis=1,
    )


def _constants(
    name: str,
    rows: NDArray[np.float32],
    constants: dict[str, NDArray[Any]],
    bits: int,
    *,
    flat: bool = False,
) -> list[str]:
    """Quantise a matrix, once however often it is used; name its codes, scales and zeros."""
    names = [f"{name}.{part}" for part in ("codes", "scale", "zero")]
    if names[0] not in constants:
        codes, scale, zero = quantize_blocks(rows, bits=bits)
        if flat:  # a table keeps its shape, without what filled up the last block
            codes = codes.reshape(len(rows), -1)[:, : rows.shape[1]]
        packed = [_pack(codes, bits), scale, _pack(zero, bits)]
        for key, value in zip(names, packed, strict=True):
            constants[key] = np.ascontiguousarray(value)
    return names


def _pack(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Put two codes of 4 bits into a byte along the last axis, the first one low."""
    if bits == 8:
        return codes
    even = np.pad(codes, (*[(0, 0)] * (codes.ndim - 1), (0, codes.shape[-1] % 2)))
    packed: NDArray[np.uint8] = even[..., ::2] | even[..., 1::2] << np.uint8(4)
    return packed
