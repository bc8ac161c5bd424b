"""Every bad field of every RPC is answered by its one status, and named."""

import re
from collections.abc import Iterator

import grpc
import httpx
import pytest
from google.protobuf import json_format

from attar import Client
from attar.server.rpc.methods import HTTP_RULES, RPCS
from benchmarks.hostile.requests import CASES, INVALID, ITEM, Case, send, with_fingerprint, world
from benchmarks.support.servers import free_port

from ..support.json_calls import json_call

HTTP_PORT = free_port()
World = tuple[str, str, grpc.Channel]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with (
        world(tmp_path_factory.mktemp("world"), http_port=HTTP_PORT) as (target, fingerprint),
        grpc.insecure_channel(target) as channel,
    ):
        yield target, fingerprint, channel


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_bad_field_has_one_status_and_is_named(case: Case, served: World) -> None:
    _, fingerprint, channel = served

    outcome = send(case, channel, fingerprint)

    assert outcome.code == case.code, outcome
    assert outcome.fields == ((case.field,) if case.field else ()), outcome
    assert len(outcome.message) > len("no"), outcome


def json_cases() -> Iterator[Case]:
    """Give the rows that JSON can say, and a path."""
    for case in CASES:
        rule = HTTP_RULES.get(f"attar.v1.{case.rpc}")
        if rule is None or isinstance(case.request, bytes):
            continue
        names = [getattr(case.request, name) for name in re.findall(r"{(\w+)}", rule.path)]
        try:
            json_format.MessageToJson(case.request)
        except json_format.SerializeToJsonError:
            continue  # for NaN in a payload JSON has no word
        if all(name.strip(".") and "/" not in name and "\0" not in name for name in names):
            yield case


def test_a_bad_field_has_the_same_status_over_http(served: World) -> None:
    _, fingerprint, _ = served
    with httpx.Client(base_url=f"http://127.0.0.1:{HTTP_PORT}", timeout=60) as web:
        found, expected = [], []
        for case in json_cases():
            response = json_call(web, case.rpc, with_fingerprint(case, fingerprint))
            error = response.json().get("error") or response.json()["items"][0]["error"]
            status = INVALID if response.status_code == 413 else case.code  # HTTP's own
            expected.append((case, status, [case.field] if case.field else []))
            violations = [
                one["field"]
                for detail in error["details"]
                for one in detail.get("fieldViolations", ())
            ]
            found.append((case, error.get("status", ITEM), violations))
    assert len(found) > len(CASES) // 2
    assert [row for row in found if row not in expected] == []


def test_every_rpc_that_takes_something_has_a_row() -> None:
    rows = {f"attar.v1.{case.rpc}" for case in CASES}

    takes_nothing = {f"attar.v1.{s}/List" for s in ("Collections", "Anomaly", "Classification")}
    takes_nothing.add("attar.v1.Models/Index")
    ours = {rpc for rpc in RPCS if rpc.startswith("attar.v1.")}
    assert ours - rows == takes_nothing


def test_no_bad_request_harms_the_next_good_one(served: World) -> None:
    target, fingerprint, channel = served
    for case in CASES:
        send(case, channel, fingerprint)

    with Client(target) as client:
        assert client.count("docs") == 2
        assert [hit.id for hit in client.search("docs", ["the cat"], limit=1)[0]] == [1]
        assert [one.name for one in client.collections()] == ["docs"]
        assert [one.name for one in client.detectors()] == ["normal"]
        assert [one.name for one in client.classifiers()] == ["topics"]
