"""Each limit of collections: what stands at it is served, and one beyond is refused by its name."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct

from attar import Client, wire
from attar.client import calls
from attar.errors import InvalidInput
from attar.server.rpc.interceptor import CODES
from attar.v1 import collections_pb2 as col
from attar.v1 import collections_pb2_grpc as rpc
from benchmarks.support.bundles import tiny_bundle
from benchmarks.support.servers import serving, settings

PAYLOAD: Final = "x" * 700
LIMITS: Final = {
    "max_items": 40,
    "max_collections": 2,
    "max_search_limit": 10,
    "max_search_hits": 20,
    "max_answer_bytes": 4096,
    "max_filter_bytes": 320,
    "max_filter_values": 12,
    "max_payload_bytes": 800,
    "max_payload_values": 40,
    "max_payload_key_bytes": 20,
}
DEEPEST: Final = 30


@dataclass(frozen=True)
class Served:
    """A server that keeps the collection `docs` of seven points, six with large payloads."""

    stub: Any
    client: Client
    fingerprint: str


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("limits")
    chosen = settings(tiny_bundle(folder / "tiny.attar"), data_dir=folder / "data", **LIMITS)
    with (
        serving(chosen) as target,
        Client(target) as client,
        grpc.insecure_channel(target) as channel,
    ):
        made = client.create_collection("docs")
        client.create_collection("more")
        client.upsert("docs", range(6), ["the cat"] * 6, payloads=[{"t": PAYLOAD}] * 6)
        client.upsert("docs", [6], ["the sun"])
        yield Served(rpc.CollectionsStub(channel), client, made.fingerprint)


def nested(depth: int) -> Struct:
    """An object with `depth` keys on the way to its value."""
    struct = Struct()
    inner = struct
    for _ in range(depth - 1):
        inner = inner.fields["a"].struct_value
    inner.fields["a"].number_value = 1
    return struct


def listed(count: int) -> Struct:
    return wire.to_struct({"n": [*range(count)]})


def sized(size: int) -> Struct:
    """A filter or payload of so many bytes, more than 127."""
    return wire.to_struct({"k": "x" * (size - (wire.to_struct({"k": "x" * 150}).ByteSize() - 150))})


def texts(count: int) -> Any:
    return {"values": ["the cat"] * count}


def ids(count: int, *, first: int = 100) -> list[col.PointId]:
    return [col.PointId(number=first + i) for i in range(count)]


def search(**changes: Any) -> col.SearchRequest:
    return col.SearchRequest(**{"collection": "docs", "texts": texts(1), **changes})


def upsert(*payloads: Struct) -> col.UpsertRequest:
    count = len(payloads)
    return col.UpsertRequest(
        collection="more", ids=ids(count), texts=texts(count), payloads=payloads
    )


def batch(*searches: col.SearchRequest) -> col.SearchBatchRequest:
    return col.SearchBatchRequest(searches=searches)


def count(given: Struct) -> col.CountRequest:
    return col.CountRequest(collection="docs", filter=given)


CASES: Final[dict[str, tuple[str, Callable[[int], Message], int, str]]] = {
    "bytes of a filter": ("Count", lambda n: count(sized(n)), 320, "max_filter_bytes"),
    "bytes of a batch's filters": (
        "SearchBatch",
        lambda n: batch(*[search(filter=sized(size), limit=1) for size in (n - 150, 150)]),
        320,
        "max_filter_bytes",
    ),
    "values of a filter": ("Count", lambda n: count(listed(n - 1)), 12, "max_filter_values"),
    "values of a batch's filters": (
        "SearchBatch",
        lambda n: batch(*[search(filter=wire.to_struct({"n": 1}), limit=1)] * n),
        12,
        "max_filter_values",
    ),
    "bytes of a filter's key": (
        "Count",
        lambda n: count(wire.to_struct({"k" * n: 1})),
        20,
        "max_payload_key_bytes",
    ),
    "bytes of a key within a filter": (
        "Count",
        lambda n: count(wire.to_struct({"$any": [{"k" * n: 1}]})),
        20,
        "max_payload_key_bytes",
    ),
    "hits of a query": ("Search", lambda n: search(limit=n), 10, "limit is 11; it must be from 1"),
    "hits of a batch": (
        "SearchBatch",
        lambda n: batch(search(limit=10), search(limit=n - 10)),
        20,
        "limit",
    ),
    "hits of many queries": (
        "Search",
        lambda n: search(texts=texts(n), limit=1),
        20,
        "max_search_hits",
    ),
    "hits that are passed over": (
        "Search",
        lambda n: search(texts=texts(n // 2), limit=1, offset=1 + n % 2),
        20,
        "max_search_hits",
    ),
    "hits of points' neighbours": (
        "Search",
        lambda n: search(
            texts=None, ids=col.PointIds(values=ids(n // 4, first=0)), limit=4 + n % 2
        ),
        20,
        "max_search_hits",
    ),
    "bytes of a payload": ("Upsert", lambda n: upsert(sized(n)), 800, "max_payload_bytes"),
    "values of a payload": ("Upsert", lambda n: upsert(listed(n - 1)), 40, "max_payload_values"),
    "values of payloads": (
        "Upsert",
        lambda n: upsert(*[listed(1)] * (n // 2), *[wire.to_struct({"a": 1})] * (n % 2)),
        40,
        "max_payload_values",
    ),
    "bytes of a payload's key": (
        "Upsert",
        lambda n: upsert(wire.to_struct({"ä" * (n // 2) + "a" * (n % 2): 1})),
        20,
        "max_payload_key_bytes",
    ),
    "ids of points to read": (
        "Retrieve",
        lambda n: col.RetrieveRequest(collection="docs", ids=ids(n)),
        40,
        "a request takes 40",
    ),
    "ids of points to delete": (
        "DeletePoints",
        lambda n: col.DeletePointsRequest(collection="docs", ids=ids(n)),
        40,
        "a request takes 40",
    ),
}


def call(served: Served, name: str, request: Message) -> str:
    """Give the text of the refusal, with its code before them; empty where there is none."""
    try:
        answer = getattr(served.stub, name)(request, timeout=30)
    except grpc.RpcError as error:
        failure: Any = error
        return f"{failure.code().name} {failure.details()}"
    errors = [one.error for one in getattr(answer, "results", ()) if hasattr(one, "error")]
    return "; ".join(f"{CODES[one.code].name} {one.message}" for one in errors if one.code)


@pytest.mark.parametrize("case", CASES)
def test_a_limit_takes_what_stands_at_it_and_refuses_one_more(case: str, served: Served) -> None:
    name, make, limit, words = CASES[case]

    assert call(served, name, make(limit)) == ""
    refusal = call(served, name, make(limit + 1))

    assert refusal.startswith("INVALID_ARGUMENT"), refusal
    assert words in refusal


def test_the_payloads_of_an_answer_are_counted_as_they_are_read(served: Served) -> None:
    """Five of these payloads fit into 4096 bytes, and six do not."""
    answered = served.client.search("docs", ["the cat"], limit=5)
    assert [hit.payload for hit in answered[0]] == [{"t": PAYLOAD}] * 5
    assert len(served.client.search("docs", ["the cat"], limit=7, with_payload=False)[0]) == 7

    for refused in (
        lambda: served.client.search("docs", ["the cat"], limit=6),
        lambda: served.client.search("docs", ["the cat"] * 3, limit=2),
        lambda: served.client.search("docs", ids=[6], limit=6),
        lambda: served.client.retrieve("docs", range(6)),
    ):
        with pytest.raises(InvalidInput, match="more bytes than max_answer_bytes, 4096"):
            refused()
    assert len(served.client.retrieve("docs", range(5))) == 5


def test_searches_of_one_call_share_its_answer(served: Served) -> None:
    one = calls.search("docs", ["the cat"], limit=3)
    first, second = served.client.search_batch([one, one], partial=True)

    assert [isinstance(found, InvalidInput) for found in (first, second)].count(True) == 1


def test_a_page_ends_before_it_is_too_large_and_the_next_goes_on(served: Served) -> None:
    first = served.client.scroll("docs", limit=40)
    second = served.client.scroll("docs", limit=40, cursor=first.cursor)

    assert [point.id for point in first.points] == [0, 1, 2, 3, 4]
    assert [point.id for point in second.points] == [5, 6]
    assert second.cursor == ""


def test_a_payload_that_is_kept_can_be_read(served: Served) -> None:
    """One level more was kept once, and then every search that met the point failed."""
    assert call(served, "Upsert", upsert(nested(DEEPEST))) == ""
    (point,) = served.client.retrieve("more", [100])
    assert wire.to_struct(point.payload) == nested(DEEPEST)

    assert "nested deeper than 30" in call(served, "Upsert", upsert(nested(DEEPEST + 1)))


def test_a_detector_is_fitted_on_no_more_vectors_than_memory_is_for(
    bundle_path: Path, tmp_path: Path
) -> None:
    chosen = settings(bundle_path, data_dir=tmp_path, max_fit_bytes=30 * 16 * 4)
    with serving(chosen) as target, Client(target) as client:
        client.create_collection("docs")
        client.upsert("docs", range(30), [f"cat {i}" for i in range(30)])
        assert client.fit_anomaly("at", collection="docs").references > 0
        client.upsert("docs", [30], ["the sun"])
        with pytest.raises(InvalidInput, match="take 1984 bytes, more than max_fit_bytes, 1920"):
            client.fit_anomaly("beyond", collection="docs")
        assert client.info().limits["max_fit_bytes"] == 1920


@pytest.mark.parametrize("cursor", ["n" + "1" * 5000, "u" + "a" * 10**6, "n" + "9" * 40])
def test_a_long_cursor_is_refused_by_its_length(cursor: str, served: Served) -> None:
    request = col.ScrollRequest(collection="docs", cursor=cursor)
    assert f"cursor has {len(cursor)} characters" in call(served, "Scroll", request)


def test_info_tells_every_limit(served: Served) -> None:
    assert served.client.info().limits.items() >= LIMITS.items()


def test_as_many_searches_as_a_call_may_have_items_go_in_one_call(
    bundle_path: Path, tmp_path: Path
) -> None:
    """With every field: what is counted before protobuf reads a message has room for them."""
    chosen = settings(bundle_path, data_dir=tmp_path, max_items=100)
    with serving(chosen) as target, Client(target) as client:
        client.create_collection("docs")
        one = calls.search(
            "docs", ["the cat"], limit=1, filter={"n": 1}, score_threshold=0.1, exact=True
        )

        assert len(client.search_batch([one] * 100)) == 100
