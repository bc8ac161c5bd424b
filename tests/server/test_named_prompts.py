"""A text gets any prompt that its model names, by every protocol; another name is refused."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

import attar
from benchmarks.support.bundles import tiny_bundle
from benchmarks.support.servers import free_port, serving, settings

PROMPTS = {"query": "the sun ", "passage": "", "Clustering": "rain rain cat "}
TEXT = "a dog"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("prompts") / "tiny.attar", prompts=PROMPTS)


@pytest.fixture(scope="module")
def served(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    port = free_port()
    data_dir = tmp_path_factory.mktemp("prompts-server")
    with serving(settings(bundle, data_dir=data_dir, http_port=port)) as target:
        yield target, f"http://127.0.0.1:{port}"


def expected(bundle: Path, role: str) -> NDArray[np.float32]:
    vectors: NDArray[np.float32] = attar.load(bundle, threads=1).embed([TEXT], role=role).vectors
    return vectors


@pytest.mark.parametrize("role", PROMPTS)
def test_a_prompt_is_chosen_by_its_name(role: str, bundle: Path, served: tuple[str, str]) -> None:
    target, url = served
    by_prompt = expected(bundle, "passage" if role != "passage" else "query")
    own = expected(bundle, role)
    assert np.abs(own - by_prompt).max() > 0.01

    with attar.Client(target) as client:
        np.testing.assert_allclose(client.embed([TEXT], role=role).vectors, own, atol=1e-6)
    for body in ({"model": "tiny", "role": role}, {"model": f"tiny:{role}"}):
        answer = httpx.post(f"{url}/v1/embeddings", json={**body, "input": TEXT}).json()
        np.testing.assert_allclose([answer["data"][0]["embedding"]], own, atol=1e-6)
        assert answer["model"] == "tiny"
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": [TEXT]}
    asked = {"inputs": [tensor], "parameters": {"role": role}}
    answer = httpx.post(f"{url}/v2/models/tiny/infer", json=asked).json()
    given = next(one["data"] for one in answer["outputs"] if one["name"] == "embedding")
    np.testing.assert_allclose([given], own, atol=1e-6)


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({"model": "tiny:reader"}, "model", "must be one of passage, query, Clustering"),
        ({"model": "tiny", "role": "reader"}, "role", "must be one of passage, query, Clustering"),
        ({"model": "tiny:query", "role": "passage"}, None, "give the role once"),
        ({"model": "big:query"}, None, "no model 'big'"),
    ],
)
def test_another_name_is_refused_over_http(
    body: dict[str, str], param: str | None, message: str, served: tuple[str, str]
) -> None:
    answer = httpx.post(f"{served[1]}/v1/embeddings", json={**body, "input": TEXT})
    assert answer.status_code in (400, 404)
    error = answer.json()["error"]
    assert message in error["message"]
    assert param in (None, error["param"])


def test_another_name_is_refused_over_grpc(served: tuple[str, str]) -> None:
    with (
        attar.Client(served[0]) as client,
        pytest.raises(attar.InvalidInput, match="must be one of passage, query, Clustering"),
    ):
        client.embed([TEXT], role="reader")
