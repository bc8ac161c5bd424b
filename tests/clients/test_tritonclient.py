"""Triton's clients, over gRPC and over HTTP."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http

from .calls import Client

PACKAGE = "tritonclient"


@pytest.fixture(params=[tritonclient.grpc, tritonclient.http], ids=["grpc", "http"])
def library(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def api(client: Client, library: Any) -> Iterator[Any]:
    grpc = library is tritonclient.grpc
    with library.InferenceServerClient(
        client.target if grpc else client.url.removeprefix("http://")
    ) as api:
        yield api


@pytest.mark.parametrize("role", ["passage", "query"])
def test_texts_are_embedded(
    client: Client, library: Any, api: Any, texts: list[str], role: str
) -> None:
    tensor = library.InferInput("text", [len(texts), 1], "BYTES")
    tensor.set_data_from_numpy(np.array(texts, object)[:, None])
    answer = api.infer("tiny", [tensor], parameters={"role": role})
    client.same(answer.as_numpy("embedding"), texts, role=role)


def test_the_server_and_its_models_are_ready(client: Client, api: Any) -> None:
    assert client.call(api.is_server_live())
    assert client.call(api.is_server_ready())
    assert client.call(api.is_model_ready("tiny"))


def test_an_unknown_model_is_tritons_own_error(
    client: Client, library: Any, api: Any, texts: list[str]
) -> None:
    tensor = library.InferInput("text", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([["a"]], object))
    client.refused(
        lambda: api.infer("gpt", [tensor]),
        error=tritonclient.utils.InferenceServerException,
        match="no model 'gpt'",
    )
