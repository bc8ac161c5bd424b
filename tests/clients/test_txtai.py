"""txtai, which embeds by LiteLLM."""

from txtai import Embeddings

from .calls import Client

PACKAGE = "txtai"


def embeddings(client: Client, model: str) -> Embeddings:
    return Embeddings(
        path=f"openai/{model}",
        method="litellm",
        vectors={"api_base": f"{client.url}/v1", "api_key": "none"},
        normalize=False,
        content=True,
    )


def test_texts_are_embedded(client: Client, texts: list[str]) -> None:
    client.same(embeddings(client, "tiny").batchtransform(texts), texts)


def test_an_index_finds_the_text(client: Client, texts: list[str]) -> None:
    index = embeddings(client, "minilm")
    index.index(texts)
    (found,) = client.call(index.search("a puppy was running", 1))
    assert found["text"] == "a dog ran"
