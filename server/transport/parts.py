"""Parts: the fields of a message, counted in its bytes before protobuf makes objects of them.

Two bytes are an empty text, or an empty message, and make up to a hundred in memory. So what has
more of them than any right request is refused first. Numbers that are packed, payloads and filters
are one part each: their bytes bound them.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from google.protobuf.message import Message

from attar.errors import InvalidInput

_PER_ITEM: Final = 16  # the fields of one search of a batch; an upsert has four for each item
_BESIDES: Final = 256
_WHOLE: Final = "google.protobuf.Struct"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_TAG: Final = 2**32 - 1


class Malformed(ValueError):
    """The bytes are no protobuf message."""


def most(max_items: int) -> int:
    """The parts that a request of so many items may have."""
    return _PER_ITEM * max_items + _BESIDES


def count(kind: type[Message], message: bytes, *, limit: int) -> int:
    """The number of parts of a message of `kind`, itself left out, up to `limit`.

    Raises InvalidInput for more, and Malformed where the bytes are no message.
    """
    found = 0
    todo: list[tuple[Any, int, int]] = [(kind.DESCRIPTOR, 0, len(message))]
    while todo:
        one, start, end = todo.pop()
        inner = _inner(one)
        for number, first, last in _fields(message, start, end):
            found += 1
            if found > limit:
                raise InvalidInput(
                    f"the message has more than {limit} fields and elements, {_PER_ITEM} for each "
                    "of max_items; send several"
                )
            if first != last and number in inner:
                todo.append((inner[number], first, last))
    return found


@cache
def _inner(kind: Any) -> dict[int, Any]:  # protobuf's Descriptor, which has two types
    """The fields of a kind of message that are messages themselves, and are looked into."""
    return {
        field.number: field.message_type
        for field in kind.fields
        if field.message_type is not None and field.message_type.full_name != _WHOLE
    }


def _fields(message: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Give each field's number and where its bytes lie; those of a number are none."""
    while start < end:
        tag, start = _varint(message, start, end)
        wire, first = tag & 7, 0
        if tag > _MAX_TAG or tag < 8:
            raise Malformed
        if wire == _VARINT:
            _, start = _varint(message, start, end)
        elif wire == _BYTES:
            size, first = _varint(message, start, end)
            start = first + size
        elif wire in (_FIXED64, _FIXED32):
            start += 8 if wire == _FIXED64 else 4
        else:
            raise Malformed
        if start > end:
            raise Malformed
        yield (tag >> 3, first, start) if wire == _BYTES else (tag >> 3, 0, 0)


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
