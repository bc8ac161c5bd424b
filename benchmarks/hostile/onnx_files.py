"""Files of ONNX, written field by field, and whether attar and protobuf read the same from one."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.unknown_fields import UnknownFieldSet

from attar.onnx_scan.protobuf import Message, Run, read

CORPUS = Path(__file__).with_name("onnx_corpus.txt")
"""Inputs that reached new code in benchmarks/fuzz_onnx.py, one a line in hex."""

SCALARS = {3: "int64", 5: "int32", 4: "uint64", 9: "string", 12: "bytes", 2: "float", 1: "double"}
"""protobuf's numbers of types, as far as onnx.proto has them."""


def descriptors(of: Any, messages: dict[str, Any]) -> dict[str, Any]:
    """Give every message that one can reach, by its name in onnx.proto."""
    name = of.full_name.removeprefix("onnx.")
    if name not in messages:
        messages[name] = of
        for field in of.fields:
            if field.message_type is not None:
                descriptors(field.message_type, messages)
    return messages


PROTO = descriptors(onnx.ModelProto.DESCRIPTOR, {})


def kind(field: Any) -> str:
    if field.message_type is not None:
        return str(field.message_type.full_name.removeprefix("onnx."))
    return str(field.enum_type.name) if field.enum_type is not None else SCALARS[field.type]


def varint(number: int, padding: int = 0) -> bytes:
    """Spell a number, in `padding` bytes more than it needs."""
    out = bytearray()
    while True:
        more = number > 0x7F
        out.append(number & 0x7F | (0x80 if more or padding else 0))
        number >>= 7
        if not more:
            return bytes(out) + b"\x80" * max(0, padding - 1) + b"\x00" * (padding > 0)


def tag(number: int, wire: int) -> bytes:
    return varint(number << 3 | wire)


def held(number: int, body: bytes) -> bytes:
    """Give a field of bytes."""
    return tag(number, 2) + varint(len(body)) + body


def same(message: Message, proto: Any) -> None:
    """Hold a message that attar read to what protobuf read from the same bytes."""
    assert message.kind == proto.DESCRIPTOR.full_name.removeprefix("onnx.")
    assert not len(UnknownFieldSet(proto))
    there = {field.name: (field, value) for field, value in proto.ListFields()}
    assert {name for name in message.fields if plain(message, name)} == set(there)
    for name, (field, value) in there.items():
        ours = plain(message, name) if field.is_repeated else [message.get(name)]
        for mine, other in zip(ours, value if field.is_repeated else [value], strict=True):
            if isinstance(mine, Message):
                same(mine, other)
            elif isinstance(other, float):
                form = "<f" if SCALARS[field.type] == "float" else "<d"
                assert np.isnan(mine) == np.isnan(other)
                assert np.isnan(other) or struct.pack(form, mine) == struct.pack(form, other)
            else:
                assert (bytes(mine) if isinstance(mine, memoryview) else mine) == other


def plain(message: Message, name: str) -> list[Any]:
    """Give a field's values, packed runs taken apart; a field that stands once as a list of one."""
    value = message.fields[name]
    if not isinstance(value, list):
        return [value]
    return [each for part in value for each in (taken(part) if isinstance(part, Run) else [part])]


def taken(run: Run) -> list[Any]:
    assert run.numbers is not None
    assert len(run.numbers) == run.count
    numbers: list[Any] = run.numbers.tolist()
    return numbers


def agreed(data: bytes, name: str = "ModelProto") -> bool:
    """Tell whether attar takes these bytes; where it does, protobuf must see the same."""
    try:
        message = read(data, name)
    except ValueError:
        return False
    same(message, proto_of(data, name))
    return True


def proto_of(data: bytes, name: str) -> Any:
    proto = getattr(onnx, name)()
    proto.ParseFromString(data)
    return proto


def corpus() -> list[bytes]:
    return [bytes.fromhex(line) for line in CORPUS.read_text("utf-8").split()]


def nested(depth: int) -> bytes:
    """Put types into one another: TypeProto.sequence_type, its elem_type, and so on."""
    data = b""
    for i in range(depth):
        data = held(4 if i % 2 else 1, data)
    return data
