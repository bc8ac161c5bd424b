"""Reranking: the scores of the device over each protocol, and limits that hold before any work."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import attar
from attar import AsyncClient, Client, InputTooLong, InvalidInput, NotSupported
from attar.errors import DeadlineExceeded
from attar.runtime import Encoder
from benchmarks.support.bundles import tiny_bundle, tiny_cross_encoder, tiny_tensor_bundle
from benchmarks.support.servers import free_port, serving, settings

QUERY = "the cat"
DOCUMENTS = ["the dog ran", "the cat sat on the mat", "", "the cat", "rain"]
MAX_ITEMS, MAX_ITEM_BYTES, MAX_ANSWER_BYTES, MAX_NAME = 30, 300, 2500, 12


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return {
        "reranker": tiny_cross_encoder(folder / "reranker.attar"),
        "tiny": tiny_bundle(folder / "tiny.attar"),
        "tiny-image": tiny_tensor_bundle(folder / "image.attar"),
    }


@pytest.fixture(scope="module")
def served(
    bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Client, httpx.Client, str]]:
    port = free_port()
    chosen = settings(
        *bundles.values(),
        data_dir=tmp_path_factory.mktemp("data") / "data",
        http_port=port,
        max_items=MAX_ITEMS,
        max_item_bytes=MAX_ITEM_BYTES,
        max_answer_bytes=MAX_ANSWER_BYTES,
        max_name_characters=MAX_NAME,
    )
    with (
        serving(chosen) as target,
        Client(target) as client,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as web,
    ):
        yield client, web, target


@pytest.fixture
def client(served: tuple[Client, httpx.Client, str]) -> Client:
    return served[0]


@pytest.fixture
def web(served: tuple[Client, httpx.Client, str]) -> httpx.Client:
    return served[1]


@pytest.fixture(scope="module")
def on_device(bundles: dict[str, Path]) -> dict[str, Encoder]:
    return {name: attar.load(bundles[name], threads=1) for name in ("reranker", "tiny")}


def post(web: httpx.Client, path: str, **body: Any) -> Any:
    response = web.post(path, json=body)
    response.raise_for_status()
    return response.json()


@pytest.mark.parametrize(("model", "scorer"), [("reranker", "cross-encoder"), ("tiny", "cosine")])
def test_a_server_ranks_as_the_device_does(
    client: Client, on_device: dict[str, Encoder], model: str, scorer: str
) -> None:
    ours = on_device[model].rank(QUERY, DOCUMENTS)
    theirs = client.rerank(QUERY, DOCUMENTS, model=model, return_documents=True)
    assert [result.index for result in theirs.results] == ours.indices.tolist()
    np.testing.assert_allclose([r.score for r in theirs.results], ours.scores, rtol=1e-6)
    assert [r.document for r in theirs.results] == [DOCUMENTS[i] for i in ours.indices]
    assert theirs.tokens.tolist() == ours.tokens.tolist()
    assert theirs.truncated.tolist() == ours.truncated.tolist()
    assert (
        (theirs.scorer, theirs.fingerprint)
        == (scorer, ours.fingerprint)
        == (
            ours.scorer,
            on_device[model].fingerprint,
        )
    )


def test_the_number_before_the_activation_comes_too(client: Client) -> None:
    results = client.rerank(QUERY, DOCUMENTS, model="reranker", top_n=2).results
    assert [result.raw_score for result in results] == [1.0, 0.0]
    np.testing.assert_allclose([r.score for r in results], [1 / (1 + np.exp(-1)), 0.5], rtol=1e-6)
    assert [result.document for result in results] == [None, None]


def test_both_clients_rank(served: tuple[Client, httpx.Client, str]) -> None:
    client, _, target = served

    async def rank() -> Any:
        async with AsyncClient(target) as connected:
            return await connected.rerank(QUERY, DOCUMENTS, model="reranker")

    assert asyncio.run(rank()).results == client.rerank(QUERY, DOCUMENTS, model="reranker").results


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank"])
def test_cohere_and_jina_are_answered_in_their_shape(web: httpx.Client, path: str) -> None:
    body = {"model": "reranker", "query": QUERY, "documents": DOCUMENTS, "top_n": 2}
    answer = post(web, path, **body, return_documents=True)
    assert [result["index"] for result in answer["results"]] == [1, 3]
    scores = [result["relevance_score"] for result in answer["results"]]
    np.testing.assert_allclose(scores, [1 / (1 + np.exp(-1)), 0.5], rtol=1e-6)
    assert answer["results"][0]["document"] == {"text": DOCUMENTS[1]}
    assert answer["usage"]["total_tokens"] == 8 + 11 + 5 + 7 + 6
    assert (answer["model"], answer["scorer"]) == ("reranker", "cross-encoder")
    assert answer["id"]
    assert "document" not in post(web, path, **body)["results"][0]


def test_text_embeddings_inference_is_answered_in_its_shape(web: httpx.Client) -> None:
    body = {"model": "reranker", "query": QUERY, "texts": DOCUMENTS}
    answer = post(web, "/rerank", **body)
    assert [rank["index"] for rank in answer] == [1, 3, 0, 2, 4]
    raw = post(web, "/rerank", **body, raw_scores=True, return_text=True)
    assert raw[0] == {"index": 1, "score": 1.0, "text": DOCUMENTS[1]}
    np.testing.assert_allclose(answer[0]["score"], 1 / (1 + np.exp(-1)), rtol=1e-6)


def test_a_score_over_http_is_a_cosine_where_the_model_embeds(
    web: httpx.Client, on_device: dict[str, Encoder]
) -> None:
    ours = on_device["tiny"].rank(QUERY, DOCUMENTS)
    answer = post(web, "/rerank", model="tiny", query=QUERY, texts=DOCUMENTS)
    np.testing.assert_allclose([rank["score"] for rank in answer], ours.scores, rtol=1e-5)


def test_a_bad_document_fails_alone(client: Client) -> None:
    documents = ["the cat", "dog " * 60, "rain"]
    with pytest.raises(InputTooLong, match="item 1 has"):
        client.rerank("the", documents, model="reranker", truncation="error")
    partly = client.rerank("the", documents, model="reranker", truncation="error", partial=True)
    assert [error is None for error in partly.errors] == [True, False, True]
    assert [result.index for result in partly.results] == [0, 2]


LIMITS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        f"a request takes {MAX_ITEMS} (max_items)",
        {"documents": ["cat"] * MAX_ITEMS},
        {"documents": ["cat"] * (MAX_ITEMS + 1)},
    ),
    (
        f"is larger than max_item_bytes, {MAX_ITEM_BYTES}",
        {"documents": ["a" * (MAX_ITEM_BYTES - len(QUERY))]},
        {"documents": ["a" * (MAX_ITEM_BYTES - len(QUERY) + 1)]},
    ),
    (
        f"more than max_answer_bytes, {MAX_ANSWER_BYTES}",
        {"documents": ["a" * 186] * 10, "return_documents": True},
        {"documents": [*["a" * 186] * 9, "a" * 187], "return_documents": True},
    ),
]


@pytest.mark.parametrize(("words", "at", "beyond"), LIMITS, ids=["items", "item", "answer"])
def test_what_stands_at_a_limit_is_answered_and_one_beyond_refused(
    client: Client, words: str, at: dict[str, Any], beyond: dict[str, Any]
) -> None:
    assert client.rerank(QUERY, model="reranker", **at).results
    with pytest.raises(InvalidInput) as refused:
        client.rerank(QUERY, model="reranker", **beyond)
    assert words in str(refused.value)


def test_a_deadline_ends_a_call_that_waits(client: Client) -> None:
    with pytest.raises(DeadlineExceeded):
        client.rerank(QUERY, DOCUMENTS, model="reranker", deadline_s=1e-6)


def test_what_needs_an_embedding_refuses_a_cross_encoder_by_its_name(
    client: Client, web: httpx.Client
) -> None:
    words = "reranker is a cross-encoder: it scores a query with a document"
    for call in (
        lambda: client.embed(["cat"], model="reranker"),
        lambda: client.create_collection("docs", model="reranker"),
        lambda: client.fit_anomaly("normal", ["cat"] * 30, model="reranker"),
        lambda: client.fit_classifier("kinds", ["a", "b"], ["x", "y"], model="reranker"),
    ):
        with pytest.raises(NotSupported, match=words):
            call()
    refused = web.post("/v1/embeddings", json={"model": "reranker", "input": "cat"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "not_supported")
    assert words in refused.json()["error"]["message"]


def test_a_model_of_tensors_ranks_no_texts(client: Client) -> None:
    with pytest.raises(NotSupported, match="tiny-image takes image, and documents are ranked by"):
        client.rerank(QUERY, DOCUMENTS, model="tiny-image")


def test_the_models_say_which_of_them_ranks(client: Client, web: httpx.Client) -> None:
    modalities = {model.name: model.modality for model in client.info().models}
    assert modalities["reranker"] == "text_pair"
    assert web.get("/v1/models/reranker").json()["dimensions"] == []
