"""Requests that stand at a limit, and that go one beyond it, over each protocol that has it.

The one list; tests/hostile/test_limits.py sends both of each row to a real server. The first is
answered, the second refused by the limit's name and value. `ELSEWHERE` says which test stands at a
limit that no single request meets.
"""

import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal

import grpc
import httpx
import numpy as np
from google.protobuf.message import Message
from tritonclient.grpc import service_pb2 as pb

from attar import Client, wire
from attar.v1 import anomaly_pb2 as ano
from attar.v1 import classification_pb2 as cla
from attar.v1 import embedding_pb2 as emb
from attar.v1 import item_pb2 as itm

from ..support.bundles import VOCABULARY, tiny_bundle, tiny_tensor_bundle
from ..support.servers import free_port, serving, settings

Protocol = Literal["attar.v1", "stream", "kserve grpc", "kserve rest", "openai"]
PROTOCOLS: Final[tuple[Protocol, ...]] = (
    "attar.v1",
    "stream",
    "kserve grpc",
    "kserve rest",
    "openai",
)
MAX_LENGTH: Final = 70
TEXT: Final = "/v2/models/tiny/infer"
IMAGE: Final = "/v2/models/tiny-image/infer"
PIXELS: Final = np.full((8, 8), 0.5, np.float32)
_TENSOR: Final = {
    "name": "image",
    "datatype": "FP32",
    "shape": [1, 1, 8, 8],
    "data": PIXELS.reshape(-1).tolist(),
}

VALUES: Final[Mapping[str, int]] = {
    "max_items": 20,
    "max_item_bytes": 300,
    "max_message_bytes": 8192,
    "max_answer_bytes": 1024,
    "max_json_values": 80,
    "max_labels": 3,
    "max_name_characters": 12,
}
ELSEWHERE: Final[Mapping[str, str]] = {
    "max_batch_tokens": "server/engine/test_batcher.py:"
    "test_a_batch_has_the_oldest_stays_in_its_budget_and_pads_a_tenth_of_it",
    "max_queue_items": "server/engine/test_batcher.py:"
    "test_a_full_queue_refuses_and_a_leaver_makes_room",
    "max_queue_tokens": "server/engine/test_batcher.py:"
    "test_a_full_queue_refuses_and_a_leaver_makes_room",
    "max_concurrent_requests": "server/test_server.py:"
    "test_calls_beyond_the_limit_are_refused_before_any_work",
    "max_stream_requests": "server/rpc/test_stream.py:"
    "test_a_stream_works_on_so_many_requests_at_a_time",
    "max_search_limit": "attacks/test_collections_limits.py:"
    "test_a_limit_takes_what_stands_at_it_and_refuses_one_more",
    **dict.fromkeys(
        ("max_streams", "max_untaken_bytes"),
        "server/limits/test_fair_shares.py:test_a_caller_takes_more_exactly_while_it_has_no_more_than_is_free",
    ),
    "max_fit_bytes": "attacks/test_collections_limits.py:"
    "test_a_detector_is_fitted_on_no_more_vectors_than_memory_is_for",
    "max_heads_bytes": "server/usecases/test_fits.py:"
    "test_heads_of_both_kinds_have_so_many_bytes_together_and_no_more",
    "max_heads": "server/usecases/test_fits.py:"
    "test_a_server_keeps_so_many_heads_of_a_kind_and_no_more",
    "max_connection_streams": "attacks/test_held.py:test_what_one_caller_holds_is_bounded_and_ends",
    "max_http_connections": "server/rest/test_http.py:"
    "test_connections_beyond_the_limit_get_503_and_are_closed",
    "max_working_bytes": "server/limits/test_working_memory.py:"
    "test_calls_hold_so_much_together_and_no_more",
    "max_collections": "client/test_collections_calls.py:test_there_are_only_so_many_collections",
    **dict.fromkeys(
        (
            "max_payload_bytes",
            "max_filter_bytes",
            "max_filter_values",
            "max_search_hits",
            "max_payload_values",
            "max_payload_key_bytes",
        ),
        "attacks/test_collections_limits.py:"
        "test_a_limit_takes_what_stands_at_it_and_refuses_one_more",
    ),
}
"""Limits that no single request meets, or of another table, and the test that stands at each."""


@dataclass(frozen=True, slots=True)
class World:
    """A server whose limits are VALUES."""

    channel: grpc.Channel
    web: httpx.Client

    def call(self, rpc: str, request: Message | bytes, answer: Any) -> tuple[str, Any]:
        """Give what the call was refused with, or "" and its answer."""
        raw = request if isinstance(request, bytes) else request.SerializeToString()
        try:
            if rpc.endswith("Stream"):
                stream: Any = self.channel.stream_stream(f"/{rpc}", None, answer.FromString)
                (found,) = stream(iter([raw]), timeout=20)
            else:
                unary: Any = self.channel.unary_unary(f"/{rpc}", None, answer.FromString)
                found = unary(raw, timeout=20)
        except grpc.RpcError as refused:
            error: Any = refused
            return error.details(), None
        return "", found

    def embed(self, request: Message | bytes, *, stream: bool = False) -> str:
        """Send an EmbedRequest; gives what it, or its first bad item, was refused with."""
        rpc = f"attar.v1.Embedding/Embed{'Stream' * stream}"
        refused, answer = self.call(rpc, request, emb.EmbedResponse)
        if refused:
            return refused
        errors = (item.error.message for item in answer.items if item.HasField("error"))
        return answer.error.message or next(errors, "")

    def infer(self, request: Message | bytes) -> str:
        """Send a ModelInferRequest."""
        rpc = "inference.GRPCInferenceService/ModelInfer"
        return self.call(rpc, request, pb.ModelInferResponse)[0]

    def post(self, path: str, body: Mapping[str, Any] | bytes, **headers: str) -> str:
        """Post JSON or bytes."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = {"content-type": "application/json"}
        answer = self.web.post(path, content=raw, headers={**kind, **headers}, timeout=20)
        if answer.status_code == 200:
            return ""
        error = answer.json()["error"]
        return str(error["message"] if isinstance(error, dict) else error)

    def texts(self, protocol: Protocol, texts: Sequence[str]) -> str:
        """Embed texts in eight dimensions, in the smallest answer that the protocol has."""
        match protocol:
            case "attar.v1" | "stream":
                request = embed_request(texts, dims=8)
                return self.embed(request, stream=protocol == "stream")
            case "kserve grpc":
                return self.infer(infer_request(texts))
            case "kserve rest":
                return self.post(TEXT, rest(texts))
            case "openai":
                body = {"model": "tiny", "input": list(texts), "truncate": True}
                small = {"dimensions": 8, "encoding_format": "base64"}
                return self.post("/v1/embeddings", {**body, **small})


def embed_request(texts: Sequence[str], **fields: Any) -> emb.EmbedRequest:
    return emb.EmbedRequest(model="tiny", texts=itm.Texts(values=texts), **fields)


def infer_request(
    texts: Sequence[str], *, dims: int = 8, status: bool = True, **fields: Any
) -> pb.ModelInferRequest:
    """A request for the embedding and, which fails no call for one item's sake, the status."""
    encoded = [one.encode() for one in texts]
    tensor = pb.ModelInferRequest.InferInputTensor(
        name="text", datatype="BYTES", shape=[len(texts)]
    )
    kind = pb.ModelInferRequest.InferRequestedOutputTensor
    names = ("embedding", "status") if status else ("embedding",)
    return pb.ModelInferRequest(
        model_name="tiny",
        inputs=[tensor],
        raw_input_contents=[b"".join(struct.pack("<I", len(one)) + one for one in encoded)],
        outputs=[kind(name=name) for name in names],
        parameters={"dimensions": pb.InferParameter(int64_param=dims)},
        **fields,
    )


def rest(texts: Sequence[str], *, dims: int = 8, binary: bool = True, **fields: Any) -> Any:
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": list(texts)}
    outputs = [{"name": "embedding", "parameters": {"binary_data": binary}}]
    return {
        "inputs": [tensor],
        "outputs": outputs,
        "parameters": {"dimensions": dims},
        **fields,
    }


def padded(raw: bytes, size: int) -> bytes:
    """A message with a field that nobody knows, so that it has `size` bytes."""
    left = size - len(raw) - 4  # a tag and a length of two bytes each
    return raw + b"\xfa\x7f" + bytes((left % 128 + 128, left // 128)) + bytes(left)


def texts_of(size: int) -> list[str]:
    """One text of so many bytes, in half as many characters."""
    return ["é" * (size // 2) + "a" * (size % 2)]


def own_ids(length: int) -> list[int]:
    """Ids as the tiny tokenizer makes them of a text."""
    cat = VOCABULARY.index("cat")
    begin, end = VOCABULARY.index("[CLS]"), VOCABULARY.index("[SEP]")
    return [begin, *[cat] * (length - 2), end]


def ids_request(*lengths: int, claimed: Sequence[int] | None = None) -> emb.EmbedRequest:
    ids = [one for length in lengths for one in own_ids(length)]
    return emb.EmbedRequest(model="tiny", tokens=itm.Tokens(ids=ids, lengths=claimed or lengths))


_NAMES: Final = count()


def fit(world: World, labels: Sequence[str]) -> str:
    """Fit a classifier of a new name on an item for each label."""
    request = cla.FitClassifierRequest(
        name=f"c{next(_NAMES)}",
        model="tiny",
        texts=itm.Texts(values=[f"the cat {i}" for i, _ in enumerate(labels)]),
        labels=labels,
    )
    return world.call("attar.v1.Classification/Fit", request, cla.ClassifierInfo)[0]


def detect(world: World, texts: Sequence[str]) -> str:
    """Fit a detector of a new name."""
    request = ano.FitDetectorRequest(
        name=f"d{next(_NAMES)}",
        model="tiny",
        texts=itm.Texts(values=texts),
        neighbours=1,
        target_fpr=0.5,
    )
    return world.call("attar.v1.Anomaly/Fit", request, ano.DetectorInfo)[0]


def score(world: World, texts: Sequence[str]) -> str:
    """Score texts; gives what the call, or its first bad item, was refused with."""
    request = ano.ScoreRequest(name="normal", texts=itm.Texts(values=texts))
    return _first(world.call("attar.v1.Anomaly/Score", request, ano.ScoreResponse))


def predict(world: World, texts: Sequence[str]) -> str:
    """Classify texts; gives what the call, or its first bad item, was refused with."""
    request = cla.PredictRequest(name="topics", texts=itm.Texts(values=texts))
    return _first(world.call("attar.v1.Classification/Predict", request, cla.PredictResponse))


def _first(outcome: tuple[str, Any]) -> str:
    refused, answer = outcome
    items = answer.items if answer is not None else ()
    return refused or next((one.error.message for one in items if one.HasField("error")), "")


def array(world: World, item_size: int) -> str:
    """Embed an image whose numbers have so many bytes."""
    pixels = PIXELS.astype(f"f{item_size}").reshape(1, 1, 8, 8)
    return world.embed(emb.EmbedRequest(model="tiny-image", tensor=wire.to_tensor(pixels)))


def message(world: World, protocol: Protocol, size: int) -> str:
    """Send a request of so many bytes, filled with what nobody reads."""
    match protocol:
        case "attar.v1" | "stream":
            raw = padded(embed_request(["cat"]).SerializeToString(), size)
            return world.embed(raw, stream=protocol == "stream")
        case "kserve grpc":
            return world.infer(padded(infer_request(["cat"]).SerializeToString(), size))
        case "kserve rest":
            return world.post(TEXT, json.dumps(rest(["cat"])).encode().ljust(size))
        case "openai":
            body = {"model": "tiny", "input": "cat", "encoding_format": "base64"}
            return world.post("/v1/embeddings", json.dumps(body).encode().ljust(size))


def named(world: World, protocol: Protocol, size: int) -> str:
    """Send an id of so many characters, which the answer repeats."""
    match protocol:
        case "attar.v1" | "stream":
            return world.embed(embed_request(["cat"], id="é" * size), stream=protocol == "stream")
        case "kserve grpc":
            return world.infer(infer_request(["cat"], id="é" * size))
        case _:
            return world.post(TEXT, rest(["cat"], id="é" * size))


def embed_size(world: World, form: str, items: int) -> str:
    """Ask for so many rows of 16 numbers in a form of the answer."""
    texts = ["cat"] * items
    body = {"model": "tiny", "input": texts}
    match form:
        case "attar.v1":
            return world.embed(embed_request(texts))
        case "stream":
            return world.embed(embed_request(texts), stream=True)
        case "kserve grpc":
            return world.infer(infer_request(texts, dims=16))
        case "kserve rest, bytes":
            return world.post(TEXT, rest(texts, dims=16))
        case "kserve rest, json":
            return world.post(TEXT, rest(texts, dims=16, binary=False))
        case "openai, base64":
            return world.post("/v1/embeddings", {**body, "encoding_format": "base64"})
        case _:
            return world.post("/v1/embeddings", body)


def tokens_size(world: World, count: int) -> str:
    """Ask for so many token vectors of 16 numbers, in an answer of a quarter of their bytes."""
    request = emb.EmbedTokensRequest(
        model="tiny",
        tokens=itm.Tokens(ids=own_ids(count), lengths=[count]),
        encoding=emb.ENCODING_INT8,
    )
    rpc = "attar.v1.Embedding/EmbedTokens"
    return _first(world.call(rpc, request, emb.EmbedTokensResponse))


def json_ids(world: World, size: int) -> str:
    """Send token ids in a body of so many values: six besides the ids of two items."""
    body = {
        "model": "tiny",
        "encoding_format": "base64",
        "input": [own_ids(30), own_ids(size - 6 - 30)],
    }
    return world.post("/v1/embeddings", body)


def json_tensor(world: World, size: int) -> str:
    """Send an image in a body of so many values; it has 79 and those of its outputs."""
    outputs = [{"name": "embedding"}][: size - 80]
    body = {"inputs": [_TENSOR], "parameters": {}, "id": "", "outputs": outputs}
    return world.post(IMAGE, body)


def ids(world: World, protocol: Protocol, length: int) -> str:
    """Embed one item of so many token ids."""
    if protocol == "openai":
        body = {"model": "tiny", "input": own_ids(length), "encoding_format": "base64"}
        return world.post("/v1/embeddings", body)
    tokens = itm.Tokens(ids=own_ids(length), lengths=[length])
    return world.embed(emb.EmbedRequest(model="tiny", tokens=tokens), stream=protocol == "stream")


@dataclass(frozen=True, slots=True)
class Row:
    """A limit over one protocol.

    `send` is given a number, `at` the limit or 1 more, or `beyond`; it gives what the request was
    refused with, "" where it was answered. A refusal has the limit's value, and `refusal` where not
    its name.
    """

    limit: str
    name: str
    send: Callable[[World, int], str]
    at: int
    beyond: int
    refusal: str

    def __str__(self) -> str:
        return f"{self.limit}, {self.name}"


def row(
    limit: str,
    name: str,
    send: Callable[[World, int], str],
    *,
    at: int | None = None,
    beyond: int | None = None,
    refusal: str | None = None,
) -> Row:
    stands = VALUES[limit] if at is None else at
    return Row(
        limit, name, send, stands, beyond or stands + 1, limit if refusal is None else refusal
    )


def to(send: Callable[[World, Any, int], str], which: object) -> Callable[[World, int], str]:
    """Give `send` with what it sends to."""
    return lambda world, size: send(world, which, size)


def over(
    limit: str,
    send: Callable[[World, Any, int], str],
    protocols: Sequence[Protocol] = PROTOCOLS,
    **changes: Any,
) -> Iterator[Row]:
    """A row over each protocol."""
    for one in protocols:
        yield row(limit, one, to(send, one), **changes)


_GRPC: Final[tuple[Protocol, ...]] = ("attar.v1", "stream", "kserve grpc")
_IDS: Final[tuple[Protocol, ...]] = ("attar.v1", "stream", "openai")
_HTTP: Final[tuple[Protocol, ...]] = ("kserve rest", "openai")


def called(world: World, rpc: str, items: int) -> str:
    """Call with so many items."""
    return _CALLS[rpc](world, ["a", "b", *["c"] * (items - 2)])


def called_with(world: World, rpc: str, size: int) -> str:
    """Call with an item of so many bytes."""
    return _CALLS[rpc](world, texts_of(size))


_CALLS: Final[Mapping[str, Callable[[World, Sequence[str]], str]]] = {
    "Anomaly/Fit": detect,
    "Anomaly/Score": score,
    "Classification/Fit": lambda world, texts: fit(world, ["a", "b", *["a"] * (len(texts) - 2)]),
    "Classification/Predict": predict,
}
ROWS: Final = (
    *over("max_items", lambda world, which, size: world.texts(which, ["cat"] * size)),
    *(row("max_items", call, to(called, call)) for call in _CALLS),
    *over("max_item_bytes", lambda world, which, size: world.texts(which, texts_of(size))),
    row("max_item_bytes", "an array", array, at=4, beyond=8),
    row("max_item_bytes", "Anomaly/Score", to(called_with, "Anomaly/Score")),
    row("max_item_bytes", "Classification/Predict", to(called_with, "Classification/Predict")),
    *over("max_message_bytes", message, _GRPC, refusal="larger than max"),  # of gRPC itself
    *over("max_message_bytes", message, _HTTP),
    *(
        row("max_answer_bytes", form, to(embed_size, form), at=at)
        for form, at in {
            "attar.v1": 16,  # rows of 64 bytes
            "stream": 16,
            "kserve grpc": 16,
            "kserve rest, bytes": 16,
            "kserve rest, json": 2,  # of 16 numbers of 24 bytes
            "openai, base64": 11,  # of 88 bytes
            "openai, json": 2,
        }.items()
    ),
    row("max_answer_bytes", "EmbedTokens, in float32 whatever the encoding", tokens_size, at=16),
    row("max_json_values", "openai", json_ids),
    row("max_json_values", "kserve rest", json_tensor),
    row("max_labels", "Classification/Fit", lambda world, size: fit(world, list("abcd")[:size])),
    *over("max_name_characters", named, (*_GRPC, "kserve rest")),
    row("max_name_characters", "a label", lambda world, size: fit(world, ["é" * size, "b"])),
    *over("max_length", ids, _IDS, at=MAX_LENGTH, refusal="the encoder takes"),
)


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """Serve a text and an image model within VALUES, a detector and a classifier of the first."""
    text = tiny_bundle(folder / "tiny.attar", dims=(8, 16), max_length=MAX_LENGTH, tokens=True)
    image = tiny_tensor_bundle(folder / "image.attar")
    port = free_port()
    chosen = settings(text, image, data_dir=folder / "data", http_port=port, **VALUES)
    with (
        serving(chosen) as target,
        grpc.insecure_channel(target) as channel,
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as web,
    ):
        with Client(target) as client:
            client.fit_anomaly(
                "normal",
                neighbours=1,
                target_fpr=0.5,
                items=[f"the cat {i}" for i in range(20)],
                model="tiny",
            )
            client.fit_classifier("topics", ["cat", "sun"], ["animal", "sky"], model="tiny")
        yield World(channel, web)
