"""A message read in steps is the message read whole, and no step is long."""

import re
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from attar import wire
from attar.errors import InvalidInput
from attar.server import cooperative
from attar.server.errors import Violation
from attar.server.rpc import incremental_protobuf
from attar.v1 import collections_pb2, embedding_pb2, item_pb2

LONG = cooperative.STEP_BYTES
LIMITS = {"max_filter_bytes": 2**18, "max_payload_bytes": 2**16}


def payload(size: int) -> Struct:
    """A payload of about so many bytes, in many short values."""
    return wire.to_struct({"values": [None] * (size // 4), "more": {"text": "a" * 40}})


def triton(values: int) -> Any:
    request = service_pb2.ModelInferRequest(model_name="tiny", id="7")
    for name in ("one", "two"):
        tensor = request.inputs.add(name=name, datatype="FP32", shape=[values])
        tensor.contents.fp32_contents.extend(np.arange(values, dtype=np.float32).tolist())
        tensor.contents.int64_contents.extend(range(0, values * 1000, 1000))
    request.parameters["role"].string_param = "query" * 9000
    request.raw_input_contents.append(b"\xff" * LONG * 3)
    return request


WHOLE: dict[str, Message] = {
    "many texts": embedding_pb2.EmbedRequest(
        model="tiny",
        id="9",
        role=item_pb2.ROLE_QUERY,
        texts=item_pb2.Texts(values=["word " * 40] * 2000),
    ),
    "one long text": embedding_pb2.EmbedRequest(texts=item_pb2.Texts(values=["é" * LONG * 2])),
    "token ids": embedding_pb2.EmbedRequest(
        tokens=item_pb2.Tokens(ids=[*range(2**17)], lengths=[2**7] * 2**10)
    ),
    "an array": embedding_pb2.EmbedRequest(
        tensor=wire.to_tensor(np.zeros((64, 32, 32), np.float32))
    ),
    "payloads": collections_pb2.UpsertRequest(
        collection="notes",
        ids=[wire.to_id(n) for n in range(5000)],
        payloads=[payload(size) for size in (40, 60_000, 40, 40_000, 200)],
        vectors=wire.to_tensor(np.ones((9, 4), np.float32)),
    ),
    "searches": collections_pb2.SearchBatchRequest(
        searches=[
            collections_pb2.SearchRequest(
                collection="notes",
                texts=item_pb2.Texts(values=["the cat"] * 9000),
                filter=payload(9000),
            )
        ]
        * 3
    ),
    "tensors": triton(30_000),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_long_message_is_read_as_it_is_read_whole(name: str) -> None:
    data = WHOLE[name].SerializeToString()
    assert len(data) > cooperative.SMALL_BYTES
    assert incremental_protobuf.read(type(WHOLE[name]), data, limits=LIMITS) == WHOLE[name]


@settings(max_examples=20)
@given(
    texts=st.lists(st.text(max_size=20)),
    ids=st.lists(st.integers(0, 2**32 - 1)),
    lengths=st.lists(st.integers(0, 2**32 - 1)),
    tail=st.binary(max_size=20),
)
def test_the_last_of_one_choice_wins_and_garbage_is_refused_as_by_protobuf(
    texts: list[str], ids: list[int], lengths: list[int], tail: bytes
) -> None:
    # A caller may send a choice in pieces, with another one between them.
    some = embedding_pb2.EmbedRequest(texts=item_pb2.Texts(values=["x" * 60] * 700 + texts))
    other = embedding_pb2.EmbedRequest(tokens=item_pb2.Tokens(ids=ids * 500, lengths=lengths))
    parts = [one.SerializeToString() for one in (some, other, some, other, some, some)]
    data = b"".join(parts) + tail
    try:
        whole = embedding_pb2.EmbedRequest.FromString(data)
    except Exception:
        with pytest.raises(InvalidInput, match="is not the protobuf that this call takes"):
            incremental_protobuf.read(embedding_pb2.EmbedRequest, data, limits=LIMITS)
    else:
        assert incremental_protobuf.read(embedding_pb2.EmbedRequest, data, limits=LIMITS) == whole


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            collections_pb2.CountRequest(filter=payload(300_000)),
            r"filter has 3\d{5} bytes, more than max_filter_bytes, 262144",
        ),
        (
            collections_pb2.UpsertRequest(payloads=[payload(40), payload(70_000)]),
            r"payloads\[1\] has 7\d{4} bytes, more than max_payload_bytes, 65536",
        ),
    ],
    ids=["filter", "payload"],
)
def test_json_that_protobuf_would_read_for_long_is_refused_before(
    request_: Message, message: str
) -> None:
    with pytest.raises(Violation) as refused:
        incremental_protobuf.read(type(request_), request_.SerializeToString(), limits=LIMITS)
    assert re.search(message, str(refused.value.error))


@pytest.mark.parametrize(
    "name", [name for name in WHOLE if name not in ("one long text", "an array")]
)
def test_others_run_again_and_again_while_a_long_message_is_read(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments: list[None] = []
    monkeypatch.setattr(incremental_protobuf, "give_way", lambda: moments.append(None))
    data = WHOLE[name].SerializeToString()
    incremental_protobuf.read(type(WHOLE[name]), data, limits=LIMITS)
    bytes_apart = LONG * 4  # one entry of a map is read whole, and bytes are only copied
    assert len(moments) > len(data) / bytes_apart


def test_parts_of_an_answer_are_one_answer() -> None:
    hits = [
        collections_pb2.Hits(hits=[collections_pb2.Hit(id=wire.to_id(n), payload=payload(99))] * n)
        for n in range(40)
    ]
    whole = collections_pb2.SearchResponse(fingerprint="sha256:1", results=hits)
    kind = collections_pb2.SearchResponse
    rest = (incremental_protobuf.nested(kind, "results", _in_parts(one)) for one in hits)
    data = incremental_protobuf.written([kind(fingerprint="sha256:1"), *rest])
    assert kind.FromString(data) == whole


def _in_parts(hits: collections_pb2.Hits) -> list[Message]:
    return [collections_pb2.Hits(hits=[hit]) for hit in hits.hits]
