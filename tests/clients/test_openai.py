"""OpenAI's own client."""

from typing import Any

import openai
import pytest

from .calls import Client

PACKAGE = "openai"


@pytest.fixture
def api(client: Client) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{client.url}/v1", api_key="none", max_retries=0)


def vectors(answer: Any) -> list[Any]:
    return [one.embedding for one in answer.data]


@pytest.mark.parametrize("chosen", [{}, {"encoding_format": "float"}])
@pytest.mark.parametrize("model", ["tiny", "minilm"])
def test_vectors_are_a_devices_in_either_format(
    client: Client, api: Any, texts: list[str], model: str, chosen: Any
) -> None:
    answer = api.embeddings.create(model=model, input=texts, **chosen)
    client.same(vectors(answer), texts, model=model)
    assert answer.model == model
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0


async def test_the_asynchronous_client_is_answered_the_same(
    client: Client, texts: list[str]
) -> None:
    async with openai.AsyncOpenAI(base_url=f"{client.url}/v1", api_key="none") as api:
        client.same(vectors(await api.embeddings.create(model="tiny", input=texts)), texts)


@pytest.mark.parametrize("role", ["query", "passage", "Clustering"])
def test_an_alias_chooses_the_prompt(client: Client, api: Any, texts: list[str], role: str) -> None:
    answer = api.embeddings.create(model=f"tiny:{role}", input=texts)
    client.same(vectors(answer), texts, role=role)


def test_a_width_is_chosen(client: Client, api: Any, texts: list[str]) -> None:
    answer = api.embeddings.create(model="tiny", input=texts, dimensions=8)
    client.same(vectors(answer), texts, dims=8)


def test_one_text_is_taken_alone(client: Client, api: Any, texts: list[str]) -> None:
    client.same(vectors(api.embeddings.create(model="tiny", input=texts[0])), texts[:1])


def test_models_are_listed_and_described(client: Client, api: Any) -> None:
    names = [model.id for model in client.call(api.models.list())]
    assert {"tiny", "minilm", "reranker"} <= set(names)
    assert client.call(api.models.retrieve("tiny")).id == "tiny"


@pytest.mark.parametrize(
    ("asked", "error", "match"),
    [
        ({"model": "gpt", "input": "a"}, openai.NotFoundError, "no model 'gpt'"),
        ({"model": "tiny:reader", "input": "a"}, openai.BadRequestError, "role must be one of"),
        ({"model": "tiny", "input": "cat " * 40}, openai.BadRequestError, "item 0 has 43 tokens"),
        ({"model": "tiny", "input": "a", "dimensions": 7}, openai.BadRequestError, "dimensions"),
        ({"model": "tiny", "input": [[464, 3797]]}, openai.BadRequestError, "token id"),
        ({"model": "tiny", "input": []}, openai.BadRequestError, "input has 0 items"),
    ],
)
def test_a_wrong_request_ends_in_the_clients_own_error(
    client: Client, api: Any, asked: Any, error: type[Exception], match: str
) -> None:
    client.refused(lambda: api.embeddings.create(**asked), error=error, match=match)
