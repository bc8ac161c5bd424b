"""Cohere's client, version 2 of its API."""

from typing import Any

import cohere
import pytest

from .calls import Client

PACKAGE = "cohere"


@pytest.fixture
def api(client: Client) -> cohere.ClientV2:
    return cohere.ClientV2(api_key="none", base_url=client.url)


def test_documents_are_reranked(client: Client, api: Any, texts: list[str]) -> None:
    answer = api.rerank(model="reranker", query="a dog ran", documents=texts, top_n=2)
    first, second = client.call(answer).results
    assert first.index == 1
    assert first.relevance_score >= second.relevance_score


def test_an_unknown_model_is_coheres_own_error(client: Client, api: Any, texts: list[str]) -> None:
    client.refused(
        lambda: api.rerank(model="gpt", query="a", documents=texts),
        error=cohere.NotFoundError,
        match="no model 'gpt'",
    )


@pytest.mark.parametrize(
    ("input_type", "role"), [("search_document", "passage"), ("search_query", "query")]
)
def test_texts_are_embedded_by_their_input_type(
    client: Client, api: Any, texts: list[str], input_type: str, role: str
) -> None:
    asked = {"model": "tiny", "texts": texts, "input_type": input_type}
    answer = api.embed(**asked, embedding_types=["float"])
    client.same(answer.embeddings.float_, texts, role=role)
    answer = api.embed(**asked, embedding_types=["float"], output_dimension=8)
    client.same(answer.embeddings.float_, texts, role=role, dims=8)
