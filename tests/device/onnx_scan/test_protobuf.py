"""attar's reader of ONNX files and protobuf's own see the same file, or attar refuses it."""

from collections.abc import Sequence

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from attar.onnx_scan.protobuf import MAX_DEPTH, MAX_FIELDS, MAX_TEXT_BYTES, read
from attar.onnx_scan.schema import ENUMS, SCHEMA, Field
from benchmarks.hostile.onnx_files import (
    PROTO,
    agreed,
    corpus,
    held,
    kind,
    nested,
    proto_of,
    tag,
    varint,
)
from benchmarks.support.bundles import text_graph

FUZZ = settings(max_examples=100, deadline=None)


def test_the_table_of_messages_is_onnx_protos() -> None:
    assert {
        name: {
            field.number: Field(
                field.name, kind(field), field.is_repeated, field.containing_oneof is not None
            )
            for field in message.fields
        }
        for name, message in PROTO.items()
    } == SCHEMA


def test_the_table_of_enums_is_onnx_protos() -> None:
    enums = {
        field.enum_type.name: sorted(field.enum_type.values_by_number)
        for message in PROTO.values()
        for field in message.fields
        if field.enum_type is not None
    }
    assert {name: list(known) for name, known in ENUMS.items()} == enums


def test_whatever_fuzzing_kept_says_the_same_to_both_or_is_refused() -> None:
    taken = [agreed(data) for data in corpus()]
    assert {*taken} == {True, False}


NUMBERS = st.one_of(
    st.integers(0, 3),
    st.sampled_from([127, 128, 2**31 - 1, 2**31, 2**32 + 1, 2**63, 2**64 - 2**31, 2**64 - 1]),
    st.integers(0, 2**64 - 1),
)
TEXTS = (b"", b"x", "ä".encode(), b"\x00", b"location", b"\xff")


@st.composite
def encoded(draw: st.DrawFn, name: str, depth: int = 5, texts: Sequence[bytes] = TEXTS) -> bytes:
    """Draw a message of that kind, spelled as protobuf allows: mostly well, now and then not."""
    out = b""
    for _ in range(draw(st.integers(0, 4))):
        number = draw(st.sampled_from(sorted(SCHEMA[name])))
        field = SCHEMA[name][number]
        key = number + draw(st.sampled_from([0] * 30 + [2**29]))
        padding = draw(st.sampled_from([0] * 30 + [1]))
        if field.kind in SCHEMA:
            body = draw(encoded(field.kind, depth - 1, texts)) if depth else b""
        elif field.kind in ("string", "bytes"):
            body = draw(st.sampled_from(texts))
        elif field.kind in ("float", "double"):
            size = 4 if field.kind == "float" else 8
            count = draw(st.integers(1, 3)) if field.repeated and draw(st.booleans()) else 0
            body = draw(st.binary(min_size=size * max(1, count), max_size=size * max(1, count)))
            if not count:
                out += tag(key, 5 if size == 4 else 1) + body
                continue
        else:
            values = draw(st.lists(NUMBERS, min_size=1, max_size=3))
            if not (field.repeated and draw(st.booleans())):
                out += tag(key, 0) + varint(values[0], padding)
                continue
            body = b"".join(varint(each, padding) for each in values)
        out += tag(key, 2) + varint(len(body), padding) + body
    return out


@FUZZ
@given(encoded("ModelProto"))
def test_a_file_that_attar_takes_says_the_same_to_protobuf(data: bytes) -> None:
    agreed(data)


@FUZZ
@given(encoded("GraphProto", texts=TEXTS[:-1]))
def test_what_onnx_writes_attar_reads(data: bytes) -> None:
    try:
        proto = proto_of(data, "GraphProto")
    except DecodeError:
        return
    proto.DiscardUnknownFields()
    written = proto.SerializeToString()
    assert agreed(written, "GraphProto")


@FUZZ
@given(at=st.integers(0), cut=st.integers(0, 4), put=st.binary(max_size=4))
def test_a_damaged_file_says_the_same_to_both_or_is_refused(at: int, cut: int, put: bytes) -> None:
    data = text_graph(dim=2)
    at %= len(data)
    agreed(data[:at] + put + data[at + cut :])


LOCATION = 14  # TensorProto.data_location


def padded(number: int, wire: int) -> bytes:
    return varint(number << 3 | wire, 1)


def twice(number: int, body: bytes) -> bytes:
    return held(number, body) * 2


MISREAD = [
    pytest.param("TensorProto", padded(LOCATION, 0) + b"\x01", "shortest", id="padded tag"),
    pytest.param("TensorProto", tag(LOCATION, 0) + b"\x81\x00", "shortest", id="padded number"),
    pytest.param("TensorProto", tag(8, 2) + b"\x81\x00a", "shortest", id="padded length"),
    pytest.param("TensorProto", tag(LOCATION, 0) + varint(2), "no DataLocation", id="unknown enum"),
    pytest.param(
        "TensorProto", tag(LOCATION, 0) + varint(2**32 + 1), "no DataLocation", id="cut enum"
    ),
    pytest.param("TensorProto", tag(2, 0) + varint(2**32 + 1), "no int32", id="cut int32"),
    pytest.param("TensorProto", held(1, b"\x81\x00"), "too long", id="padded in a run"),
    pytest.param("TensorProto", held(5, varint(2**40)), "no int32", id="cut in a run"),
    pytest.param("TensorProto", held(7, b"\xff" * 9 + b"\x02"), "too long", id="65 bits in a run"),
    pytest.param("TensorProto", twice(8, b"a"), "and name before it", id="last name wins"),
    pytest.param("ModelProto", twice(7, b""), "and graph before it", id="merged graphs"),
    pytest.param(
        "TypeProto", held(1, b"") + held(4, b""), "and tensor_type before it", id="two of a oneof"
    ),
    pytest.param("NodeProto", held(99, b"x"), "which ONNX does not know", id="unknown field"),
    pytest.param("NodeProto", tag(4, 3) + tag(4, 4), "wire type 3", id="group"),
    pytest.param("NodeProto", tag(99, 3) + tag(99, 4), "does not know", id="unknown group"),
    pytest.param("NodeProto", tag(7, 0) + b"\x05", "wire type 0 and not 2", id="wrong wire type"),
    pytest.param("NodeProto", held(4, b"Add\xff"), "not UTF-8", id="no UTF-8"),
    pytest.param("TypeProto", nested(MAX_DEPTH), "deep", id="deep"),
]
"""Bytes that protobuf takes, a rule of its own for each, and what attar says of them."""


@pytest.mark.parametrize(("name", "data", "message"), MISREAD)
def test_what_needs_a_rule_of_protobufs_is_refused(name: str, data: bytes, message: str) -> None:
    proto_of(data, name)
    with pytest.raises(ValueError, match=message):
        read(data, name)


CUT = [
    pytest.param(b"\x00", "does not know", id="field 0"),
    pytest.param(tag(4, 6), "wire type 6", id="wire type 6"),
    pytest.param(tag(4, 4), "wire type 4", id="end of a group"),
    pytest.param(b"\xff" * 11, "does not end", id="endless number"),
    pytest.param(tag(1, 2) + varint(2**63), "past the end", id="length of 64 bits"),
    pytest.param(held(4, b"Add")[:-1], "past the end", id="cut text"),
    pytest.param(held(5, held(7, b"abcde")), "cut within a number", id="cut run"),
    pytest.param(held(5, held(8, b"\x80")), "does not end", id="cut number in a run"),
    # ONNX Runtime's protobuf cuts the next two to 32 bits: benchmarks/attacks/graphs.py.
    pytest.param(varint((7 << 3 | 2) | 1 << 32) + b"\x00", "of tag", id="a tag with bit 32"),
    pytest.param(varint((7 << 3 | 2) | 1 << 35) + b"\x00", "of tag", id="a tag with bit 35"),
]
"""Bytes that Python's protobuf refuses as a NodeProto."""


@pytest.mark.parametrize(("data", "message"), CUT)
def test_what_is_no_protobuf_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(DecodeError):
        proto_of(data, "NodeProto")
    with pytest.raises(ValueError, match=message):
        read(data, "NodeProto")


def test_as_many_fields_are_read_as_the_limit_says_and_not_one_more() -> None:
    field = held(3, b"")
    inputs = held(1, b"") * (MAX_FIELDS - 1)
    assert len(read(inputs + field, "NodeProto").each("input")) == MAX_FIELDS - 1
    with pytest.raises(ValueError, match=f"more than {MAX_FIELDS} fields"):
        read(inputs + field + held(4, b"Add"), "NodeProto")


def test_a_run_of_numbers_is_one_field() -> None:
    tensor = helper.make_tensor("t", TensorProto.INT64, [1000], [-1, 2**62] * 500)
    message = read(tensor.SerializeToString(), "TensorProto")
    assert message.numbers("int64_data", most=1000) == [-1, 2**62] * 500
    assert len(message.each("int64_data")) == 1


@pytest.mark.parametrize("last", [b"\x01", b"\xff", b"\x80\x00"], ids=["sound", "cut", "misspelt"])
def test_a_long_run_is_read_to_its_end_in_parts_and_counted(last: bytes) -> None:
    run = b"\xe8\x07" * 700_000 + last  # 1000, and more bytes than are looked at together
    if last != b"\x01":
        with pytest.raises(ValueError, match=r"does not end|too long"):
            read(held(7, run), "TensorProto")
        return
    message = read(held(7, run), "TensorProto")
    assert message.count("int64_data") == 700_001
    with pytest.raises(ValueError, match="has 700001 int64_data; limit 64"):
        message.numbers("int64_data", most=64)


def test_a_text_is_as_long_as_the_limit_says_and_not_longer() -> None:
    assert len(read(held(3, b"a" * MAX_TEXT_BYTES), "NodeProto").get("name")) == MAX_TEXT_BYTES
    with pytest.raises(ValueError, match="has more than 1048576 bytes"):
        read(held(3, b"a" * (MAX_TEXT_BYTES + 1)), "NodeProto")
