"""Messages: requests to plain values, each fault named by its field, and back to answers."""

import asyncio
from collections.abc import Container, Mapping, Sequence
from typing import Any, NoReturn, Protocol, TypeVar, cast

import grpc
import numpy as np
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import ListValue, Struct
from numpy.typing import NDArray

from attar import wire
from attar.encodings import Encoding
from attar.errors import InvalidInput, ShapeError
from attar.heads import Metric
from attar.inputs import Priority, Role, Truncation
from attar.token_vectors import Pooling
from attar.v1 import collections_pb2, embedding_pb2, info_pb2, item_pb2, tensor_pb2
from attar.values import LANGUAGES, PointId, Quantization, SearchMode, TextIndex

from ..errors import about, to_status
from ..usecases.embed import Item, Items

Name = TypeVar("Name", bound=str)


class HasItems(Protocol):
    """Any request with `oneof input {Texts texts; Tensor tensor; ...}`."""

    @property
    def texts(self) -> item_pb2.Texts:
        """Texts, or empty."""

    @property
    def tensor(self) -> tensor_pb2.Tensor:
        """An array, or empty."""


def deadline(context: grpc.aio.ServicerContext[Any, Any]) -> float | None:
    """The caller's grpc-timeout as loop time in seconds; None when it set none."""
    remaining = cast("float | None", context.time_remaining())  # the stubs forget the None
    return None if remaining is None else asyncio.get_running_loop().time() + remaining


def items(request: HasItems, kind: str | None, *, limit: int) -> Items:
    """The items of the `oneof input` whose set field is `kind`: 1 to `limit` of them."""
    if kind == "texts":
        with about("texts"):
            return list(_count(request.texts.values, limit))
    if kind == "tensor":
        with about("tensor"):
            return _counted(request.tensor, limit)
    with about("input"):
        raise InvalidInput(
            "the request has no items; set texts, or tensor for a model that takes no text"
        )


def vectors(tensor: tensor_pb2.Tensor, *, limit: int) -> NDArray[np.float32]:
    """A float32 (n, dims) matrix of 1 to `limit` rows."""
    with about("vectors"):
        matrix = _counted(tensor, limit)
        if matrix.dtype != np.float32 or matrix.ndim != 2:
            raise ShapeError(
                f"vectors are a float32 (n, dims) matrix; got {matrix.dtype} {matrix.shape}"
            )
        return matrix


def ids(points: Sequence[collections_pb2.PointId], *, limit: int) -> list[PointId]:
    """1 to `limit` point ids."""
    with about("ids"):
        _count(points, limit)
    records = []
    for index, point in enumerate(points):
        with about(f"ids[{index}]"):
            records.append(wire.from_id(point))
    return records


def payloads(
    structs: Sequence[Struct], *, limit: int, limits: info_pb2.Limits
) -> list[dict[str, Any]] | None:
    """The payloads of up to `limit` points as JSON objects; None when there are none."""
    if len(structs) > limit:
        with about("payloads"):
            raise InvalidInput(f"{len(structs)} payloads; give one for each of {limit} ids")
    most = limits.max_payload_bytes
    left = limits.max_payload_values
    records = []
    for index, struct in enumerate(structs):
        with about(f"payloads[{index}]"):
            if (size := struct.ByteSize()) > most:
                raise InvalidInput(
                    f"payloads[{index}] has {size} bytes and a payload may have {most}; keep"
                    " the rest elsewhere, or raise max_payload_bytes"
                )
            left -= _weigh(struct, f"payloads[{index}]", limits.max_payload_key_bytes, left)
            if left < 0:
                raise InvalidInput(
                    f"payloads[{index}] is where there are more values than max_payload_values,"
                    f" {limits.max_payload_values}, in one call; send fewer points or values"
                )
            records.append(wire.from_struct(struct))
    return records or None


def filters_within(structs: Sequence[Struct], limits: info_pb2.Limits) -> None:
    """Refuse filters that are together larger than a call's may be."""
    if (size := sum(struct.ByteSize() for struct in structs)) > limits.max_filter_bytes:
        raise InvalidInput(
            f"filter has {size} bytes, more than max_filter_bytes, {limits.max_filter_bytes}; give"
            " a smaller one, or several calls"
        )
    values = 0
    for struct in structs:
        left = limits.max_filter_values - values
        values += _weigh(struct, "filter", limits.max_payload_key_bytes, left)
        if values > limits.max_filter_values:
            raise InvalidInput(
                "filter has more values than max_filter_values,"
                f" {limits.max_filter_values}; give a range, or several calls"
            )


def conditions(struct: Struct, limits: info_pb2.Limits) -> dict[str, Any] | None:
    """A filter as a JSON object; None when empty."""
    with about("filter"):
        filters_within([struct], limits)
        return wire.from_struct(struct) or None


def _weigh(struct: Struct, what: str, max_key_bytes: int, enough: int) -> int:
    """Count the values in an object, and no further once there are more than `enough`.

    Keys and depth are held to their limits. Nothing is converted.
    """
    count = 0
    level: list[Struct | ListValue] = [struct]
    for _ in range(wire.MAX_DEPTH):
        below: list[Struct | ListValue] = []
        for holder in level:
            if isinstance(holder, Struct):
                _refuse_long_keys(holder, what, max_key_bytes)
            values = holder.fields.values() if isinstance(holder, Struct) else holder.values
            count += len(values)
            if count > enough:
                return count
            for value in values:
                kind = value.WhichOneof("kind")
                if kind in ("struct_value", "list_value"):
                    below.append(getattr(value, kind))
        if not below:
            return count
        level = below
    if any(holder.ByteSize() for holder in level):
        raise InvalidInput(f"{what} is nested deeper than {wire.MAX_DEPTH}; give a flatter object")
    return count


def _refuse_long_keys(struct: Struct, what: str, most: int) -> None:
    for key in struct.fields:
        if 4 * len(key) > most and (size := len(key.encode())) > most:
            raise InvalidInput(
                f"{what} has a key of {size} bytes, {key[:40]!r}..., more than"
                f" max_payload_key_bytes, {most}; give a shorter one"
            )


def role(number: int, *, default: Role) -> Role:
    """The role that an enum's number names; `default` for unspecified."""
    return _choice("role", number, wire.ROLES, default)


def role_or_prompt(request: embedding_pb2.EmbedRequest, *, limit: int) -> Role:
    """The role of a request's texts, or the name of the prompt that it has in place of one."""
    if not request.prompt:
        return role(request.role, default="passage")
    if request.role:
        with about("prompt"):
            raise InvalidInput("prompt and role are both given; leave one out")
    return short("prompt", request.prompt, limit=limit)


def truncation(number: int) -> Truncation:
    """The policy that an enum's number names."""
    return _choice("truncation", number, wire.TRUNCATIONS, "truncate")


def tokens(message: item_pb2.Tokens, *, limit: int, max_length: int | None) -> Items:
    """1 to `limit` items' token ids; of an item of more than `max_length` the length alone."""
    with about("tokens"):
        _count(message.lengths, limit)
        return wire.from_tokens(message, max_length=max_length)


def documents(values: Sequence[str], *, limit: int) -> list[str]:
    """1 to `limit` documents."""
    with about("documents"):
        return list(_count(values, limit))


def labels(values: Sequence[str], *, limit: int) -> list[str]:
    """Up to `limit` labels."""
    if len(values) > limit:
        with about("labels"):
            _refuse_many(len(values), limit)
    return list(values)


def short(field: str, value: str, *, limit: int) -> str:
    """A text that an answer repeats, of up to `limit` characters."""
    if len(value) > limit:
        with about(field):
            raise InvalidInput(
                f"{field} has {len(value)} characters, more than max_name_characters, {limit}; "
                "give a shorter one"
            )
    return value


def priority(number: int) -> Priority:
    """The priority that an enum's number names."""
    return _choice("priority", number, wire.PRIORITIES, "interactive")


def encoding(number: int) -> Encoding:
    """The encoding that an enum's number names."""
    return _choice("encoding", number, wire.ENCODINGS, "f32")


def pooling(number: int) -> Pooling:
    """The pooling of tokens that an enum's number names."""
    return _choice("pooling", number, wire.POOLINGS, "none")


def metric(number: int) -> Metric | None:
    """The metric that an enum's number names; None for unspecified."""
    return None if number == 0 else _choice("metric", number, wire.METRICS, "cosine")


def quantization(number: int) -> Quantization:
    """The quantisation that an enum's number names."""
    return _choice("quantization", number, wire.QUANTIZATIONS, "none")


def search_mode(number: int) -> SearchMode:
    """The mode that an enum's number names."""
    return _choice("mode", number, wire.SEARCH_MODES, "dense")


def text_index(message: collections_pb2.TextIndex, *, limit: int) -> TextIndex:
    """The text index that a message describes; its key has up to `limit` characters."""
    language = message.language or "english"
    for known in LANGUAGES:
        if known == language:
            field = short("text_index.field", message.field, limit=limit)
            return TextIndex(field or "text", known)
    with about("text_index.language"):
        raise InvalidInput(
            f"text_index.language is {language!r:.80}; expected one of {', '.join(LANGUAGES)}"
        )


def statuses(records: Sequence[Item]) -> list[item_pb2.ItemStatus]:
    """How each item fared, its error as a whole google.rpc.Status."""
    errors = {id(item.error): item.error for item in records if item.error is not None}
    by_error = {key: to_status(error) for key, error in errors.items()}  # one run's failure, once
    return [
        item_pb2.ItemStatus(
            error=by_error.get(id(item.error)), tokens=item.tokens, truncated=item.truncated
        )
        for item in records
    ]


def failed(
    request: embedding_pb2.EmbedRequest, error: Exception, *, limit: int
) -> embedding_pb2.EmbedResponse:
    """The answer on a stream to a request that failed as a whole; its id has up to `limit`."""
    status = to_status(error, fields=fields(request))
    return embedding_pb2.EmbedResponse(id=request.id[:limit], error=status)


def fields(request: object) -> Container[str]:
    """The names of a request's fields; none for what is not a message."""
    return request.DESCRIPTOR.fields_by_name if isinstance(request, Message) else ()


def whole_number(field: str, value: int, *, low: int, high: int) -> int:
    """The value, when it lies from `low` to `high`."""
    with about(field):
        if not low <= value <= high:
            raise InvalidInput(f"{field} is {value}; it must be from {low} to {high}")
    return value


Sized = TypeVar("Sized", bound=Sequence[Any])


def _counted(tensor: tensor_pb2.Tensor, limit: int) -> NDArray[Any]:
    """The array, of 1 to `limit` items by its shape."""
    if tensor.shape and tensor.shape[0] > limit:
        _refuse_many(tensor.shape[0], limit)
    return wire.from_tensor(tensor)


def _count(records: Sized, limit: int) -> Sized:
    if len(records) < 1:
        raise InvalidInput("0 items; give at least one")
    if len(records) > limit:
        _refuse_many(len(records), limit)
    return records


def _refuse_many(count: int, limit: int) -> NoReturn:
    raise InvalidInput(f"{count} items; a request takes {limit} (max_items), so send several")


def _choice(field: str, number: int, names: Mapping[Name, int], default: Name) -> Name:
    if number == 0:
        return default
    for name, value in names.items():
        if value == number:
            return name
    with about(field):
        known = ", ".join(f"{value} ({name})" for name, value in names.items())
        raise InvalidInput(f"{field} is {number}; expected one of {known}")
