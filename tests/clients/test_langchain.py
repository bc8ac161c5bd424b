"""LangChain's OpenAIEmbeddings."""

from typing import Any

import openai
import pytest
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_openai import OpenAIEmbeddings

from .calls import Client

PACKAGE = "langchain-openai"


def embeddings(client: Client, model: str = "tiny", **chosen: Any) -> OpenAIEmbeddings:
    return OpenAIEmbeddings(
        model=model,
        base_url=f"{client.url}/v1",
        api_key="none",
        **{"check_embedding_ctx_length": False, **chosen},
    )


def test_documents_and_a_query_are_embedded(client: Client, texts: list[str]) -> None:
    client.same(embeddings(client).embed_documents(texts), texts)
    client.same(embeddings(client, "tiny:query").embed_query(texts[0]), texts[:1], role="query")
    client.same(embeddings(client, dimensions=8).embed_documents(texts), texts, dims=8)
    client.same(embeddings(client, "minilm").embed_documents(texts), texts, model="minilm")


async def test_they_are_embedded_asynchronously(client: Client, texts: list[str]) -> None:
    client.same(await embeddings(client).aembed_documents(texts), texts)


def test_texts_go_in_chunks_and_come_back_in_order(client: Client, texts: list[str]) -> None:
    many = [f"{text} {number}" for number in range(5) for text in texts]
    client.same(embeddings(client, chunk_size=3).embed_documents(many), many)


def test_a_vector_store_finds_the_text(client: Client, texts: list[str]) -> None:
    store = InMemoryVectorStore.from_texts(texts, embeddings(client, "minilm"))
    (found,) = client.call(store.similarity_search("a puppy was running", k=1))
    assert found.page_content == "a dog ran"


@pytest.mark.parametrize("model", ["tiny", "minilm"])
def test_ids_of_tiktoken_are_refused_and_never_embedded_as_other_text(
    client: Client, texts: list[str], model: str
) -> None:
    client.refused(
        lambda: embeddings(client, model, check_embedding_ctx_length=True).embed_documents(texts),
        error=openai.BadRequestError,
        match="check_embedding_ctx_length=False",
    )
