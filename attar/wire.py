"""Wire: arrays, ids, payloads and choices as attar.v1 messages, both ways."""

import math
import operator
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Literal

import numpy as np
from google.protobuf.struct_pb2 import Struct, Value
from numpy.typing import NDArray

from attar.encodings import Encoding
from attar.errors import InvalidInput, ShapeError
from attar.heads import Metric
from attar.inputs import Priority, Role, Truncation
from attar.v1 import anomaly_pb2, collections_pb2, embedding_pb2, item_pb2, tensor_pb2

PointId = int | str
Quantization = Literal["none", "int8", "binary"]

DTYPES: Final = (
    *("float32", "float16", "float64"),
    *("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool"),
)
MAX_AXES: Final = 8
# A double holds every whole number up to here, and a Struct knows no other number.
MAX_WHOLE: Final = 2**53

ENCODINGS: Final[Mapping[Encoding, "embedding_pb2.Encoding.ValueType"]] = MappingProxyType(
    {
        "f32": embedding_pb2.ENCODING_F32,
        "f16": embedding_pb2.ENCODING_F16,
        "int8": embedding_pb2.ENCODING_INT8,
        "binary": embedding_pb2.ENCODING_BINARY,
    }
)
ROLES: Final[Mapping[Role, "item_pb2.Role.ValueType"]] = MappingProxyType(
    {"passage": item_pb2.ROLE_PASSAGE, "query": item_pb2.ROLE_QUERY}
)
PRIORITIES: Final[Mapping[Priority, "item_pb2.Priority.ValueType"]] = MappingProxyType(
    {"interactive": item_pb2.PRIORITY_INTERACTIVE, "bulk": item_pb2.PRIORITY_BULK}
)
TRUNCATIONS: Final[Mapping[Truncation, "item_pb2.Truncation.ValueType"]] = MappingProxyType(
    {"truncate": item_pb2.TRUNCATION_TRUNCATE, "error": item_pb2.TRUNCATION_ERROR}
)
METRICS: Final[Mapping[Metric, "anomaly_pb2.Metric.ValueType"]] = MappingProxyType(
    {"cosine": anomaly_pb2.METRIC_COSINE, "euclidean": anomaly_pb2.METRIC_EUCLIDEAN}
)

QUANTIZATIONS: Final[Mapping[Quantization, "collections_pb2.Quantization.ValueType"]] = (
    MappingProxyType(
        {
            "none": collections_pb2.QUANTIZATION_NONE,
            "int8": collections_pb2.QUANTIZATION_INT8,
            "binary": collections_pb2.QUANTIZATION_BINARY,
        }
    )
)


def to_tokens(items: Sequence[Sequence[int]]) -> item_pb2.Tokens:
    """Token ids as one list; InvalidInput for what is no id."""
    ids = [operator.index(number) for item in items for number in item]
    if bad := [number for number in ids if not 0 <= number < 2**32]:
        raise InvalidInput(f"{bad[0]} is no token id; give whole numbers from 0")
    return item_pb2.Tokens(ids=ids, lengths=map(len, items))


def from_tokens(tokens: item_pb2.Tokens) -> list[NDArray[np.int64]]:
    """Give each item's ids; InvalidInput where the lengths are not those of the ids."""
    ends = np.cumsum(np.array(tokens.lengths, np.int64))
    ids = np.array(tokens.ids, np.int64)
    if (ends[-1] if len(ends) else 0) != len(ids):
        raise InvalidInput(
            f"lengths add up to {ends[-1] if len(ends) else 0} and there are {len(ids)} ids"
        )
    return np.split(ids, ends[:-1]) if len(ends) else []


def to_tensor(array: NDArray[Any]) -> tensor_pb2.Tensor:
    """Give the array as little-endian bytes; ShapeError for a dtype that has no name there."""
    if array.dtype.name not in DTYPES:
        raise ShapeError(
            f"an array of {array.dtype} cannot be sent; convert it to one of {', '.join(DTYPES)}"
        )
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return tensor_pb2.Tensor(data=little.tobytes(), dtype=array.dtype.name, shape=array.shape)


def from_tensor(tensor: tensor_pb2.Tensor) -> NDArray[Any]:
    """Give the message's array, read-only and without a copy; ShapeError where it does not fit."""
    if tensor.dtype not in DTYPES:
        raise ShapeError(f"unknown dtype {tensor.dtype!r}; expected one of {', '.join(DTYPES)}")
    shape = tuple(tensor.shape)
    if not 1 <= len(shape) <= MAX_AXES or min(shape) < 1:
        raise ShapeError(f"shape {shape} must have 1 to {MAX_AXES} axes, each at least 1")
    dtype = np.dtype(tensor.dtype).newbyteorder("<")
    if len(tensor.data) != (expected := math.prod(shape) * dtype.itemsize):
        raise ShapeError(
            f"{len(tensor.data)} bytes of data; {tensor.dtype} of shape {shape} takes {expected}"
        )
    array = np.frombuffer(tensor.data, dtype).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)


def to_id(point: PointId) -> collections_pb2.PointId:
    """A point's id, a whole number or the text of a UUID; InvalidInput for anything else."""
    if isinstance(point, str):
        return collections_pb2.PointId(uuid=point)
    try:
        number = operator.index(point)  # numpy's whole numbers too
    except TypeError:
        number = -1
    if not 0 <= number < 2**64:
        raise InvalidInput(
            f"a point's id is a whole number of 64 bits, or the text of a UUID; got {point!r}"
        )
    return collections_pb2.PointId(number=number)


def from_id(point: collections_pb2.PointId) -> PointId:
    """The id that the message holds; InvalidInput when it holds none."""
    match point.WhichOneof("id"):
        case "number":
            return point.number
        case "uuid":
            return point.uuid
        case _:
            raise InvalidInput("a point's id is empty; set number or uuid")


def to_struct(payload: Mapping[str, Any]) -> Struct:
    """A JSON object as a message; InvalidInput for what JSON, or a double, cannot hold."""
    struct = Struct()
    for key, value in payload.items():
        if not isinstance(key, str):
            raise InvalidInput(f"a payload's keys are text; got {key!r}")
        struct.fields[key].CopyFrom(_to_value(value, key))
    return struct


def from_struct(struct: Struct) -> dict[str, Any]:
    """Give the message's JSON object; whole numbers as int, since a Struct knows doubles only."""
    return {key: _from_value(value, key) for key, value in struct.fields.items()}


def _to_value(value: object, key: str) -> Value:
    match value:
        case None:
            return Value(null_value=0)  # type: ignore[arg-type]
        case bool():
            return Value(bool_value=value)
        case int() if abs(value) > MAX_WHOLE:
            raise InvalidInput(
                f"payload {key!r}: {value} is beyond 2**53, where doubles lose digits; send text"
            )
        case int() | float() if math.isfinite(value):
            return Value(number_value=value)
        case str():
            return Value(string_value=value)
        case Mapping():
            return Value(struct_value=to_struct(value))
        case Sequence() if not isinstance(value, bytes | bytearray):
            whole = Value()
            whole.list_value.values.extend(_to_value(each, key) for each in value)
            return whole
        case _:
            raise InvalidInput(f"payload {key!r} holds a {type(value).__name__}, which is not JSON")


def _from_value(value: Value, key: str) -> Any:
    match value.WhichOneof("kind"):
        case "number_value":
            number = value.number_value
            if not math.isfinite(number):
                raise InvalidInput(f"payload {key!r} is {number}, which is not JSON")
            return int(number) if number.is_integer() and abs(number) <= MAX_WHOLE else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return from_struct(value.struct_value)
        case "list_value":
            return [_from_value(each, key) for each in value.list_value.values]
        case _:
            return None
