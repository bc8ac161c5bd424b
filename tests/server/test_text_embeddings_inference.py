"""Text Embeddings Inference's routes, as Hugging Face's client and plain HTTP call them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
from huggingface_hub import InferenceClient
from numpy.typing import NDArray

import attar
from attar.bundle import Bundle
from attar.heads import LinearClassifier
from attar.runtime import Encoder
from attar.server.rest.inference_schemas import PredictResponse
from benchmarks.support.bundles import text_files, text_manifest, tiny_cross_encoder
from benchmarks.support.servers import free_port, serving, settings

TEXTS = ["the cat sat", "blue sky", "the dog ran"]
PAIR = ["the cat", "the cat sat on the mat"]
INVALID, UNKNOWN, REFUSED = (413, "Validation"), (404, "Validation"), (424, "Backend")
MAX_ITEMS, ROWS = 30, 20
LABELS = ("cat", "sky", "dog")


def classifier(encoder: Encoder) -> LinearClassifier:
    weights = np.random.default_rng(0).normal(size=(3, encoder.dim)).astype(np.float32)
    bias = np.array([0.1, 0, -0.1], np.float32)
    return LinearClassifier(weights, bias, LABELS, 9, "exported", encoder.fingerprint)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """A text encoder with prompts, widths and a classifier in its bundle."""
    prompts = {"query": "the ", "clustering": "blue "}
    manifest = text_manifest(name="texts", dims=(8, 16), prompts=prompts, max_length=32)
    files = text_files(manifest)
    folder = tmp_path_factory.mktemp("bundles")
    bare = attar.load(Bundle.write(folder / "bare.attar", manifest, files), threads=1)
    files["heads/about.npz"] = classifier(bare).to_bytes()
    return attar.load(Bundle.write(folder / "texts.attar", manifest, files), threads=1)


@pytest.fixture(scope="module")
def loose(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """A text encoder whose embeddings have any length."""
    manifest = text_manifest(name="loose")
    output = replace(manifest.output, normalized=False)
    files = text_files(manifest)
    graph = onnx.load_from_string(files["variants/fp32.onnx"])
    graph.graph.node[-1].CopyFrom(onnx.helper.make_node("Identity", ["pooled"], ["embedding"]))
    files["variants/fp32.onnx"] = graph.SerializeToString()
    path = tmp_path_factory.mktemp("loose") / "loose.attar"
    return attar.load(Bundle.write(path, replace(manifest, output=output), files), threads=1)


@pytest.fixture(scope="module")
def url(
    encoder: Encoder, loose: Encoder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("served"), free_port()
    chosen = settings(
        encoder.bundle.path,
        tiny_cross_encoder(folder / "reranker.attar"),
        loose.bundle.path,
        data_dir=folder / "data",
        http_port=port,
        max_items=MAX_ITEMS,
        max_answer_bytes=ROWS * (48 * len(LABELS) + sum(map(len, LABELS))),
    )
    with serving(chosen):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def web(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=30) as client:
        yield client


def post(web: httpx.Client, path: str, **body: Any) -> Any:
    response = web.post(path, json={"model": "texts", **body})
    response.raise_for_status()
    return response.json()


def embedded(web: httpx.Client, **body: Any) -> NDArray[np.float32]:
    return np.array(post(web, "/embed", **body), np.float32)


def test_embed_gives_the_numbers_of_the_device(web: httpx.Client, encoder: Encoder) -> None:
    np.testing.assert_allclose(embedded(web, inputs=TEXTS), encoder.embed(TEXTS).vectors, atol=1e-6)
    one = embedded(web, inputs="blue sky", dimensions=8, prompt_name="query")
    np.testing.assert_allclose(
        one, encoder.embed(["blue sky"], dims=8, role="query").vectors, atol=1e-6
    )
    named = embedded(web, inputs=["blue sky"], prompt_name="clustering", normalize=True)
    np.testing.assert_allclose(
        named, encoder.embed(["blue sky"], role="clustering").vectors, atol=1e-6
    )


def test_the_client_of_hugging_face_embeds(encoder: Encoder, tmp_path: Path) -> None:
    port = free_port()
    chosen = settings(encoder.bundle.path, data_dir=tmp_path, http_port=port)
    with serving(chosen):
        client = InferenceClient(f"http://127.0.0.1:{port}/embed")
        found = client.feature_extraction(
            TEXTS, normalize=True, truncate=True, truncation_direction="right", dimensions=8
        )
        np.testing.assert_allclose(found, encoder.embed(TEXTS, dims=8).vectors, atol=1e-6)
        query = client.feature_extraction("blue sky", prompt_name="query")
        np.testing.assert_allclose(
            query, encoder.embed(["blue sky"], role="query").vectors, atol=1e-6
        )


def test_predict_gives_the_labels_of_a_classifier_best_first(
    web: httpx.Client, encoder: Encoder
) -> None:
    vectors, head = encoder.embed(TEXTS).vectors, classifier(encoder)
    found = post(web, "/predict", inputs=[[text] for text in TEXTS])
    probabilities = head.probabilities(vectors, fingerprint=encoder.fingerprint)
    logits = head.logits(vectors, fingerprint=encoder.fingerprint)
    raw = post(web, "/predict", inputs=[[text] for text in TEXTS], raw_scores=True)
    for answer, numbers in ((found, probabilities), (raw, logits)):
        for predictions, expected in zip(answer, numbers, strict=True):
            scores = [one["score"] for one in predictions]
            assert scores == sorted(scores, reverse=True)
            by_label = {one["label"]: one["score"] for one in predictions}
            np.testing.assert_allclose([by_label[label] for label in LABELS], expected, atol=1e-5)
    assert post(web, "/predict", inputs=TEXTS[0]) == found[0]
    for answer in (found, found[0]):
        PredictResponse.model_validate(answer)
    assert post(web, "/predict", inputs=[[TEXTS[0]]], model="texts/about") == found[:1]


def test_predict_scores_pairs_by_a_cross_encoder(web: httpx.Client) -> None:
    raw = post(web, "/predict", inputs=[PAIR], raw_scores=True, model="reranker")
    assert raw == [[{"score": 1.0, "label": "LABEL_0"}]]
    (one,) = post(web, "/predict", inputs=PAIR, model="reranker")
    ranked = post(web, "/rerank", query=PAIR[0], texts=PAIR[1:], model="reranker")
    assert one["score"] == ranked[0]["score"] == pytest.approx(1 / (1 + np.exp(-1)))


def test_embeddings_come_at_unit_length_unless_asked_otherwise(
    web: httpx.Client, loose: Encoder
) -> None:
    expected = loose.embed(TEXTS).vectors
    lengths = np.linalg.norm(expected, axis=1, keepdims=True)
    assert (lengths > 1.1).any()
    unit = embedded(web, inputs=TEXTS, model="loose")
    np.testing.assert_allclose(unit, expected / lengths, atol=1e-6)
    whole = embedded(web, inputs=TEXTS, model="loose", normalize=False)
    np.testing.assert_allclose(whole, expected, atol=1e-5)


def test_predict_holds_to_the_bytes_of_an_answer(web: httpx.Client) -> None:
    assert len(post(web, "/predict", inputs=[["cat"]] * ROWS)) == ROWS
    refused = web.post("/predict", json={"model": "texts", "inputs": [["cat"]] * (ROWS + 1)})
    assert "more than max_answer_bytes" in refused.json()["error"]


def test_info_tells_the_limits_that_clients_read(web: httpx.Client, encoder: Encoder) -> None:
    info = web.get("/info").json()
    assert info["model_id"] == "texts"
    assert info["model_type"] == {"embedding": {"pooling": "graph"}}
    assert (info["max_client_batch_size"], info["max_input_length"]) == (
        MAX_ITEMS,
        encoder.max_length,
    )


@pytest.mark.parametrize(
    ("path", "body", "expected", "words"),
    [
        ("/embed", {"inputs": ["cat"] * 31}, INVALID, "a request takes 1 to 30"),
        ("/embed", {"inputs": "cat " * 99, "truncate": False}, INVALID, "tokens"),
        ("/embed", {"inputs": "cat", "normalize": False}, INVALID, "normalize is false"),
        ("/embed", {"inputs": "cat", "model": "reranker"}, REFUSED, "is a cross-encoder"),
        ("/embed", {"inputs": "cat", "model": "none"}, UNKNOWN, "no model 'none'"),
        ("/predict", {"inputs": PAIR}, INVALID, "inputs[0] is a pair"),
        ("/predict", {"inputs": "a", "model": "reranker"}, INVALID, "is one text"),
        ("/predict", {"inputs": "a", "model": "loose"}, REFUSED, "has no classifier"),
        ("/predict", {"inputs": "a", "model": "texts/no"}, UNKNOWN, "has about"),
        ("/rerank", {"query": "cat", "texts": []}, INVALID, "texts has 0 items"),
    ],
)
def test_an_error_has_the_shape_and_status_of_text_embeddings_inference(
    web: httpx.Client, path: str, body: dict[str, Any], expected: tuple[int, str], words: str
) -> None:
    refused = web.post(path, json={"model": "texts", **body})
    status, kind = refused.status_code, refused.json()["error_type"]
    assert (status, kind) == expected
    assert words in refused.json()["error"]
