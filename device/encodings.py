"""What an embedding looks like on the wire: f32, f16, int8 or one bit a dimension."""

import math
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from .errors import InvalidInput, NotSupported, ShapeError
from .manifest import Ranges

Encoding: TypeAlias = Literal["f32", "f16", "int8", "binary"]
ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)

Vectors: TypeAlias = NDArray[np.float32]
"""Embeddings, one a row: (n, d)."""


def slice_dims(vectors: Vectors, dims: int) -> Vectors:
    """Cut rows to their first `dims` dimensions and give each unit length; a zero row stays zero.

    (n, d) to (n, dims). At full width, rows that already have unit length keep it.

    Example:
        >>> slice_dims(np.array([[3.0, 4.0, 5.0]], np.float32), 2)
        array([[0.6, 0.8]], dtype=float32)
    """
    if not 0 < dims <= vectors.shape[1]:
        raise InvalidInput(f"dims must be from 1 to {vectors.shape[1]}; got {dims}")
    cut = vectors[:, :dims]
    # In float64, for squares of small float32 numbers vanish in their own precision.
    lengths = np.linalg.norm(cut.astype(np.float64), axis=1, keepdims=True)
    unit: Vectors = np.divide(cut, lengths, out=np.zeros_like(cut), where=lengths > 0)
    return unit


def encode(vectors: Vectors, encoding: Encoding, ranges: Ranges | None = None) -> NDArray[Any]:
    """Encode rows: (n, d) float32 to (n, d) float32, float16 or int8, or (n, d / 8) uint8.

    int8 is clip(round((x - low) / (high - low) * 255) - 128), with `ranges` of the same width d.
    binary is one sign bit a dimension, set where x > 0, the first dimension in the highest bit.

    Example:
        >>> encode(np.array([[1, -1, 1, 1, -1, -1, -1, -1]], np.float32), "binary")
        array([[176]], dtype=uint8)
    """
    dims = vectors.shape[1]
    match encoding:
        case "f32":
            return vectors
        case "f16":
            return vectors.astype(np.float16)
        case "int8":
            low, high = _limits(ranges, dims)
            codes: NDArray[Any] = np.rint((vectors - low) / (high - low) * 255) - 128
            return codes.clip(-128, 127).astype(np.int8)
        case "binary":
            if dims % 8:
                raise InvalidInput(
                    f"binary packs 8 dimensions a byte; dims is {dims}: choose a multiple of 8"
                )
            return np.packbits(vectors > 0, axis=1)
    raise _unknown(encoding)


def decode(codes: NDArray[Any], encoding: Encoding, ranges: Ranges | None = None) -> Vectors:
    """Turn encoded rows back into (n, d) float32, as near as the encoding kept them.

    Of binary only the signs are left: every value is +-1/sqrt(d), a vector of unit length.

    Example:
        >>> decode(np.array([[176]], np.uint8), "binary")[0, :2].round(2)
        array([ 0.35, -0.35], dtype=float32)
    """
    match encoding:
        case "f32" | "f16":
            return codes.astype(np.float32)
        case "int8":
            low, high = _limits(ranges, codes.shape[1])
            values = low + (codes + 128.0) / 255 * (high - low)
            return values.astype(np.float32)
        case "binary":
            signs = np.unpackbits(codes, axis=1).astype(np.float32) * 2 - 1
            return signs / np.float32(math.sqrt(signs.shape[1]))
    raise _unknown(encoding)


def _limits(ranges: Ranges | None, dims: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if ranges is None:
        raise NotSupported(
            "int8 needs ranges, and this bundle declares none; ask for f32, f16 or binary"
        )
    if len(ranges.low) != dims:
        raise ShapeError(
            f"ranges must have one interval a dimension; got {len(ranges.low)} for {dims} dims"
        )
    return np.array(ranges.low), np.array(ranges.high)


def _unknown(encoding: object) -> InvalidInput:
    return InvalidInput(f"encoding must be one of {', '.join(ENCODINGS)}; got {encoding!r}")
