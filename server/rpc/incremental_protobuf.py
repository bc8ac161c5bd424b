"""Incremental protobuf: long messages are read in steps and written in parts.

To merge a message's parts one after the other is to read it whole: the encoding says so.
https://protobuf.dev/programming-guides/encoding/#last-one-wins
"""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeVar, cast

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from attar.errors import InvalidInput

from ..cooperative import SMALL_BYTES, STEP_BYTES, give_way, off_the_loop
from ..errors import about

M = TypeVar("M", bound=Message)

_VARINT, _FIXED64, _SIZED, _FIXED32 = 0, 1, 2, 5
_WIDTHS: Final = {_FIXED64: 8, _FIXED32: 4}
JSON: Final = "google.protobuf.Struct"
_LEVELS: Final = 8  # of messages in each other that are read in steps; none of ours has more
_FIXED: Final = {
    FieldDescriptor.TYPE_DOUBLE: 8,
    FieldDescriptor.TYPE_FIXED64: 8,
    FieldDescriptor.TYPE_SFIXED64: 8,
    FieldDescriptor.TYPE_FLOAT: 4,
    FieldDescriptor.TYPE_FIXED32: 4,
    FieldDescriptor.TYPE_SFIXED32: 4,
}
_TEXTS: Final = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)


LIMITS: Final[Mapping[str, str]] = MappingProxyType(
    {"filter": "max_filter_bytes", "payloads": "max_payload_bytes"}
)
"""The setting that bounds each field of JSON: an entry of an object cannot be merged from parts."""


def refuse_long(field: str, what: str, size: int, limits: Mapping[str, int]) -> None:
    """Raise InvalidInput for a field of JSON, shown as `what`, of too many bytes.

    `limits` are values of LIMITS.
    """
    setting = LIMITS[field]
    if size > limits[setting]:
        with about(what):
            raise InvalidInput(
                f"{what} has {size} bytes, more than {setting}, {limits[setting]}; send less"
            )


def read(kind: type[M], data: bytes, *, limits: Mapping[str, int]) -> M:
    """Read a message of that kind, whose parts were counted; `limits` are values of LIMITS.

    Raises InvalidInput for other bytes, and for a filter or a payload that is too long.
    """
    try:
        if len(data) <= SMALL_BYTES:
            return kind.FromString(data)
        message = kind()
        _Reader(limits).merge(message, memoryview(data), _LEVELS)
    except DecodeError:
        raise InvalidInput(
            "the message is not the protobuf that this call takes; check the client's .proto"
        ) from None
    return message


async def serialize(
    kind: type[M],
    size: int,
    parts: Callable[[], Iterable[Message | bytes]],
) -> M:
    """Make and write a `kind` of about `size` bytes, a long one in a thread.

    `parts` are short messages, which the answer's reader merges. What it gives are bytes, which the
    interceptor sends as they are; the generated signatures know messages alone.
    """
    return cast("M", await off_the_loop(size, lambda: written(parts())))


def written(parts: Iterable[Message | bytes]) -> bytes:
    """Write a message that is given in parts, some of them written already."""
    whole, since = bytearray(), 0
    for part in parts:
        written_part = part if isinstance(part, bytes) else part.SerializeToString()
        whole += written_part
        since += len(written_part)
        if since > STEP_BYTES:
            give_way()
            since = 0
    return bytes(whole)


def nested(kind: type[Message], field: str, parts: Iterable[Message | bytes]) -> bytes:
    """Write the part of a `kind` whose `field` is one message, given in parts."""
    inner = written(parts)
    number = kind.DESCRIPTOR.fields_by_name[field].number
    return _head(number << 3 | _SIZED, len(inner)) + inner


class _Reader:
    """Merges messages, in which JSON has its limits."""

    def __init__(self, limits: Mapping[str, int]) -> None:
        self._limits = limits

    def merge(self, message: Message, data: memoryview, levels: int) -> None:
        """Merge a message field by field, many short ones at a time."""
        begin = at = 0
        while at < len(data):
            tag, after = _varint(data, at)
            value, stop = _extent(data, tag & 7, after)
            if tag & 7 == _SIZED and value > STEP_BYTES:
                _merge_whole(message, data[begin:at])
                self._merge_long(message, tag, data[at:stop], data[stop - value : stop], levels)
                begin = stop
            elif stop - begin >= STEP_BYTES:
                _merge_whole(message, data[begin:stop])
                begin = stop
            at = stop
        _merge_whole(message, data[begin:])

    def _merge_long(
        self, message: Message, tag: int, whole: memoryview, inner: memoryview, levels: int
    ) -> None:
        """Merge one long field, `inner` with its head before it."""
        field: Any = message.DESCRIPTOR.fields_by_number.get(tag >> 3)
        if field is not None and field.message_type and field.message_type.full_name == JSON:
            at = f"[{len(getattr(message, field.name))}]" if field.is_repeated else ""
            refuse_long(field.name, f"{field.name}{at}", len(inner), self._limits)
        if field is None or field.type in _TEXTS:
            _merge_whole(message, whole)
        elif field.message_type is None:
            for part in _packed(inner, _FIXED.get(field.type)):
                _merge_whole(message, memoryview(_head(tag, len(part)) + part))
        elif field.message_type.GetOptions().map_entry:
            _merge_whole(message, whole)
        elif levels:
            here = getattr(message, field.name)
            child = here.add() if field.is_repeated else here
            child.SetInParent()
            self.merge(child, inner, levels - 1)
        else:
            _merge_whole(message, whole)


def _merge_whole(message: Message, data: memoryview) -> None:
    if data:
        message.MergeFromString(data)  # type: ignore[arg-type]  # the stubs know bytes only
        give_way()


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Give the number at a place, and where it ends."""
    value = 0
    for index in range(10):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at
    raise DecodeError("a number has no end")


def _extent(data: memoryview, wire: int, after: int) -> tuple[int, int]:
    """Give a field's length, where it has one, and where it ends."""
    if wire == _VARINT:
        return 0, _varint(data, after)[1]
    if wire == _SIZED:
        length, after = _varint(data, after)
        stop = after + length
    elif wire in _WIDTHS:
        length, stop = 0, after + _WIDTHS[wire]
    else:
        raise DecodeError("groups are of no message here")
    if stop > len(data):
        raise DecodeError("a field is longer than its message")
    return length, stop


def _packed(data: memoryview, width: int | None) -> Iterable[memoryview]:
    """Cut packed numbers, of so many bytes each or of any, into parts of whole ones."""
    at = 0
    while at < len(data):
        stop = min(at + STEP_BYTES, len(data))
        if width is None:
            while stop < len(data) and data[stop - 1] >= 0x80:
                stop += 1
        yield data[at:stop]
        at = stop


def _head(tag: int, length: int) -> bytes:
    return _number(tag) + _number(length)


def _number(value: int) -> bytes:
    """Write a varint."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
