"""Voyage's client; its reranking has another shape than `/v1/rerank`, and is not spoken."""

import pytest
import voyageai

from .calls import Client

PACKAGE = "voyageai"


@pytest.mark.parametrize(
    ("input_type", "role"), [(None, "passage"), ("document", "passage"), ("query", "query")]
)
def test_texts_are_embedded_by_their_input_type(
    client: Client, texts: list[str], input_type: str | None, role: str
) -> None:
    api = voyageai.Client(api_key="none", base_url=f"{client.url}/v1")
    client.same(api.embed(texts, model="tiny", input_type=input_type).embeddings, texts, role=role)
    answer = api.embed(texts, model="tiny", input_type=input_type, output_dimension=8)
    client.same(answer.embeddings, texts, role=role, dims=8)
