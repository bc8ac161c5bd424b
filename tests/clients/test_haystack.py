"""Haystack's embedders of OpenAI's API."""

from typing import Any

from haystack import Document, Pipeline
from haystack.components.embedders import OpenAIDocumentEmbedder, OpenAITextEmbedder
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.utils import Secret

from .calls import Client

PACKAGE = "haystack-ai"


def chosen(client: Client, model: str) -> dict[str, Any]:
    return {
        "model": model,
        "api_base_url": f"{client.url}/v1",
        "api_key": Secret.from_token("none"),
    }


def test_documents_and_a_query_are_embedded(client: Client, texts: list[str]) -> None:
    documents = [Document(content=text) for text in texts]
    embedded = OpenAIDocumentEmbedder(**chosen(client, "tiny")).run(documents)["documents"]
    client.same([document.embedding for document in embedded], texts)
    query = OpenAITextEmbedder(**chosen(client, "tiny:query")).run(texts[0])["embedding"]
    client.same(query, texts[:1], role="query")


async def test_they_are_embedded_asynchronously(client: Client, texts: list[str]) -> None:
    query = await OpenAITextEmbedder(**chosen(client, "tiny")).run_async(texts[0])
    client.same(query["embedding"], texts[:1])


def test_a_pipeline_finds_the_document(client: Client, texts: list[str]) -> None:
    store = InMemoryDocumentStore()
    documents = [Document(content=text) for text in texts]
    embedder = OpenAIDocumentEmbedder(**chosen(client, "minilm"))
    store.write_documents(embedder.run(documents)["documents"])
    pipeline = Pipeline()
    pipeline.add_component("embedder", OpenAITextEmbedder(**chosen(client, "minilm")))
    pipeline.add_component("retriever", InMemoryEmbeddingRetriever(store, top_k=1))
    pipeline.connect("embedder.embedding", "retriever.query_embedding")
    answer = client.call(pipeline.run({"embedder": {"text": "a puppy was running"}}))
    assert answer["retriever"]["documents"][0].content == "a dog ran"
