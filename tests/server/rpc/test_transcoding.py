"""JSON over HTTP: every unary call of gRPC gives the same answers and the same errors there."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import httpx
import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import Struct
from google.rpc.status_pb2 import Status

from attar import Client
from attar.server.rpc.methods import HTTP_RULES, SERVICES
from attar.v1 import anomaly_pb2 as ano
from attar.v1 import classification_pb2 as cla
from attar.v1 import collections_pb2 as col
from attar.v1 import embedding_pb2 as emb
from attar.v1 import info_pb2 as inf
from attar.v1 import item_pb2 as itm
from attar.v1 import models_pb2 as mod
from attar.v1 import reranking_pb2 as ran
from benchmarks.support.bundles import tiny_bundle
from benchmarks.support.servers import free_port, serving, settings

from ...support.api_keys import READER, WRITER, write_keys
from ...support.json_calls import json_call

Answer: TypeAlias = tuple[str, Any]
METHODS = {
    f"{service.name}/{method.name}": method
    for service in SERVICES
    if service.full_name.startswith("attar.v1.")
    for method in service.methods
    if not method.client_streaming
}
TEXTS = itm.Texts(values=["the cat", "", "the dog ran", "x" * 40_000])
MANY = itm.Texts(values=[f"the cat sat on {i}" for i in range(64)])
PAYLOAD = json_format.ParseDict(
    {"none": None, "deep": [{"numbers": [0.5, 1e300, -3] * 300, "none": None}], "text": "ü\n"},
    Struct(),
)
CAT = Struct(fields={"text": {"string_value": "ü\n"}})  # type: ignore[dict-item]
# No two of them are equally near to a query.
STORED = itm.Texts(values=["the cat", "the dog ran", "blue sky"])
_ONE = col.PointId(number=1)
_UUID = col.PointId(uuid="a3f1c2d4-0000-4000-8000-000000000001")
_SEARCH = col.SearchRequest(
    collection="docs", texts=TEXTS, with_payload=True, filter=CAT, limit=3, score_threshold=-0.5
)
# Each leaves things as the next one needs them, and the last ones leave nothing.
CALLS: list[tuple[str, Message | Callable[[str], Message]]] = [
    ("Info/GetInfo", inf.GetInfoRequest()),
    ("Models/Unload", mod.UnloadRequest(name="spare")),
    ("Models/Index", mod.IndexRequest()),
    ("Models/Load", mod.LoadRequest(name="spare")),
    ("Models/SetVariant", mod.SetVariantRequest(name="tiny", variant="fp32")),
    (
        "Embedding/Embed",
        emb.EmbedRequest(
            model="tiny", texts=TEXTS, encoding=emb.ENCODING_F16, role=itm.ROLE_QUERY, dims=8
        ),
    ),
    ("Embedding/EmbedTokens", emb.EmbedTokensRequest(model="tiny", texts=MANY)),
    ("Reranking/Rerank", ran.RerankRequest(model="tiny", query="cat", documents=MANY.values)),
    (
        "Collections/Create",
        col.CreateCollectionRequest(name="docs", model="tiny", quantization=col.QUANTIZATION_INT8),
    ),
    (
        "Collections/Upsert",
        col.UpsertRequest(
            collection="docs",
            ids=[_ONE, _UUID, col.PointId(number=2**64 - 1)],
            texts=STORED,
            payloads=[PAYLOAD] * 3,
        ),
    ),
    ("Collections/List", col.ListCollectionsRequest()),
    ("Collections/Get", col.GetCollectionRequest(name="docs")),
    ("Collections/Search", _SEARCH),
    ("Collections/SearchBatch", col.SearchBatchRequest(searches=[_SEARCH, col.SearchRequest()])),
    (
        "Collections/Retrieve",
        col.RetrieveRequest(collection="docs", ids=[_ONE, _UUID], with_vectors=True),
    ),
    ("Collections/Scroll", col.ScrollRequest(collection="docs", limit=2)),
    ("Collections/DeletePoints", col.DeletePointsRequest(collection="docs", ids=[_ONE])),
    ("Collections/Count", col.CountRequest(collection="docs", filter=CAT)),
    ("Collections/Optimize", col.OptimizeRequest(collection="docs")),
    ("Collections/Snapshot", col.SnapshotRequest(collection="docs")),
    ("Collections/ListSnapshots", col.ListSnapshotsRequest(collection="docs")),
    (
        "Collections/Restore",
        lambda snapshot: col.RestoreRequest(collection="docs", id=snapshot, to="copy"),
    ),
    (
        "Collections/DeleteSnapshot",
        lambda snapshot: col.DeleteSnapshotRequest(collection="docs", id=snapshot),
    ),
    ("Collections/Delete", col.DeleteCollectionRequest(name="copy")),
    ("Collections/Delete", col.DeleteCollectionRequest(name="docs")),
    ("Anomaly/Fit", ano.FitDetectorRequest(name="normal", model="tiny", texts=MANY)),
    (
        "Anomaly/Score",
        ano.ScoreRequest(name="normal", texts=TEXTS, truncation=itm.TRUNCATION_ERROR),
    ),
    ("Anomaly/Get", ano.GetDetectorRequest(name="normal")),
    ("Anomaly/List", ano.ListDetectorsRequest()),
    ("Anomaly/Delete", ano.DeleteDetectorRequest(name="normal")),
    (
        "Classification/Fit",
        cla.FitClassifierRequest(
            name="kinds", model="tiny", texts=itm.Texts(values=["a", "b"]), labels=["é", "sky"]
        ),
    ),
    (
        "Classification/Predict",
        cla.PredictRequest(name="kinds", texts=TEXTS, truncation=itm.TRUNCATION_ERROR),
    ),
    ("Classification/Get", cla.GetClassifierRequest(name="kinds")),
    ("Classification/List", cla.ListClassifiersRequest()),
    ("Classification/Delete", cla.DeleteClassifierRequest(name="kinds")),
]


class Server:
    """A server, by both of its protocols."""

    def __init__(self, channel: grpc.Channel, web: httpx.Client) -> None:
        """Call by these."""
        self._channel = channel
        self._web = web

    def grpc(self, rpc: str, request: Message) -> Answer:
        """Call as gRPC does; give the status and the answer, or the error."""
        kind = GetMessageClass(METHODS[rpc].output_type)
        invoke: Any = self._channel.unary_unary(f"/attar.v1.{rpc}")
        try:
            return "OK", kind.FromString(invoke(request.SerializeToString(), timeout=60))
        except grpc.RpcError as error:
            failed: Any = error
            details = dict(failed.trailing_metadata())["grpc-status-details-bin"]
            return failed.code().name, Status.FromString(details)

    def http(self, rpc: str, request: Message) -> Answer:
        """Call as HTTP does; give the status and the answer, or the error, as messages."""
        response = json_call(self._web, rpc, request)
        fields = response.json()
        if response.is_success:
            return "OK", json_format.ParseDict(fields, GetMessageClass(METHODS[rpc].output_type)())
        error = fields["error"]
        assert error["code"] == response.status_code
        known = {key: error[key] for key in ("message", "details")}
        status = json_format.ParseDict(known, Status())
        status.code = getattr(grpc.StatusCode, error["status"]).value[0]
        return error["status"], status


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder, port = tmp_path_factory.mktemp("json"), free_port()
    chosen = settings(
        tiny_bundle(folder / "tiny.attar", dims=(8, 16), tokens=True),
        tiny_bundle(folder / "spare.attar", name="spare", seed=1),
        data_dir=folder / "data",
        http_port=port,
    )
    with (
        serving(chosen) as target,
        grpc.insecure_channel(target) as channel,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as web,
    ):
        yield Server(channel, web)


def lasting(answer: Any) -> str:
    """An answer as text, without what differs from call to call."""
    fields = json_format.MessageToDict(answer)
    for one in (fields, *fields.get("snapshots", ())):
        for name in ("timings", "created", "sizeBytes"):
            one.pop(name, None)
        if "snapshots" in fields or "collection" in one:
            one.pop("id", None)
    for detail in fields.get("details", ()):
        detail.get("metadata", {}).pop("request_id", None)
    return json.dumps(fields, sort_keys=True)


def run(call: Callable[[str, Message], Answer]) -> list[tuple[str, str]]:
    answers, snapshot = [], ""
    for rpc, request in CALLS:
        status, answer = call(rpc, request(snapshot) if callable(request) else request)
        assert status == "OK", (rpc, answer)
        if rpc == "Collections/Snapshot":
            snapshot = answer.id
        answers.append((rpc, lasting(answer)))
    return answers


def test_every_unary_call_over_http_gives_what_it_gives_over_grpc(server: Server) -> None:
    assert {rpc for rpc, _ in CALLS} == METHODS.keys()
    assert HTTP_RULES.keys() == {f"attar.v1.{rpc}" for rpc in METHODS}
    assert run(server.http) == run(server.grpc)


@pytest.mark.parametrize("rpc", METHODS)
def test_an_error_over_http_is_that_of_grpc(server: Server, rpc: str) -> None:
    request = GetMessageClass(METHODS[rpc].input_type)()
    for field in ("name", "collection", "id"):
        if field in request.DESCRIPTOR.fields_by_name:
            setattr(request, field, "none")
    over_http, over_grpc = server.http(rpc, request), server.grpc(rpc, request)
    assert over_http[0] == over_grpc[0]
    assert lasting(over_http[1]) == lasting(over_grpc[1])


@pytest.mark.parametrize("rpc", METHODS)
def test_a_call_without_a_body_has_all_of_its_message_in_the_path(rpc: str) -> None:
    rule = HTTP_RULES[f"attar.v1.{rpc}"]
    fields = METHODS[rpc].input_type.fields_by_name
    named = {name for name in fields if f"{{{name}}}" in rule.path}
    assert rule.has_body or named == {*fields}
    assert not rule.has_slashes or len(named) == 1


def test_the_page_of_the_protocols_lists_every_call() -> None:
    page = (Path(__file__).parents[3] / "docs" / "protocols.md").read_text("utf-8")
    missing = [rule for rule in HTTP_RULES.values() if f"`{rule.verb} {rule.path}`" not in page]
    assert not missing


def test_keys_open_calls_over_http_by_their_scopes(bundle_path: Path, tmp_path: Path) -> None:
    port = free_port()
    keys = write_keys(tmp_path)
    chosen = settings(bundle_path, data_dir=tmp_path / "data", http_port=port, keys_file=keys)
    with serving(chosen), httpx.Client(base_url=f"http://127.0.0.1:{port}/attar/v1") as web:
        reads, writes = ({"authorization": f"Bearer {key}"} for key in (READER, WRITER))
        docs = {"name": "docs"}
        answers = [
            web.get("/collections"),
            web.get("/collections", headers=reads),
            web.post("/collections", json=docs, headers=reads),
            web.post("/collections", json=docs, headers=writes),
            web.delete("/collections/docs", headers=reads),
        ]
    assert [answer.status_code for answer in answers] == [401, 200, 403, 200, 403]
    statuses = [answer.json()["error"]["status"] for answer in answers[::2]]
    assert statuses == ["UNAUTHENTICATED", "PERMISSION_DENIED", "PERMISSION_DENIED"]


@pytest.mark.slow  # two processes, which import everything
def test_each_worker_answers_for_the_one_that_owns_the_data(
    bundle_path: Path, tmp_path: Path
) -> None:
    port = free_port()
    keys = write_keys(tmp_path)
    chosen = settings(
        bundle_path, data_dir=tmp_path / "data", http_port=port, workers=2, keys_file=keys
    )
    headers = {"authorization": f"Bearer {WRITER}"}
    url = f"http://127.0.0.1:{port}/attar/v1/collections"
    with serving(chosen) as target, Client(target, key=WRITER) as client:
        client.create_collection("docs")
        for _ in range(12):  # connections, which the kernel gives to either worker
            found = httpx.get(f"{url}/docs", headers=headers, timeout=60)
            assert found.json()["name"] == "docs"
            missing = httpx.get(f"{url}/none", headers=headers, timeout=60)
            assert (missing.status_code, missing.json()["error"]["status"]) == (404, "NOT_FOUND")
            unknown = httpx.get(f"{url}/docs", timeout=60)
            assert unknown.status_code == 401
