"""Qdrant's client with vectors that OpenAI's client fetched; it has no function for a server."""

import openai
from qdrant_client import QdrantClient, models

from .calls import Client

PACKAGE = "qdrant-client"


def test_a_collection_finds_the_text(client: Client, texts: list[str]) -> None:
    api = openai.OpenAI(base_url=f"{client.url}/v1", api_key="none")

    def embed(given: list[str]) -> list[list[float]]:
        return [one.embedding for one in api.embeddings.create(model="minilm", input=given).data]

    store = QdrantClient(":memory:")
    store.create_collection("texts", models.VectorParams(size=384, distance=models.Distance.COSINE))
    points = [
        models.PointStruct(id=number, vector=vector, payload={"text": text})
        for number, (text, vector) in enumerate(zip(texts, embed(texts), strict=True))
    ]
    store.upsert("texts", points)
    kept, _ = store.scroll("texts", with_vectors=True)
    client.same([point.vector for point in kept], texts, model="minilm")
    (query,) = embed(["a puppy was running"])
    (found,) = client.call(store.query_points("texts", query, limit=1)).points
    assert found.payload == {"text": "a dog ran"}
