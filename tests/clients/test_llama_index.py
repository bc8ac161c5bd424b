"""LlamaIndex's OpenAIEmbedding."""

from typing import Any

from llama_index.embeddings.openai import OpenAIEmbedding

from .calls import Client

PACKAGE = "llama-index-embeddings-openai"


def embedding(client: Client, model: str = "tiny", **chosen: Any) -> OpenAIEmbedding:
    return OpenAIEmbedding(model_name=model, api_base=f"{client.url}/v1", api_key="none", **chosen)


def test_texts_are_embedded_alone_and_in_batches(client: Client, texts: list[str]) -> None:
    client.same(embedding(client).get_text_embedding(texts[0]), texts[:1])
    client.same(embedding(client, embed_batch_size=3).get_text_embedding_batch(texts), texts)
    client.same(embedding(client, "minilm").get_text_embedding_batch(texts), texts, model="minilm")
    client.same(embedding(client, dimensions=8).get_text_embedding_batch(texts), texts, dims=8)


def test_a_query_has_the_prompt_of_its_alias(client: Client, texts: list[str]) -> None:
    given = embedding(client, "tiny:query").get_query_embedding(texts[0])
    client.same(given, texts[:1], role="query")


async def test_they_are_embedded_asynchronously(client: Client, texts: list[str]) -> None:
    client.same(await embedding(client).aget_text_embedding_batch(texts), texts)
