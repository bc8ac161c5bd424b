"""Read an ONNX file's protobuf as any reader of it must: one spelling, and nothing unknown.

protobuf is lenient: it cuts a tag to 32 bits, takes a number in more bytes than it needs, steps
over what it does not know, lets the last of two fields win and merges two messages into one. Where
two readers differ in that, one checks what the other does not run. So whatever needs such a rule is
refused here, and what is left means the same to every reader.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .schema import ENUMS, SCHEMA, Field

MAX_FIELDS = 200_000
"""Fields of a file. all-MiniLM-L6-v2 has 5,830 in its 201 nodes and their tensors."""

MAX_DEPTH = 64
"""Messages inside one another; protobuf itself stops at 100."""

MAX_TEXT_BYTES = 2**20
"""Of one text: names take some tens, and what an exporter notes of a whole model some thousands."""

_MOST_NUMBERS = 2**12  # of a packed run that are returned; longer runs are only checked
_CHUNK = 2**17  # bytes of a run that are read at once: numbers take fifty times as much

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_KEY = 2**32 - 1
_MAX_VARINT_BYTES = 10  # 64 bits by 7

_NUMBERS = {"float": _FIXED32, "double": _FIXED64}  # the others are varints
_FIXED = {_FIXED32: 4, _FIXED64: 8}
_RANGES = {
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint64": (0, 2**64 - 1),
    **{name: (values.start, values.stop - 1) for name, values in ENUMS.items()},
}


@dataclass(frozen=True, slots=True)
class Run:
    """Numbers that came packed: how many, and themselves where they are few."""

    count: int
    numbers: NDArray[Any] | None


@dataclass(frozen=True, slots=True)
class Message:
    """One message: its kind, as in `SCHEMA`, and its fields by name; a repeated one is a list."""

    kind: str
    fields: dict[str, Any] = field(default_factory=dict)

    def get(self, name: str, default: Any = None) -> Any:
        """Give a field that stands once."""
        return self.fields.get(name, default)

    def each(self, name: str) -> list[Any]:
        """Give every value of a repeated field; of numbers, a `Run` where they came packed."""
        values: list[Any] = self.fields.get(name, [])
        return values

    def count(self, name: str) -> int:
        """Count the values of a repeated field."""
        return sum(value.count if isinstance(value, Run) else 1 for value in self.each(name))

    def numbers(self, name: str, *, most: int) -> list[Any]:
        """Give a repeated field of numbers; ValueError for more than `most`, some thousands."""
        if (count := self.count(name)) > min(most, _MOST_NUMBERS):
            raise ValueError(f"{self.kind} has {count} {name}; limit {most}")
        flat: list[Any] = []
        for value in self.each(name):
            if isinstance(value, Run):
                flat += [] if value.numbers is None else value.numbers.tolist()
            else:
                flat.append(value)
        return flat

    def below(self) -> Iterator["Message"]:
        """Give this message and every one inside it."""
        todo = [self]
        while todo:
            message = todo.pop()
            yield message
            for value in message.fields.values():
                inside = value if isinstance(value, list) else [value]
                todo.extend(each for each in inside if isinstance(each, Message))


def read(data: bytes, kind: str = "ModelProto") -> Message:
    """Read a message of that kind; ValueError says what stands there and at which byte.

    Text is str and bytes are views into `data`. Besides texts it takes less than 100 MB.
    """
    return _Reader(memoryview(data)).message(kind, len(data), MAX_DEPTH)


class _Reader:
    """A walk over a file's bytes, once from the first to the last."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0
        self._fields_left = MAX_FIELDS

    def message(self, kind: str, end: int, depth: int) -> Message:
        """Read a message that ends at byte `end`, of at most `depth` messages in one another."""
        if depth == 0:
            raise ValueError(f"messages stand more than {MAX_DEPTH} deep at byte {self._at}")
        message, schema, chosen = Message(kind), SCHEMA[kind], ""
        while self._at < end:
            self._fields_left -= 1
            if self._fields_left < 0:
                raise ValueError(f"it has more than {MAX_FIELDS} fields")
            start = self._at
            key = self._varint(end)
            spec = schema.get(key >> 3)
            if key > _MAX_KEY or spec is None:
                raise ValueError(
                    f"{kind} has a field of tag {key} at byte {start}, which ONNX does not know"
                )
            value = self._value(spec, key & 7, end, depth)
            if spec.repeated:
                message.fields.setdefault(spec.name, []).append(value)
                continue
            if spec.name in message.fields or (spec.oneof and chosen):
                raise ValueError(
                    f"{kind} has {spec.name} at byte {start} and "
                    f"{chosen or spec.name} before it; one may stand there"
                )
            chosen = spec.name if spec.oneof else chosen
            message.fields[spec.name] = value
        return message

    def _value(self, spec: Field, wire: int, end: int, depth: int) -> Any:
        """Read a field's value, whose tag ends here."""
        start = self._at
        is_number = spec.kind in _RANGES or spec.kind in _NUMBERS
        due = _NUMBERS.get(spec.kind, _VARINT) if is_number else _BYTES
        packed = wire == _BYTES and is_number and spec.repeated
        if wire != due and not packed:
            raise ValueError(f"{spec.name} at byte {start} has wire type {wire} and not {due}")
        if wire == _VARINT:
            return _signed(self._varint(end), spec, start)
        size = self._varint(end) if wire == _BYTES else _FIXED[wire]
        if size > end - self._at:
            raise ValueError(f"{spec.name} at byte {start} runs past the end")
        if spec.kind in SCHEMA:
            return self.message(spec.kind, self._at + size, depth - 1)
        body = self._data[self._at : self._at + size]
        self._at += size
        if packed:
            return _run(spec, body, start)
        if spec.kind == "string":
            return _text(spec, body, start)
        return np.frombuffer(body, f"<f{size}").item() if is_number else body

    def _varint(self, end: int) -> int:
        """Read a base-128 number in its shortest spelling."""
        value, start = 0, self._at
        for digit, byte in enumerate(self._data[start : min(start + _MAX_VARINT_BYTES, end)]):
            value |= (byte & 0x7F) << 7 * digit
            if byte < 0x80:  # the last byte has its high bit clear
                if (byte == 0 and digit) or value >= 2**64:
                    raise ValueError(f"the number at byte {start} is not in its shortest spelling")
                self._at = start + digit + 1
                return value
        raise ValueError(f"the number at byte {start} does not end, or runs past the end")


def _signed(number: int, spec: Field, start: int) -> int:
    """Take a varint for its kind: negative numbers are those of 64 bits whose highest is set."""
    low, high = _RANGES[spec.kind]
    value = number - 2**64 if low < 0 and number >= 2**63 else number
    if not low <= value <= high:
        raise ValueError(f"{spec.name} at byte {start} is {value}, which is no {spec.kind}")
    return value


def _run(spec: Field, body: memoryview, start: int) -> Run:
    """Read many numbers in one run."""
    if spec.kind in _NUMBERS:
        size = _FIXED[_NUMBERS[spec.kind]]
        count, rest = divmod(len(body), size)
        if rest:
            raise ValueError(f"{spec.name} at byte {start} is cut within a number")
        return Run(count, np.frombuffer(body, f"<f{size}") if count <= _MOST_NUMBERS else None)
    data, at, count, chunks = np.frombuffer(body, np.uint8), 0, 0, []
    while at < len(data):
        chunk = data[at : at + _CHUNK]
        ends = np.flatnonzero(chunk < 0x80)
        if not len(ends):
            raise ValueError(f"{spec.name} at byte {start} holds a number that does not end")
        chunk = chunk[: ends[-1] + 1]
        numbers = _varints(spec, chunk, ends, start)
        at, count = at + len(chunk), count + len(numbers)
        if count <= _MOST_NUMBERS:
            chunks.append(numbers)
    whole = np.concatenate(chunks) if chunks else np.zeros(0, np.int64)
    return Run(count, whole if count <= _MOST_NUMBERS else None)


def _varints(
    spec: Field, data: NDArray[np.uint8], ends: NDArray[np.intp], start: int
) -> NDArray[Any]:
    """Read the numbers that end there."""
    sizes = np.diff(ends, prepend=-1)
    padded = (data[ends] == 0) & (sizes > 1)
    beyond = (sizes > _MAX_VARINT_BYTES) | ((sizes == _MAX_VARINT_BYTES) & (data[ends] > 1))
    if padded.any() or beyond.any():
        raise ValueError(f"{spec.name} at byte {start} holds a number in a spelling too long")
    numbers, starts = np.zeros(len(ends), np.uint64), ends - sizes + 1
    for digit in range(int(sizes.max())):
        here = sizes > digit
        numbers[here] |= (data[starts[here] + digit].astype(np.uint64) & np.uint64(0x7F)) << (
            np.uint64(7 * digit)
        )
    low, high = _RANGES[spec.kind]
    values = numbers if low == 0 else numbers.view(np.int64)
    if int(values.min()) < low or int(values.max()) > high:
        raise ValueError(f"{spec.name} at byte {start} holds a number that is no {spec.kind}")
    return values


def _text(spec: Field, body: memoryview, start: int) -> str:
    if len(body) > MAX_TEXT_BYTES:
        raise ValueError(f"{spec.name} at byte {start} has more than {MAX_TEXT_BYTES} bytes")
    try:
        return bytes(body).decode()
    except UnicodeDecodeError:
        raise ValueError(f"{spec.name} at byte {start} is not UTF-8") from None
