"""Field counts: the fields of a message, counted in its bytes before protobuf makes objects.

Two bytes are an empty text, or an empty message, and make up to a hundred in memory. So what has
more of them than any right request is refused first. Numbers that are packed are one part: their
bytes bound them. What payloads and filters have inside is counted apart: it takes less.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final, NamedTuple

from google.protobuf.message import Message

from attar.errors import InvalidInput

from ..cooperative import STEP, give_way
from .incremental_protobuf import JSON, refuse_long

_PER_ITEM: Final = 16  # the fields of one search of a batch; an upsert has four for each item
_BESIDES: Final = 256
_PER_VALUE: Final = 4  # an entry of an object: itself, its key, its value, and what that is
# What is looked into of google.protobuf's Struct, its entries, Value and ListValue, by tags.
_STRUCT: Final[dict[int, Any]] = {}
_VALUE: Final[dict[int, Any]] = {5 << 3 | 2: _STRUCT, 6 << 3 | 2: {}}
_STRUCT[1 << 3 | 2] = {2 << 3 | 2: _VALUE}
_VALUE[6 << 3 | 2][1 << 3 | 2] = _VALUE
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_TAG: Final = 2**32 - 1
# What protobuf and the host's step make of a message, of each byte and besides of each part.
_MEMORY_PER_BYTE: Final = 6
_MEMORY_PER_FIELD: Final = 512
_MEMORY_PER_JSON_FIELD: Final = 64


class Malformed(ValueError):
    """The bytes are no protobuf message."""


class FieldCounts(NamedTuple):
    """How many a message has: its own, and those inside of its payloads and filters."""

    own: int
    json: int


def most(max_items: int) -> int:
    """The parts that a request of so many items may have."""
    return _PER_ITEM * max_items + _BESIDES


def count(
    kind: type[Message],
    message: bytes,
    *,
    limit: int,
    max_payload_values: int,
    limits: Mapping[str, int] | None = None,
) -> FieldCounts:
    """The parts of a message of `kind`, itself left out, up to `limit` of its own.

    Raises InvalidInput for more, for more in JSON than so many values have, and for a filter that
    is longer than `limits` say, which is not looked into; an answer has no limits. Raises Malformed
    where the bytes are no message.
    """
    own = json = 0
    most_json = _PER_VALUE * max_payload_values
    todo: list[tuple[Any, int, int]] = [(kind.DESCRIPTOR, 0, len(message))]
    while todo:
        descriptor, start, end = todo.pop()
        inner = _inner(descriptor)
        for number, first, last in _fields(message, start, end):
            own += 1
            if own > limit:
                raise InvalidInput(
                    f"the message has more than {limit} fields and elements, {_PER_ITEM} for each "
                    "of max_items; send several"
                )
            if first == last or number not in inner:
                continue
            if inner[number].full_name != JSON:
                todo.append((inner[number], first, last))
                continue
            field = descriptor.fields_by_number[number]
            if limits is not None and not field.is_repeated:
                refuse_long(field.name, field.name, last - first, limits)
            json += _inside(message, first, last, most=most_json - json)
            if json > most_json:
                raise InvalidInput(
                    "the payloads and filters of the message have more values than "
                    f"max_payload_values, {max_payload_values}; send several"
                )
    return FieldCounts(own, json)


def weight(message: bytes, counts: FieldCounts) -> int:
    """The memory that a message of so many fields is made into, bytes."""
    own, json = _MEMORY_PER_FIELD * counts.own, _MEMORY_PER_JSON_FIELD * counts.json
    return _MEMORY_PER_BYTE * len(message) + own + json


def _inside(message: bytes, at: int, stop: int, *, most: int) -> int:
    """The parts of the JSON from `at` to `stop`, as far as `most` and one more.

    One loop for messages in each other: of these there are hundreds of thousands.
    """
    parts = 0
    inner: Mapping[int, Any] = _STRUCT
    outer: list[tuple[Mapping[int, Any], int, int]] = []
    while True:
        while at == stop:
            if not outer:
                return parts
            inner, stop, least = outer.pop()
            parts = max(parts, least)
        parts += 1
        if parts > most:
            return parts
        if parts % STEP == 0:
            give_way()
        tag = message[at]
        if tag > 127 or tag & 7 != _BYTES or at + 1 == stop or message[at + 1] > 127:
            tag, first, last = _field(message, at, stop)
        else:  # most are like that
            first, last = at + 2, at + 2 + message[at + 1]
        if last > stop:
            raise Malformed
        if tag in inner:
            # Protobuf gives an entry the key and the value that its bytes lack.
            outer.append((inner, stop, parts + 2 if inner is _STRUCT else 0))
            inner, at, stop = inner[tag], first, last
        else:
            at = last


@cache
def _inner(kind: Any) -> dict[int, Any]:  # protobuf's Descriptor, which has two types
    """The fields of a kind of message that are messages themselves."""
    return {
        field.number: field.message_type for field in kind.fields if field.message_type is not None
    }


def _fields(message: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Give each field's number and where its bytes lie; those of a number are none."""
    while start < end:
        tag, first, start = _field(message, start, end)
        yield (tag >> 3, first, start) if tag & 7 == _BYTES else (tag >> 3, 0, 0)


def _field(message: bytes, start: int, end: int) -> tuple[int, int, int]:
    """Give the tag of the field that begins there, and where what it has begins and ends."""
    tag, first = _varint(message, start, end)
    wire, last = tag & 7, first
    if tag > _MAX_TAG or tag < 8:
        raise Malformed
    if wire == _VARINT:
        _, last = _varint(message, first, end)
    elif wire == _BYTES:
        size, first = _varint(message, first, end)
        last = first + size
    elif wire in (_FIXED64, _FIXED32):
        last = first + (8 if wire == _FIXED64 else 4)
    else:
        raise Malformed
    if last > end:
        raise Malformed
    return tag, first, last


def _varint(message: bytes, start: int, end: int) -> tuple[int, int]:
    """Give the number that begins there, and where it ends."""
    value = shift = 0
    while start < end and shift < 70:
        byte = message[start]
        start += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, start
        shift += 7
    raise Malformed
