"""Attacks on what calls of collections ask for: filters, payloads, hits, and the one store."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np
from google.protobuf.struct_pb2 import Struct

from attar import Client, wire
from attar.errors import InvalidInput
from attar.v1 import collections_pb2 as col
from attar.v1 import collections_pb2_grpc, item_pb2

from .ground import Attack, Attacked, Outcome, attacked

VALUES: Final = 3_900_000
POINTS: Final = 1000
DIMS: Final = 16
LEAVERS: Final = 24
DEADLINE_S: Final = 60.0


@contextmanager
def _reached(folder: Path) -> Iterator[tuple[Attacked, Any, Client]]:
    """Serve, and reach the collections without a limit of the client's own."""
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with (
        attacked(folder) as server,
        grpc.insecure_channel(server.server.target, options=options) as channel,
        Client(server.server.target) as client,
    ):
        yield server, collections_pb2_grpc.CollectionsStub(channel), client


def _status(call: Any, request: Any, timeout_s: float = DEADLINE_S) -> str:
    try:
        call(request, timeout=timeout_s)
    except grpc.RpcError as error:
        failure: Any = error
        return f"{failure.code().name} {failure.details()[:120]}"
    return "OK"


def large_filter(folder: Path) -> Outcome:
    """Count, in a collection that there is not, by a filter of one list of 15 MiB."""
    given = Struct()
    given.fields["k"].list_value.MergeFromString(b"\x0a\x02\x20\x01" * VALUES)
    with _reached(folder) as (server, stub, _):
        said = _status(stub.Count, col.CountRequest(collection="none", filter=given))
        return server.outcome(held=said.startswith("INVALID_ARGUMENT"), note=said)


def many_filters(folder: Path) -> Outcome:
    """Send 2048 searches, each with a filter that is small."""
    one = col.SearchRequest(
        collection="none",
        texts=item_pb2.Texts(values=["cat"]),
        filter=wire.to_struct({"k": [*range(400)]}),
    )
    with _reached(folder) as (server, stub, _):
        said = _status(stub.SearchBatch, col.SearchBatchRequest(searches=[one] * 2048))
        return server.outcome(held=said.startswith("INVALID_ARGUMENT"), note=said)


def long_key(folder: Path) -> Outcome:
    """Upsert payloads whose one long key is repeated for each value of its list."""
    payload = wire.to_struct({"k" * 30_000: [i + 0.0 for i in range(2_500)]})
    points = 200
    request = col.UpsertRequest(
        collection="docs",
        ids=[col.PointId(number=i) for i in range(points)],
        texts=item_pb2.Texts(values=["cat"] * points),
        payloads=[payload] * points,
    )
    with _reached(folder) as (server, stub, client):
        client.create_collection("docs")
        said = _status(stub.Upsert, request)
        return server.outcome(held="max_payload_" in said, note=said)


def many_values(folder: Path) -> Outcome:
    """Upsert 2048 payloads that are all small and together four million values."""
    payload = Struct()
    payload.fields["k"].list_value.MergeFromString(b"\x0a\x02\x20\x01" * 1900)
    request = col.UpsertRequest(
        collection="docs",
        ids=[col.PointId(number=i) for i in range(2048)],
        texts=item_pb2.Texts(values=["cat"] * 2048),
        payloads=[payload] * 2048,
    )
    with _reached(folder) as (server, stub, client):
        client.create_collection("docs")
        said = _status(stub.Upsert, request)
        return server.outcome(held="max_payload_values" in said, note=said)


def _vectors(queries: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(0).normal(size=(queries, DIMS)).astype(np.float32)


def _filled(client: Client, payload_bytes: int) -> str:
    """Make a collection of large payloads; gives its fingerprint."""
    fingerprint = client.create_collection("docs").fingerprint
    payloads = [{"t": "x" * payload_bytes}] * 100
    for first in range(0, POINTS, 100):
        vectors = _vectors(100) + first
        client.upsert(
            "docs",
            range(first, first + 100),
            vectors=vectors,
            fingerprint=fingerprint,
            payloads=payloads,
        )
    return fingerprint


def amplified_search(folder: Path) -> Outcome:
    """Search by 256, and then by 100 vectors for 1000 payloads of 2,000 bytes each."""
    messages = []
    with _reached(folder) as (server, _, client):
        fingerprint = _filled(client, 2000)
        for queries in (256, 100):
            try:
                client.search(
                    "docs",
                    vectors=_vectors(queries),
                    fingerprint=fingerprint,
                    limit=1000,
                    deadline_s=DEADLINE_S,
                )
            except InvalidInput as error:
                messages.append(str(error))
        held = [word in one for word, one in zip(LIMITS, messages, strict=False)] == [True, True]
        return server.outcome(held=held, note="; ".join(one[:100] for one in messages))


LIMITS: Final = ("max_search_hits", "max_answer_bytes")


def searches_of_those_who_left(folder: Path) -> Outcome:
    """Begin searches for 100,000 hits each, and leave: the next caller must not wait for them."""
    with _reached(folder) as (server, stub, client):
        fingerprint = _filled(client, 10)
        request = col.SearchRequest(
            collection="docs",
            vectors=wire.to_tensor(_vectors(100)),
            fingerprint=fingerprint,
            limit=1000,
            with_payload=True,
        )
        began = time.monotonic()
        stub.Search(request, timeout=DEADLINE_S)
        one_s = time.monotonic() - began
        left = [stub.Search.future(request, timeout=0.3) for _ in range(LEAVERS)]
        codes = Counter(call.code().name for call in left)
        began = time.monotonic()
        found = client.search("docs", ["cat"], limit=1, deadline_s=DEADLINE_S)
        waited_s = time.monotonic() - began
        return server.outcome(
            held=len(found[0]) == 1 and waited_s < LEAVERS * one_s / 4,
            note=f"one took {one_s:.1f} s; of {LEAVERS} more {dict(codes)}; the next search waited"
            f" {waited_s:.2f} s",
        )


ATTACKS: Final = (
    Attack("a filter of four million values", large_filter),
    Attack("two thousand small filters", many_filters),
    Attack("a long key, once for each value", long_key),
    Attack("four million values in small payloads", many_values),
    Attack("a search for 200 MB of payloads", amplified_search),
    Attack("searches of callers who left", searches_of_those_who_left),
)
