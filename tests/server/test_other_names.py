"""Embeddings in the words of Cohere's and Voyage's clients are those of the device."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

import attar
from benchmarks.support.bundles import tiny_bundle
from benchmarks.support.servers import free_port, serving, settings

TEXTS = ["the cat sat", "blue sky"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    prompts = {"query": "the sun ", "passage": "rain ", "clustering": "red "}
    folder = tmp_path_factory.mktemp("names")
    return tiny_bundle(folder / "tiny.attar", prompts=prompts, dims=(8, 16))


@pytest.fixture(scope="module")
def web(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    port = free_port()
    chosen = settings(bundle, data_dir=tmp_path_factory.mktemp("names-server"), http_port=port)
    with serving(chosen), httpx.Client(base_url=f"http://127.0.0.1:{port}") as web:
        yield web


def expected(bundle: Path, role: str, dims: int | None = None) -> NDArray[np.float32]:
    encoder = attar.load(bundle, threads=1)
    return encoder.embed(TEXTS, role=role, dims=dims).vectors


@pytest.mark.parametrize(
    ("asked", "role", "dims"),
    [
        ({}, "passage", None),
        ({"input_type": "search_document"}, "passage", None),
        ({"input_type": "search_query", "output_dimension": 8}, "query", 8),
        ({"input_type": "clustering"}, "clustering", None),
    ],
)
def test_cohere_gets_the_prompt_of_its_input_type(
    web: httpx.Client, bundle: Path, asked: dict[str, Any], role: str, dims: int | None
) -> None:
    body = {"model": "tiny", "texts": TEXTS, **asked}
    answer = web.post("/v2/embed", json=body).json()
    packed = web.post("/v2/embed", json={**body, "embedding_types": ["base64"]}).json()

    own = expected(bundle, role, dims)
    np.testing.assert_allclose(answer["embeddings"]["float"], own, atol=1e-6)
    unpacked = [np.frombuffer(base64.b64decode(x), "<f4") for x in packed["embeddings"]["base64"]]
    np.testing.assert_allclose(unpacked, own, atol=1e-6)


@pytest.mark.parametrize(("input_type", "role"), [("query", "query"), ("document", "passage")])
def test_voyage_gets_the_prompt_of_its_input_type(
    web: httpx.Client, bundle: Path, input_type: str, role: str
) -> None:
    body = {"model": "tiny", "input": TEXTS, "input_type": input_type, "output_dimension": 8}
    answer = web.post("/v1/embeddings", json=body).json()

    given = [one["embedding"] for one in answer["data"]]
    np.testing.assert_allclose(given, expected(bundle, role, 8), atol=1e-6)


def test_voyages_truncation_cuts_and_refuses(web: httpx.Client) -> None:
    body = {"model": "tiny", "input": "cat " * 99}
    cut = web.post("/v1/embeddings", json={**body, "truncation": True})
    refused = web.post("/v1/embeddings", json={**body, "truncation": False})

    assert cut.json()["data"][0]["truncated"]
    assert refused.status_code == 400
