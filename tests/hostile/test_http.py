"""Every HTTP request that clients and proxies send has its one answer, and says what is wrong."""

import json
from collections.abc import Iterator

import pytest

from benchmarks.hostile.http import (
    CASES,
    GOOD,
    NAME,
    ORIGIN,
    Case,
    closes,
    embed,
    get,
    preflight,
    request,
    send,
    world,
)
from benchmarks.hostile.kserve import infer

Address = tuple[str, int]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    known = {"cors_allow_origin": (ORIGIN,), "allowed_hosts": (NAME,)}
    with world(tmp_path_factory.mktemp("http"), **known) as (address, _):
        yield address


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_request_has_its_one_answer(case: Case, served: Address) -> None:
    answer = send(served, case.request)

    assert answer.status == case.status, answer
    assert not case.message or case.message in answer.message, answer
    assert case.param is None or answer.param == case.param, answer
    for name, value in case.headers.items():
        assert answer.headers.get(name, "").startswith(value), answer
        assert value or name not in answer.headers, answer


@pytest.mark.parametrize("case", [case for case in CASES if case.closes], ids=str)
def test_a_connection_that_cannot_be_trusted_is_closed(case: Case, served: Address) -> None:
    assert closes(served, case.request)


def test_a_client_that_waits_for_100_continue_gets_it(served: Address) -> None:
    waiting = request("POST", "/v1/embeddings", GOOD, "Expect: 100-continue")

    assert send(served, waiting).continued


def test_no_page_of_a_browser_is_let_in_unless_its_origin_is_set(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with world(tmp_path_factory.mktemp("http")) as (address, _):
        refused = send(address, preflight(ORIGIN))
        plain = send(address, request("POST", "/v1/embeddings", GOOD, f"Origin: {ORIGIN}"))

    assert (refused.status, plain.status) == (403, 403)
    assert not [name for name in (*refused.headers, *plain.headers) if name.startswith("access-")]


def test_what_is_bound_to_fail_is_refused_before_any_item_is_run(served: Address) -> None:
    texts = ["a cat", "cat " * 99]
    whole = {"outputs": [{"name": "embedding"}], "parameters": {"truncate": False}}
    before = runs(served)

    assert send(served, embed(input=texts)).status == 400
    assert send(served, infer(*texts, **whole)).status == 400
    assert runs(served) == before
    assert send(served, infer(*texts, parameters={"truncate": False})).status == 200
    assert runs(served) == before + 1


def runs(served: Address) -> int:
    """Give how often the model has been run."""
    statistics = json.loads(send(served, get("/v2/models/tiny/stats")).body)
    return int(statistics["model_stats"][0]["execution_count"])


def test_a_server_may_cut_what_clients_cannot_ask_to_be_cut(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with world(tmp_path_factory.mktemp("http"), openai_truncate=True) as (address, _):
        by_default, refused = (
            send(address, embed(input="cat " * 99, **given)).status
            for given in ({}, {"truncate": False})
        )

    assert (by_default, refused) == (200, 400)
