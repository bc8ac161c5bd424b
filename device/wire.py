"""Wire: arrays, ids, payloads and choices as attar.v1 messages, both ways."""

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from types import MappingProxyType
from typing import Any, Final, TypeVar, cast
from uuid import UUID

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct, Value
from numpy.typing import NDArray

from attar.v1 import (
    anomaly_pb2,
    collections_pb2,
    embedding_pb2,
    item_pb2,
    reranking_pb2,
    tensor_pb2,
)

from .encodings import Encoding
from .errors import InvalidInput, ShapeError
from .heads import Metric
from .inputs import Priority, Role, Truncation
from .ranking import Scorer
from .token_vectors import Pooling
from .values import LANGUAGES, PointId, Quantization, SearchMode, TextIndex

M = TypeVar("M", bound=Message)

DTYPES: Final = (
    *("float32", "float16", "float64"),
    *("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool"),
)
MAX_AXES: Final = 8
# A double holds every whole number up to here, and a Struct knows no other number.
MAX_WHOLE: Final = 2**53
_AT_ONCE: Final = 2**13  # numbers that one call converts
MAX_DEPTH: Final = 30  # a level takes three messages, and protobuf reads a hundred in each other

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
POOLINGS: Final[Mapping[Pooling, "embedding_pb2.Pooling.ValueType"]] = MappingProxyType(
    {"none": embedding_pb2.POOLING_NONE, "grid": embedding_pb2.POOLING_GRID}
)
SCORERS: Final[Mapping[Scorer, "reranking_pb2.Scorer.ValueType"]] = MappingProxyType(
    {
        "cross-encoder": reranking_pb2.SCORER_CROSS_ENCODER,
        "cosine": reranking_pb2.SCORER_COSINE,
    }
)
METRICS: Final[Mapping[Metric, "anomaly_pb2.Metric.ValueType"]] = MappingProxyType(
    {"cosine": anomaly_pb2.METRIC_COSINE, "euclidean": anomaly_pb2.METRIC_EUCLIDEAN}
)

SEARCH_MODES: Final[Mapping[SearchMode, "collections_pb2.SearchMode.ValueType"]] = MappingProxyType(
    {
        "dense": collections_pb2.SEARCH_MODE_DENSE,
        "keyword": collections_pb2.SEARCH_MODE_KEYWORD,
        "hybrid": collections_pb2.SEARCH_MODE_HYBRID,
    }
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


def message(kind: type[M], **fields: Any) -> M:
    """A message of these fields; InvalidInput names the first whose value is of another type.

    None leaves its field out.
    """
    for name, value in fields.items():
        field = kind.DESCRIPTOR.fields_by_name[name]
        if field.cpp_type != FieldDescriptor.CPPTYPE_STRING or not field.is_repeated:
            fields[name] = None if value is None else _checked(field, name, value)
        elif isinstance(value, str | AbstractSet | Mapping) or not isinstance(value, Iterable):
            raise InvalidInput(f"{name} is {value!r:.80}, a {type(value).__name__}; give a list")
        else:
            fields[name] = [_checked(field, f"{name}[{i}]", entry) for i, entry in enumerate(value)]
    return kind(**fields)


def _checked(field: Any, name: str, value: Any) -> Any:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return text(name, value)
        case FieldDescriptor.CPPTYPE_UINT32:
            return whole(name, value)
        case FieldDescriptor.CPPTYPE_BOOL:
            if not isinstance(value, bool | np.bool_):
                raise InvalidInput(f"{name} is {value!r:.80}; give True or False")
            return bool(value)
        case FieldDescriptor.CPPTYPE_FLOAT | FieldDescriptor.CPPTYPE_DOUBLE:
            if not math.isfinite(number(value)):
                raise InvalidInput(f"{name} is {value!r:.80}; give a finite number")
            return number(value)
        case _:
            return value


def text(name: str, value: object) -> str:
    """Text that can be sent; InvalidInput for anything else."""
    if not isinstance(value, str):
        hint = f", such as str({value!r})" if isinstance(value, int | float | np.generic) else ""
        raise InvalidInput(f"{name} is {value!r:.80}, a {type(value).__name__}; give text{hint}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"{name} has half of a surrogate pair at character {error.start}; decode it as UTF-8"
        ) from None
    return value


def number(value: object) -> float:
    """A real number, numpy's too; NaN for anything else."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
        return math.nan
    try:
        return float(value)
    except (OverflowError, TypeError):
        return math.nan


def whole(name: str, value: object, *, bits: int = 32) -> int:
    """A whole number of so many bits, numpy's too; InvalidInput for anything else."""
    try:
        number = -1 if isinstance(value, bool) else operator.index(cast("Any", value))
    except TypeError:
        number = -1
    if not 0 <= number < 2**bits:
        raise InvalidInput(
            f"{name} is {value!r:.80}; give a whole number, 0 or more, of {bits} bits"
        )
    return number


def to_tokens(items: Iterable[object]) -> item_pb2.Tokens:
    """Token ids as one list; InvalidInput names the first item that holds something else."""
    ids, lengths = list[int](), list[int]()
    for index, item in enumerate(items):
        rows = item.tolist() if isinstance(item, np.ndarray) else item
        if isinstance(rows, str) or not isinstance(rows, Iterable):
            raise InvalidInput(f"item {index} must be a flat list of token ids; got {item!r:.80}")
        row = list(rows)
        if not _are_plain_ids(row):
            if fractions := [one for one in row if isinstance(one, float)]:
                raise InvalidInput(
                    f"item {index} has {fractions[0]!r}, which is no token id; a model of arrays "
                    "takes all items as one array, numpy.array(items)"
                )
            row = [whole(f"item {index} has a token id that", one) for one in row]
        ids += row
        lengths.append(len(row))
    return item_pb2.Tokens(ids=ids, lengths=lengths)


def _are_plain_ids(row: list[Any]) -> bool:
    """Whether they are ids without a look at each by itself: there may be a million."""
    return {*map(type, row)} <= {int} and min(row, default=0) >= 0 and max(row, default=0) < 2**32


def from_tokens(
    tokens: item_pb2.Tokens, *, max_length: int | None = None
) -> list[NDArray[np.int64]]:
    """Give each item's ids; InvalidInput where the lengths are not those of the ids.

    Of an item of more than `max_length` only the length is right: its ids are zeros, which take no
    memory.
    """
    lengths, count = _numbers(tokens.lengths).tolist(), len(tokens.ids)
    if (total := sum(lengths)) != count:
        raise InvalidInput(f"lengths add up to {total} and there are {count} ids")
    rows, start = list[NDArray[np.int64]](), 0
    for length in lengths:
        if max_length is not None and length > max_length:
            rows.append(np.broadcast_to(np.int64(0), (length,)))
        else:
            rows.append(_numbers(tokens.ids[start : start + length]))
        start += length
    return rows


def _numbers(values: Sequence[int]) -> NDArray[np.int64]:
    """Give whole numbers as an array; a million in one call would stop every other thread."""
    array = np.empty(len(values), np.int64)
    for start in range(0, len(values), _AT_ONCE):
        array[start : start + _AT_ONCE] = values[start : start + _AT_ONCE]
    return array


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


def to_text_index(text_index: TextIndex) -> collections_pb2.TextIndex:
    """A text index as a message; InvalidInput for an unknown language."""
    if text_index.language not in LANGUAGES:
        raise InvalidInput(
            f"text_index.language is {text_index.language!r:.80}; expected one of"
            f" {', '.join(LANGUAGES)}"
        )
    return message(collections_pb2.TextIndex, field=text_index.field, language=text_index.language)


def to_id(point: PointId | UUID, name: str = "id") -> collections_pb2.PointId:
    """A point's id, a whole number, a UUID or its text; InvalidInput for anything else."""
    if isinstance(point, str | UUID):
        return collections_pb2.PointId(uuid=text(name, str(point)))
    try:
        return collections_pb2.PointId(number=whole(name, point, bits=64))
    except InvalidInput:
        raise InvalidInput(
            f"{name} is {point!r:.80}; a point's id is a whole number of 64 bits, or the text of a "
            "UUID"
        ) from None


def from_id(point: collections_pb2.PointId) -> PointId:
    """The id that the message holds; InvalidInput when it holds none."""
    match point.WhichOneof("id"):
        case "number":
            return point.number
        case "uuid":
            return point.uuid
        case _:
            raise InvalidInput("a point's id is empty; set number or uuid")


def to_struct(payload: Mapping[str, Any], name: str = "payload") -> Struct:
    """A JSON object as a message; InvalidInput for what JSON, or a double, cannot hold.

    `name` is what it is called in messages.
    """
    return _to_struct(payload, (name,))


def _to_struct(mapping: object, path: tuple[object, ...]) -> Struct:
    if not isinstance(mapping, Mapping):
        raise InvalidInput(
            f"{_called(path)} is {mapping!r:.80}, a {type(mapping).__name__}; give an object (a "
            "dict), {} for none"
        )
    struct = Struct()
    for key, value in mapping.items():
        if not (isinstance(key, str) and key.isascii()):
            text(f"a key of {_called(path)}", key)
        struct.fields[key].CopyFrom(_to_value(value, (*path, key)))
    return struct


def _called(path: tuple[object, ...]) -> str:
    """What a value is called in messages: its object's name, and the keys and indices to it."""
    name, *rest = path
    return f"{name}{''.join(f'[{one!r:.80}]' for one in rest)}"


def from_struct(struct: Struct) -> dict[str, Any]:
    """Give the message's JSON object; whole numbers as int, since a Struct knows doubles only."""
    return {key: _from_value(value, key) for key, value in struct.fields.items()}


def _to_value(item: object, path: tuple[object, ...]) -> Value:
    if len(path) > MAX_DEPTH + 1:
        raise InvalidInput(
            f"{_called(path)[:80]} is nested deeper than {MAX_DEPTH}; give a flatter object"
        )
    value = item.item() if isinstance(item, np.generic) else item
    match value:
        case None:
            return Value(null_value=0)  # type: ignore[arg-type]
        case bool():
            return Value(bool_value=value)
        case int() if abs(value) > MAX_WHOLE:
            raise InvalidInput(
                f"{_called(path)} is {value!r:.80}, beyond 2**53, where doubles lose digits; send "
                "text"
            )
        case int() | float() if math.isfinite(value):
            return Value(number_value=value)
        case float():
            raise InvalidInput(
                f"{_called(path)} is {value}, which JSON does not have; leave the key out"
            )
        case str():
            return Value(string_value=value if value.isascii() else text(_called(path), value))
        case Mapping():
            return Value(struct_value=_to_struct(value, path))
        case Sequence() if not isinstance(value, bytes | bytearray):
            whole_list = Value()
            whole_list.list_value.values.extend(
                _to_value(each, (*path, i)) for i, each in enumerate(value)
            )
            return whole_list
        case _:
            kind = type(value).__name__
            forms = [form for form in ("isoformat", "tolist") if hasattr(value, form)]
            fix = f"its {forms[0]}()" if forms else "text, numbers, lists or objects"
            raise InvalidInput(
                f"{_called(path)} is {value!r:.80}, a {kind}, which is not JSON; give {fix}"
            )


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
