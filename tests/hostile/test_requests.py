"""Every bad field of every RPC is answered by its one status, and named."""

from collections.abc import Iterator

import grpc
import pytest

from attar import Client
from attar.server.rpc.methods import RPCS
from benchmarks.hostile.requests import CASES, Case, send, world

World = tuple[str, str, grpc.Channel]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with (
        world(tmp_path_factory.mktemp("world")) as (target, fingerprint),
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
