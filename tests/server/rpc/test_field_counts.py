"""The fields of a message are counted in its bytes, as many as protobuf reads of them."""

from typing import Any

import pytest
from google.protobuf.internal.encoder import _VarintBytes  # type: ignore[attr-defined]
from google.protobuf.message import DecodeError, Message
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from attar import wire
from attar.errors import InvalidInput
from attar.server.errors import Violation
from attar.server.rpc import field_counts
from attar.v1 import classification_pb2, collections_pb2, embedding_pb2, item_pb2

BYTES = {"max_filter_bytes": 2**18, "max_payload_bytes": 2**16}
LIMITS: dict[str, Any] = {"max_payload_values": 2**17, "limits": BYTES}
TEXTS = st.lists(st.text(max_size=200), max_size=12)


def members(message: Message, *, of_json: bool = False) -> int:
    """Count what protobuf has read, or what is inside of its JSON; packed numbers are one part."""
    found = 0
    if of_json and message.DESCRIPTOR.full_name == wire_struct():
        return inside(message)
    for field, value in message.ListFields():
        if field.message_type and field.message_type.GetOptions().map_entry:
            found += sum(3 if isinstance(one, Message) else 2 for one in value.values())
            found += sum(len(value[key].ListFields()) for key in value)
            continue
        packed = field.is_repeated and field.is_packed
        for one in [value] if packed or not field.is_repeated else value:
            looked_into = isinstance(one, Message) and (
                of_json or one.DESCRIPTOR.full_name != wire_struct()
            )
            found += (not of_json) + (members(one, of_json=of_json) if looked_into else 0)
    return found


def inside(message: Any) -> int:
    """Count the members of a Struct, a Value or a ListValue that are written."""
    match message.DESCRIPTOR.name:
        case "Struct":
            return sum(3 + inside(value) for value in message.fields.values())
        case "ListValue":
            return sum(1 + inside(value) for value in message.values)
    kind = message.WhichOneof("kind")
    if kind is None:
        return 0
    value = getattr(message, kind)
    return 1 + (inside(value) if isinstance(value, Message) else 0)


def wire_struct() -> str:
    return "google.protobuf.Struct"


@given(texts=TEXTS, ids=st.lists(st.integers(0, 2**32 - 1), max_size=20), numbers=st.integers(0, 9))
def test_parts_are_those_that_protobuf_reads(
    texts: list[str], ids: list[int], numbers: int
) -> None:
    messages: list[Message] = [
        embedding_pb2.EmbedRequest(model="m", texts=item_pb2.Texts(values=texts), dims=8),
        embedding_pb2.EmbedRequest(tokens=item_pb2.Tokens(ids=ids, lengths=ids)),
        classification_pb2.FitClassifierRequest(labels=texts, texts=item_pb2.Texts(values=texts)),
        collections_pb2.UpsertRequest(
            ids=[collections_pb2.PointId(number=one) for one in ids],
            payloads=[wire.to_struct({"a": [1, 2, {"b": text, "c": []}]}) for text in texts],
        ),
        pb.ModelInferRequest(
            inputs=[pb.ModelInferRequest.InferInputTensor(name=text, shape=ids) for text in texts],
            raw_input_contents=[b"abc"] * numbers,
        ),
    ]
    for message in messages:
        raw = message.SerializeToString()
        expected = members(message)

        in_json = members(message, of_json=True)
        assert field_counts.count(type(message), raw, limit=expected, **LIMITS) == (
            expected,
            in_json,
        )
        if expected:
            with pytest.raises(InvalidInput, match="more than"):
                field_counts.count(type(message), raw, limit=expected - 1, **LIMITS)


@given(raw=st.binary(max_size=60))
def test_what_protobuf_reads_is_counted(raw: bytes) -> None:
    kind: Any = embedding_pb2.EmbedRequest
    try:
        read = kind.FromString(raw)
    except DecodeError:
        return
    try:
        found = field_counts.count(kind, raw, limit=1000, **LIMITS)
    except field_counts.Malformed:  # groups, which no message of ours has
        return

    assert found.own >= len(read.texts.values)


@pytest.mark.parametrize(
    "raw",
    [b"\x0a", b"\x0a\x05abc", b"\x0b", b"\x00\x01", b"\x80" * 11, b"\x09\x01", _VarintBytes(2**35)],
)
def test_what_is_no_message_is_refused(raw: bytes) -> None:
    with pytest.raises(field_counts.Malformed):
        field_counts.count(embedding_pb2.EmbedRequest, raw, limit=9, **LIMITS)


@given(raw=st.binary(max_size=40), cut=st.integers(0, 9))
def test_json_that_protobuf_reads_is_counted(raw: bytes, cut: int) -> None:
    made = wire.to_struct({"a": [None, 1.5, [], {}, {"b": True}, raw.hex()], "c": {"d": [{}]}})
    whole = made.SerializeToString()
    for data in (raw, whole[: len(whole) - cut], whole[:cut] + raw + whole[cut:]):
        kind = collections_pb2.UpsertRequest
        message = b"\x32" + _VarintBytes(len(data)) + data
        try:
            (read,) = kind.FromString(message).payloads
        except DecodeError:
            continue
        try:
            found = field_counts.count(kind, message, limit=9, **LIMITS)
        except field_counts.Malformed:
            continue
        assert found.json >= inside(read)


def test_a_message_of_many_empty_texts_is_refused_after_the_limit() -> None:
    raw = embedding_pb2.EmbedRequest(texts=item_pb2.Texts(values=[""] * 10**6)).SerializeToString()

    with pytest.raises(InvalidInput, match="has more than 33024 fields"):
        field_counts.count(embedding_pb2.EmbedRequest, raw, limit=field_counts.most(2048), **LIMITS)


VALUES: dict[str, Struct] = {
    "numbers": wire.to_struct({"a": list(range(100))}),
    "texts of keys": wire.to_struct({str(i): "" for i in range(100)}),
    "empty lists": wire.to_struct({"a": [[]] * 100}),
}


@pytest.mark.parametrize("payload", VALUES.values(), ids=VALUES)
def test_payloads_of_as_many_values_as_there_may_be_are_no_more(payload: Struct) -> None:
    raw = collections_pb2.UpsertRequest(payloads=[payload] * 9).SerializeToString()
    kind = collections_pb2.UpsertRequest

    assert field_counts.count(kind, raw, limit=9, max_payload_values=9 * 101, limits=BYTES).own == 9
    with pytest.raises(InvalidInput, match="more values than max_payload_values, 200; send sev"):
        field_counts.count(kind, raw, limit=9, max_payload_values=200, limits=BYTES)


def test_a_filter_that_is_too_long_is_not_looked_into() -> None:
    long = collections_pb2.CountRequest(collection="docs")
    long.filter.update({"key": ["a"] * 2**16})
    raw = long.SerializeToString()[:-1] + b"\xff"  # inside of it is no message
    batch = collections_pb2.SearchBatchRequest(
        searches=[collections_pb2.SearchRequest(filter=long.filter)]
    )
    for kind, message in ((type(long), raw), (type(batch), batch.SerializeToString())):
        with pytest.raises(
            Violation, match=r"filter has 32\d{4} bytes, more than max_filter_bytes"
        ):
            field_counts.count(kind, message, limit=99, **LIMITS)
