"""Attacks on the event loop: the worst requests that are legal, and the port that tells of it.

`LONGEST` has one request of each kind on each protocol, as large as its limits let it be. A test
counts what each costs the loop; the rows of ATTACKS send it to a server of its own and look at an
honest caller.
"""

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

import grpc
import httpx
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from attar import wire
from attar.v1 import (
    anomaly_pb2,
    anomaly_pb2_grpc,
    classification_pb2,
    classification_pb2_grpc,
    collections_pb2,
    collections_pb2_grpc,
    embedding_pb2,
    embedding_pb2_grpc,
    item_pb2,
)

from ..support.bundles import WORDS
from .ground import Attack, Outcome, attacked

ITEMS: Final = 2048
DEADLINE_S: Final = 120.0
HANG_MS: Final = 5000.0  # nothing that waits for its turn on a busy machine waits so long
_IN_16_MIB: Final = 5_500_000  # numbers of JSON, and texts of no letter


@dataclass(frozen=True)
class Served:
    """A server to send to."""

    target: str
    http_port: int

    @cached_property
    def channel(self) -> grpc.Channel:
        """One connection."""
        unlimited = [(f"grpc.max_{way}_message_length", -1) for way in ("send", "receive")]
        return grpc.insecure_channel(self.target, options=unlimited)

    def post(self, path: str, body: bytes, **headers: str) -> int:
        """Send a body by HTTP and give the status."""
        url = f"http://127.0.0.1:{self.http_port}{path}"
        sent = {"content-type": "application/json"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        return httpx.post(url, content=body, headers=sent, timeout=DEADLINE_S).status_code


@dataclass(frozen=True, slots=True)
class Longest:
    """A request by name; `send` sends it and says whether the answer was the right one.

    One that is `copied` is a gRPC message of some 16 MiB, which gRPC itself copies on the loop.
    """

    name: str
    send: Callable[[Served], bool]
    copied: bool = False


def _texts(length: int = 12) -> list[str]:
    draw = np.random.default_rng(0)
    return [" ".join(draw.choice(WORDS, length)) for _ in range(ITEMS)]


def _refused(call: Callable[[], object], code: str) -> bool:
    try:
        call()
    except grpc.RpcError as error:
        return bool(error.code().name == code)
    return False


def _embed(request: embedding_pb2.EmbedRequest, served: Served) -> bool:
    answer = embedding_pb2_grpc.EmbeddingStub(served.channel).Embed(request, timeout=DEADLINE_S)
    return len(answer.items) == ITEMS


def _embed_texts(served: Served) -> bool:
    return _embed(embedding_pb2.EmbedRequest(texts=item_pb2.Texts(values=_texts())), served)


def _embed_long_texts(served: Served) -> bool:
    texts = ["the cat sat " * 600] * ITEMS
    return _embed(embedding_pb2.EmbedRequest(texts=item_pb2.Texts(values=texts)), served)


def _embed_token_ids(served: Served) -> bool:
    item = [2, *[4, 5, 6] * 4, 3]  # [CLS] the cat sat ... [SEP]
    tokens = item_pb2.Tokens(ids=item * ITEMS, lengths=[len(item)] * ITEMS)
    return _embed(embedding_pb2.EmbedRequest(tokens=tokens), served)


def _embed_empty_texts(served: Served) -> bool:
    stub = embedding_pb2_grpc.EmbeddingStub(served.channel)
    texts = item_pb2.Texts(values=[""] * _IN_16_MIB)
    request = embedding_pb2.EmbedRequest(texts=texts)
    return _refused(lambda: stub.Embed(request, timeout=DEADLINE_S), "INVALID_ARGUMENT")


def _embed_stream(served: Served) -> bool:
    stub = embedding_pb2_grpc.EmbeddingStub(served.channel)
    request = embedding_pb2.EmbedRequest(texts=item_pb2.Texts(values=_texts()))
    answers = list(stub.EmbedStream(iter([request] * 3), timeout=DEADLINE_S))
    return [len(answer.items) for answer in answers] == [ITEMS] * 3


def _kserve(served: Served, *, raw: bool) -> bool:
    texts = [text.encode() for text in _texts()]
    request = service_pb2.ModelInferRequest(model_name="tiny")
    tensor = request.inputs.add(name="text", datatype="BYTES", shape=[ITEMS])
    if raw:
        sized = (len(text).to_bytes(4, "little") + text for text in texts)
        request.raw_input_contents.append(b"".join(sized))
    else:
        tensor.contents.bytes_contents.extend(texts)
    stub = service_pb2_grpc.GRPCInferenceServiceStub(served.channel)
    answer = stub.ModelInfer(request, timeout=DEADLINE_S)
    return bool(answer.outputs[0].shape[0] == ITEMS)


def _rest(served: Served, *, raw: bool) -> bool:
    tensor: dict[str, Any] = {"name": "text", "shape": [ITEMS], "datatype": "BYTES"}
    texts, behind = _texts(), b""
    if raw:
        behind = b"".join(len(text).to_bytes(4, "little") + text.encode() for text in texts)
        tensor["parameters"] = {"binary_data_size": len(behind)}
    else:
        tensor["data"] = texts
    front = json.dumps({"inputs": [tensor]}).encode()
    sizes = {"inference_header_content_length": str(len(front))} if raw else {}
    return served.post("/v2/models/tiny/infer", front + behind, **sizes) == 200


def _openai(served: Served, *, items: object, status: int = 200, form: str = "float") -> bool:
    body = {"model": "tiny", "input": items, "truncate": True, "encoding_format": form}
    return served.post("/v1/embeddings", json.dumps(body).encode()) == status


def _collections(served: Served) -> tuple[Any, str]:
    """The stub, and the fingerprint of a collection that is there from the first call on."""
    stub = collections_pb2_grpc.CollectionsStub(served.channel)
    with contextlib.suppress(grpc.RpcError):  # it is there
        stub.Create(collections_pb2.CreateCollectionRequest(name="notes"), timeout=DEADLINE_S)
    info = stub.Get(collections_pb2.GetCollectionRequest(name="notes"), timeout=DEADLINE_S)
    return stub, info.fingerprint


def _upsert(served: Served, *, embedded: bool = True, values: int = 50) -> bool:
    stub, fingerprint = _collections(served)
    vectors = np.random.default_rng(0).standard_normal((ITEMS, 16)).astype(np.float32)
    request = collections_pb2.UpsertRequest(
        collection="notes",
        ids=[wire.to_id(number) for number in range(ITEMS)],
        payloads=[wire.to_struct({"values": [1] * values, "about": "cats"})] * ITEMS,
        fingerprint=fingerprint,
    )
    if embedded:
        request.vectors.CopyFrom(wire.to_tensor(vectors))
    else:
        request.texts.values.extend(_texts())
    return len(stub.Upsert(request, timeout=DEADLINE_S).items) == ITEMS


def _stored(served: Served) -> tuple[Any, str]:
    """The same, with points in the collection."""
    stub, fingerprint = _collections(served)
    count = collections_pb2.CountRequest(collection="notes")
    if stub.Count(count, timeout=DEADLINE_S).points < ITEMS:
        _upsert(served)
    return stub, fingerprint


def _search(served: Served, *, queries: int, limit: int) -> bool:
    stub, fingerprint = _stored(served)
    vectors = np.random.default_rng(1).standard_normal((queries, 16)).astype(np.float32)
    request = collections_pb2.SearchRequest(
        collection="notes",
        vectors=wire.to_tensor(vectors),
        fingerprint=fingerprint,
        limit=limit,
        with_payload=True,
    )
    answer = stub.Search(request, timeout=DEADLINE_S)
    return [len(one.hits) for one in answer.results] == [limit] * queries


def _search_batch(served: Served) -> bool:
    stub, _ = _stored(served)
    search = collections_pb2.SearchRequest(
        collection="notes", texts=item_pb2.Texts(values=["the cat"]), limit=3
    )
    request = collections_pb2.SearchBatchRequest(searches=[search] * 300)
    return len(stub.SearchBatch(request, timeout=DEADLINE_S).results) == 300


def _scroll(served: Served) -> bool:
    stub, _ = _stored(served)
    request = collections_pb2.ScrollRequest(collection="notes", limit=ITEMS, with_vectors=True)
    return len(stub.Scroll(request, timeout=DEADLINE_S).ids) == ITEMS


def _delete(served: Served) -> bool:
    stub, _ = _collections(served)
    ids = [wire.to_id(number) for number in range(ITEMS)]
    request = collections_pb2.DeletePointsRequest(collection="notes", ids=ids)
    stub.DeletePoints(request, timeout=DEADLINE_S)
    return True


def _filter(served: Served) -> bool:
    """A list of 3.9 million values, in 15 MiB."""
    _collections(served)
    value = b"\x0a\x02\x08\x00"  # a null within a list
    listed = _field(6, value * 3_900_000)
    entry = _field(1, _field(1, b"k") + _field(2, listed))
    message = _field(1, b"notes") + _field(2, entry)
    count: Any = served.channel.unary_unary("/attar.v1.Collections/Count")
    return _refused(lambda: count(message, timeout=DEADLINE_S), "INVALID_ARGUMENT")


def _field(number: int, content: bytes) -> bytes:
    size, head = len(content), bytearray([number << 3 | 2])
    while size > 0x7F:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*head, size]) + content


def _classify(served: Served) -> bool:
    stub = classification_pb2_grpc.ClassificationStub(served.channel)
    texts = item_pb2.Texts(values=_texts())
    labels = [f"label {number % 2}" for number in range(ITEMS)]
    fit = classification_pb2.FitClassifierRequest(name="kinds", texts=texts, labels=labels)
    stub.Fit(fit, timeout=DEADLINE_S)
    request = classification_pb2.PredictRequest(name="kinds", texts=texts)
    predicted = stub.Predict(request, timeout=DEADLINE_S)
    stub.Delete(classification_pb2.DeleteClassifierRequest(name="kinds"), timeout=DEADLINE_S)
    return len(predicted.labels) == ITEMS


def _detect(served: Served) -> bool:
    stub = anomaly_pb2_grpc.AnomalyStub(served.channel)
    texts = item_pb2.Texts(values=_texts())
    fit = anomaly_pb2.FitDetectorRequest(name="odd", texts=texts)
    stub.Fit(fit, timeout=DEADLINE_S)
    scored = stub.Score(anomaly_pb2.ScoreRequest(name="odd", texts=texts), timeout=DEADLINE_S)
    stub.Delete(anomaly_pb2.DeleteDetectorRequest(name="odd"), timeout=DEADLINE_S)
    return len(scored.scores) == ITEMS


LONGEST: Final = (
    Longest("2,048 texts over gRPC", _embed_texts),
    Longest("16 MiB of long texts over gRPC", _embed_long_texts, copied=True),
    Longest("2,048 lists of token ids over gRPC", _embed_token_ids),
    Longest("millions of empty texts over gRPC", _embed_empty_texts, copied=True),
    Longest("three requests of 2,048 texts on a stream", _embed_stream),
    Longest("2,048 texts by KServe's gRPC, raw", partial(_kserve, raw=True)),
    Longest("2,048 texts by KServe's gRPC, typed", partial(_kserve, raw=False)),
    Longest("2,048 texts by KServe's REST, JSON", partial(_rest, raw=False)),
    Longest("2,048 texts by KServe's REST, binary", partial(_rest, raw=True)),
    Longest("2,048 texts by OpenAI's route", partial(_openai, items=_texts())),
    Longest(
        "2,048 texts by OpenAI's route, base64", partial(_openai, items=_texts(), form="base64")
    ),
    Longest("millions of token ids in JSON", partial(_openai, items=[4] * _IN_16_MIB, status=400)),
    Longest("2,048 texts upserted", partial(_upsert, embedded=False)),
    Longest("2,048 vectors upserted, with payloads", _upsert),
    Longest("a search for a thousand hits", partial(_search, queries=4, limit=1000)),
    Longest("a search by a thousand vectors", partial(_search, queries=1000, limit=4)),
    Longest("300 searches in one call", _search_batch),
    Longest("a page of 2,048 points", _scroll),
    Longest("2,048 points deleted", _delete),
    Longest("a filter of 3.9 million values", _filter, copied=True),
    Longest("a classifier of 2,048 texts", _classify),
    Longest("a detector of 2,048 texts", _detect),
)


def _sent_beside(longest: Longest, folder: Path) -> Outcome:
    """Send it again and again for two seconds, while an honest caller calls too."""
    with attacked(folder) as server:
        served = Served(server.server.target, server.server.http_port)
        good, sent, ends = 0, 0, time.monotonic() + 2
        while sent < 2 or time.monotonic() < ends:
            good += longest.send(served)
            sent += 1
        return _unhurried(server.outcome(held=good == sent, note=f"{good} of {sent} right"))


def _unhurried(outcome: Outcome) -> Outcome:
    """The same, which has not held where the honest caller waited as for a loop that hangs."""
    return Outcome(
        held=outcome.held and (outcome.others_p99_ms or HANG_MS) < HANG_MS,
        peak_mb=outcome.peak_mb,
        others_p99_ms=outcome.others_p99_ms,
        note=outcome.note,
    )


def half_requests_to_metrics(folder: Path) -> Outcome:
    """Hold 300 connections to the metrics port, each with half a request."""
    return _held_to_metrics(folder, b"GET /metrics HT")


def metrics_responses_not_read(folder: Path) -> Outcome:
    """Ask 300 times for the metrics, and take nothing of them."""
    return _held_to_metrics(folder, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")


def _held_to_metrics(folder: Path, sent: bytes) -> Outcome:
    with attacked(folder) as server, contextlib.ExitStack() as stack:
        before = _descriptors(server.server.process.pid)
        for _ in range(300):
            address = ("127.0.0.1", server.server.metrics_port)
            held = stack.enter_context(socket.create_connection(address, timeout=DEADLINE_S))
            held.sendall(sent)
        began = time.perf_counter()
        alive = httpx.get(
            f"http://127.0.0.1:{server.server.metrics_port}/livez", timeout=DEADLINE_S
        )
        took_ms = (time.perf_counter() - began) * 1e3
        more = _descriptors(server.server.process.pid) - before
        return server.outcome(
            held=alive.status_code == 200 and more <= 100 and took_ms < HANG_MS,
            note=f"/livez {alive.status_code} after {took_ms:.0f} ms; {more} descriptors more",
        )


def _livez(port: int) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{port}/livez", timeout=DEADLINE_S)


def _descriptors(pid: int) -> int:
    return len([*Path(f"/proc/{pid}/fd").iterdir()])


def scrapes_without_end(folder: Path) -> Outcome:
    """Scrape as fast as can be for two seconds, with a full window of embeddings."""
    with attacked(folder) as server:
        stub = embedding_pb2_grpc.EmbeddingStub(grpc.insecure_channel(server.server.target))
        for number in range(1100):
            text = item_pb2.Texts(values=[f"the {number}"])
            stub.Embed(embedding_pb2.EmbedRequest(texts=text), timeout=DEADLINE_S)
        times_ms, ends = [], time.monotonic() + 2
        while time.monotonic() < ends:
            began = time.perf_counter()
            server.server.metrics()
            times_ms.append((time.perf_counter() - began) * 1e3)
        longest = max(times_ms)
        outcome = server.outcome(
            held=longest < HANG_MS,
            note=f"{len(times_ms)} scrapes, the longest took {longest:.0f} ms",
        )
        return _unhurried(outcome)


def health_during_the_longest(folder: Path) -> Outcome:
    """Ask gRPC's health and /livez while 16 MiB of texts and of payloads are sent."""
    with attacked(folder) as server:
        served = Served(server.server.target, server.server.http_port)
        times_ms = [*_probes_meanwhile(served, server.server.metrics_port)]
        longest = max(times_ms)
        note = f"{len(times_ms)} were asked meanwhile, the slowest took {longest:.0f} ms"
        return _unhurried(server.outcome(held=longest < HANG_MS, note=note))


def _probes_meanwhile(served: Served, metrics_port: int) -> Iterator[float]:
    """Give the time of each probe, in ms, until the long calls have ended."""
    health: Any = health_pb2_grpc.HealthStub(grpc.insecure_channel(served.target))
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(send, served) for send in (_embed_long_texts, _upsert)]
        while not all(call.done() for call in calls):
            began = time.perf_counter()
            health.Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S)
            httpx.get(
                f"http://127.0.0.1:{metrics_port}/livez", timeout=DEADLINE_S
            ).raise_for_status()
            yield (time.perf_counter() - began) * 1e3
            time.sleep(0.02)


ATTACKS: Final = (
    *(Attack(longest.name, partial(_sent_beside, longest)) for longest in LONGEST),
    Attack("300 half requests to the metrics port", half_requests_to_metrics),
    Attack("300 answers of the metrics port that nobody takes", metrics_responses_not_read),
    Attack("scrapes without end", scrapes_without_end),
    Attack("probes during the longest requests", health_during_the_longest),
)
