"""Hugging Face's InferenceClient, by the routes of Text Embeddings Inference."""

from huggingface_hub import InferenceClient

from .calls import Client

PACKAGE = "huggingface_hub"


def test_texts_are_embedded(client: Client, texts: list[str]) -> None:
    api = InferenceClient(f"{client.alone}/embed")
    client.same(api.feature_extraction(texts), texts)
    client.same(api.feature_extraction(texts, prompt_name="query"), texts, role="query")
