"""Requests of right and wrong fields are accepted as an oracle says, or a wrong field is named."""

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status
from hypothesis import given, settings

import attar
from attar import Client, wire
from attar.v1 import classification_pb2 as cla
from attar.v1 import collections_pb2 as col
from attar.v1 import embedding_pb2 as emb
from attar.v1 import item_pb2 as itm
from benchmarks.hostile import bodies
from benchmarks.hostile.http import world

REFUSALS = {"INVALID_ARGUMENT", "NOT_FOUND"}
quickly = settings(max_examples=60, deadline=None, database=None)


@dataclass(frozen=True, slots=True)
class Served:
    """A server, and the same bundle on the device."""

    web: httpx.Client
    channel: grpc.Channel
    device: attar.Encoder

    def call(self, rpc: str, request: Message, respond: Any) -> tuple[str, str, Any]:
        """Give the code, the violated field and the answer."""
        invoke: Any = self.channel.unary_unary(f"/attar.v1.{rpc}", None, respond.FromString)
        try:
            return "OK", "", invoke(request.SerializeToString(), timeout=20)
        except grpc.RpcError as refused:
            error: Any = refused
        details = dict(error.trailing_metadata())["grpc-status-details-bin"]
        return error.code().name, violated(Status.FromString(details)), error.details()

    def vectors(self, texts: list[str], **options: Any) -> Any:
        """Give what the device makes of texts."""
        return self.device.embed(texts, **options).vectors


def violated(status: Status) -> str:
    """Give the field that a status names."""
    bad = BadRequest()
    details = [detail for detail in status.details if detail.Unpack(bad)]
    return bad.field_violations[0].field if details else ""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("bodies")
    with (
        world(folder, max_payload_bytes=1024) as ((host, port), target),
        httpx.Client(base_url=f"http://{host}:{port}") as web,
        grpc.insecure_channel(target) as channel,
    ):
        with Client(target) as client:
            client.create_collection("docs", model="tiny")
            client.upsert("docs", [1, 2], ["the cat", "the sun"])
        yield Served(web, channel, attar.load(folder / "tiny.attar", threads=1))


@quickly
@given(body=bodies.OPENAI)
def test_openais_bodies(served: Served, body: dict[str, Any]) -> None:
    faults = bodies.openai_faults(body)

    answer = served.web.post("/v1/embeddings", json=body)

    if faults:
        error = answer.json()["error"]
        unknown = answer.status_code == 404 and "model" in faults
        assert unknown or (answer.status_code == 400 and error["param"] in faults), error
        return
    assert answer.status_code == 200, answer.text
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    rows = [one["embedding"] for one in answer.json()["data"]]
    found = [np.frombuffer(base64.b64decode(r), "<f4") if isinstance(r, str) else r for r in rows]
    options = {"dims": body.get("dimensions"), "role": body.get("role") or "passage"}
    np.testing.assert_allclose(found, served.vectors(texts, **options), atol=1e-6)


@quickly
@given(tensor=bodies.KSERVE)
def test_kserves_tensors(served: Served, tensor: dict[str, Any]) -> None:
    is_wrong = bodies.kserve_faults(tensor)

    answer = served.web.post(
        "/v2/models/tiny/infer",
        content=json.dumps({"inputs": [tensor]}),
        headers={"content-type": "application/json"},
    )

    assert answer.status_code == (400 if is_wrong else 200), answer.text
    if not is_wrong:
        output = answer.json()["outputs"][0]
        texts = np.array(tensor["data"], np.object_).reshape(-1).tolist()
        found = np.reshape(output["data"], output["shape"])
        np.testing.assert_allclose(found, served.vectors(texts), atol=1e-6)


def held(faults: set[str], code: str, field: str, message: Any) -> bool:
    """Tell whether the request was accepted; a refusal must name one of its faults."""
    if faults:
        known = field in faults or "" in faults or (code == "NOT_FOUND" and not field)
        assert known or field.partition("[")[0] in faults, (faults, field, message)
        assert code in REFUSALS, (code, message)
    else:
        assert code == "OK", message
    return not faults


def texts(values: list[str]) -> itm.Texts:
    return itm.Texts(values=values)


@quickly
@given(wanted=bodies.EMBED)
def test_embed(served: Served, wanted: Mapping[str, Any]) -> None:
    request = emb.EmbedRequest(**{**wanted, "texts": texts(wanted["texts"])})

    code, field, answer = served.call("Embedding/Embed", request, emb.EmbedResponse)

    if held(bodies.embed_faults(wanted), code, field, answer):
        role = "query" if wanted["role"] == 2 else "passage"
        expected = served.vectors(wanted["texts"], dims=wanted["dims"], role=role)
        cuts, is_query = wanted["truncation"] != 2, role == "query"
        long = [not cuts and bodies.is_long(text, is_query=is_query) for text in wanted["texts"]]
        expected[long] = 0
        np.testing.assert_allclose(wire.from_tensor(answer.embeddings), expected, atol=1e-6)
        assert [item.HasField("error") for item in answer.items] == long


@quickly
@given(wanted=bodies.POINTS)
def test_upsert(served: Served, wanted: Mapping[str, Any]) -> None:
    size = wanted["payload_bytes"]
    payloads = [{"a": "x" * size}, *[{}] * (len(wanted["ids"]) - 1)] if size else []
    request = col.UpsertRequest(
        collection="docs",
        ids=[col.PointId(number=number) for number in wanted["ids"]],
        texts=texts(wanted["texts"]),
        truncation=wanted["truncation"],
        all_or_nothing=wanted["all_or_nothing"],
        payloads=map(wire.to_struct, payloads),
    )

    code, field, answer = served.call("Collections/Upsert", request, col.UpsertResponse)

    if held(bodies.upsert_faults(wanted), code, field, answer):
        long = [wanted["truncation"] == 2 and bodies.is_long(text) for text in wanted["texts"]]
        assert [item.HasField("error") for item in answer.items] == long


@quickly
@given(wanted=bodies.SEARCH)
def test_search(served: Served, wanted: Mapping[str, Any]) -> None:
    request = col.SearchRequest(**{**wanted, "texts": texts(wanted["texts"])})

    code, field, answer = served.call("Collections/Search", request, col.SearchResponse)

    if held(bodies.search_faults(wanted), code, field, answer):
        for result, item in zip(answer.results, answer.items, strict=True):
            assert bool(result.hits) != item.HasField("error")
            assert len(result.hits) <= wanted["limit"]


@quickly
@given(wanted=bodies.SCROLL)
def test_scroll(served: Served, wanted: Mapping[str, Any]) -> None:
    request = col.ScrollRequest(**wanted)

    code, field, answer = served.call("Collections/Scroll", request, col.ScrollResponse)

    if held(bodies.scroll_faults(wanted), code, field, answer):
        assert 1 <= len(answer.ids) <= wanted["limit"]
        assert answer.HasField("vectors") == wanted["with_vectors"]


@quickly
@given(wanted=bodies.FIT)
def test_fit_classifier(served: Served, wanted: Mapping[str, Any]) -> None:
    request = cla.FitClassifierRequest(**{**wanted, "texts": texts(wanted["texts"])})

    code, field, answer = served.call("Classification/Fit", request, cla.ClassifierInfo)

    if held(bodies.fit_faults(wanted), code, field, answer):
        assert list(answer.labels) == sorted(set(wanted["labels"]))
        forget = cla.DeleteClassifierRequest(name="new")
        served.call("Classification/Delete", forget, cla.DeleteClassifierResponse)
