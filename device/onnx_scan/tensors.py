"""A tensor as an ONNX file stores it: its shape, its size, and its numbers where they are few."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .protobuf import Message


class _Type(NamedTuple):
    bits: int
    field: str
    """Where the numbers stand if not in raw_data."""
    numpy: str = ""


_TYPES: Mapping[int, _Type] = MappingProxyType(
    {
        1: _Type(32, "float_data", "<f4"),
        2: _Type(8, "int32_data", "u1"),
        3: _Type(8, "int32_data", "i1"),
        4: _Type(16, "int32_data", "<u2"),
        5: _Type(16, "int32_data", "<i2"),
        6: _Type(32, "int32_data", "<i4"),
        7: _Type(64, "int64_data", "<i8"),
        9: _Type(8, "int32_data", "u1"),
        10: _Type(16, "int32_data"),
        11: _Type(64, "double_data", "<f8"),
        12: _Type(32, "uint64_data", "<u4"),
        13: _Type(64, "uint64_data", "<u8"),
        16: _Type(16, "int32_data"),
        **dict.fromkeys(range(17, 21), _Type(8, "int32_data")),
        **dict.fromkeys((21, 22, 23), _Type(4, "int32_data")),
        24: _Type(8, "int32_data"),
        **dict.fromkeys((25, 26), _Type(2, "int32_data")),
    }
)
"""TensorProto.DataType, but for text, complex numbers and those of 6 bits, which no encoder has."""

MAX_RANK = 64
"""Axes of a tensor: numpy's own limit."""

_DATA = sorted({each.field for each in _TYPES.values()} | {"raw_data", "string_data"})


def check_tensor(tensor: Message) -> None:
    """Hold a tensor to its shape: ValueError where it stores more, less or something else."""
    name, dims = tensor.get("name", ""), tensor.numbers("dims", most=MAX_RANK)
    kind = _TYPES.get(tensor.get("data_type", 0))
    if kind is None:
        raise ValueError(
            f"tensor {name!r:.80} is of type {tensor.get('data_type', 0)}, which no encoder has"
        )
    if min(dims, default=0) < 0 or "segment" in tensor.fields:
        raise ValueError(f"tensor {name!r:.80} has shape {dims}, or is one of several pieces")
    there = [each for each in _DATA if each in tensor.fields]
    count = math.prod(dims)
    whole_bytes = -(-count * kind.bits // 8)
    if there == ["raw_data"]:
        stored, due = len(tensor.get("raw_data")), whole_bytes
    else:
        # Numbers of less than a byte stand in bytes there, too.
        stored, due = tensor.count(kind.field), count if kind.bits >= 8 else whole_bytes
    if len(there) > 1 or there not in ([], ["raw_data"], [kind.field]) or stored != due:
        raise ValueError(
            f"tensor {name!r:.80} of shape {dims} needs {due} numbers or bytes of {kind.field} or "
            f"raw_data, and has {stored} in {', '.join(there) or 'none of them'}"
        )


def shape_of(tensor: Message) -> tuple[int, ...]:
    """Give a tensor's shape."""
    return tuple(tensor.numbers("dims", most=MAX_RANK))


def numbers_of(tensor: Message, *, most: int) -> NDArray[Any] | None:
    """Give a checked tensor's numbers; None for more than `most`, and for types numpy lacks."""
    shape, kind = shape_of(tensor), _TYPES[tensor.get("data_type", 0)]
    if math.prod(shape) > most or not kind.numpy:
        return None
    if "raw_data" in tensor.fields:
        flat = np.frombuffer(tensor.get("raw_data"), kind.numpy)
    else:
        flat = np.array(tensor.numbers(kind.field, most=most)).astype(kind.numpy)
    return flat.reshape(shape)
