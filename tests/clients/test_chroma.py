"""Chroma's OpenAIEmbeddingFunction."""

import chromadb
import pytest
from chromadb.utils.embedding_functions import OpenAIEmbeddingFunction

from .calls import Client

PACKAGE = "chromadb"


def function(client: Client, model: str) -> OpenAIEmbeddingFunction:
    return OpenAIEmbeddingFunction(model_name=model, api_base=f"{client.url}/v1")


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMA_OPENAI_API_KEY", "none")


@pytest.mark.parametrize("role", ["passage", "query"])
def test_the_function_embeds_texts(client: Client, texts: list[str], role: str) -> None:
    client.same(function(client, f"tiny:{role}")(texts), texts, role=role)


def test_a_collection_finds_the_text(client: Client, texts: list[str]) -> None:
    database = chromadb.EphemeralClient()
    collection = database.create_collection("texts", embedding_function=function(client, "minilm"))
    collection.add(ids=["0", "1", "2", "3"], documents=texts)
    kept = collection.get(include=["embeddings"])["embeddings"]
    client.same(kept, texts, model="minilm")
    found = client.call(collection.query(query_texts=["a puppy was running"], n_results=1))
    assert found["documents"] == [["a dog ran"]]
