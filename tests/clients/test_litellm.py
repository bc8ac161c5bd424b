"""LiteLLM, which calls many services by one function."""

from typing import Any

import litellm
import pytest

from .calls import Client

PACKAGE = "litellm"


@pytest.fixture
def chosen(client: Client) -> dict[str, Any]:
    return {"api_base": f"{client.url}/v1", "api_key": "none"}


def vectors(answer: Any) -> list[Any]:
    return [one["embedding"] for one in answer.data]


@pytest.mark.parametrize("model", ["tiny", "minilm"])
def test_texts_are_embedded(client: Client, chosen: Any, texts: list[str], model: str) -> None:
    answer = litellm.embedding(model=f"openai/{model}", input=texts, **chosen)
    client.same(vectors(answer), texts, model=model)


def test_an_alias_chooses_the_prompt_and_a_width_is_chosen(
    client: Client, chosen: Any, texts: list[str]
) -> None:
    answer = litellm.embedding(
        model="openai/tiny:query",
        input=texts,
        dimensions=8,
        allowed_openai_params=["dimensions"],  # else it sends it for text-embedding-3 alone
        **chosen,
    )
    client.same(vectors(answer), texts, role="query", dims=8)


async def test_they_are_embedded_asynchronously(
    client: Client, chosen: Any, texts: list[str]
) -> None:
    answer = await litellm.aembedding(model="openai/tiny", input=texts, **chosen)
    client.same(vectors(answer), texts)


def test_an_unknown_model_is_litellms_own_error(client: Client, chosen: Any) -> None:
    client.refused(
        lambda: litellm.embedding(model="openai/gpt", input=["a"], **chosen),
        error=litellm.NotFoundError,
        match="no model 'gpt'",
    )


@pytest.mark.parametrize(("service", "path"), [("cohere", "/v2/rerank"), ("jina_ai", "/v1")])
def test_documents_are_reranked(client: Client, texts: list[str], service: str, path: str) -> None:
    answer = litellm.rerank(
        model=f"{service}/reranker",
        query="a dog ran",
        documents=texts,
        api_base=f"{client.url}{path}",
        api_key="none",
    )
    assert client.call(answer).results[0]["index"] == 1
