"""A server uses the heads of a bundle as it uses those that it fitted."""

from collections.abc import AsyncIterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

import attar
from attar import Client
from attar.bundle import Bundle
from attar.errors import InvalidInput, LimitReached, NotFound
from attar.heads import KnnAnomaly, LinearClassifier
from attar.runtime import read_heads
from attar.server.collections.edge_process import StoreProcess
from attar.server.engine.models import Models
from attar.server.limits.working_memory import WorkingMemory
from attar.server.request_context import RequestContext, answering
from attar.server.usecases.anomaly import Anomaly
from attar.server.usecases.classification import Classification
from attar.server.usecases.collections import Collections
from benchmarks.support.bundles import tiny_bundle
from benchmarks.support.servers import serving, settings

from ...support.models import make, started

TEXTS = ["the cat sat", "blue sky", "the dog ran"]


@pytest.fixture(scope="module")
def headed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a bundle with a classifier, a detector, and arrays that are no head."""
    folder = tmp_path_factory.mktemp("headed")
    bare = Bundle.open(tiny_bundle(folder / "bare.attar"))
    encoder = attar.load(bare, threads=1)
    vectors = encoder.embed([f"the cat sat on {i}" for i in range(40)]).vectors
    space = encoder.fingerprint
    weights = np.random.default_rng(0).normal(size=(2, encoder.dim)).astype(np.float32)
    bias = np.zeros(2, np.float32)
    classifier = LinearClassifier(weights, bias, ("cat", "sky"), 9, "exported", space)
    detector = KnnAnomaly.fit(vectors, model="exported", fingerprint=space)
    np.savez(folder / "other.npz", x=np.ones(3))
    files = {entry.path: bare.read(entry.path) for entry in bare.manifest.files}
    heads = {
        "heads/about.npz": classifier.to_bytes(),
        "heads/normal.npz": detector.to_bytes(),
        "heads/other.npz": (folder / "other.npz").read_bytes(),
    }
    return Bundle.write(folder / "headed.attar", bare.manifest, {**files, **heads}).path


@pytest_asyncio.fixture
async def models(headed: Path) -> AsyncIterator[Models]:
    async with started(make(headed, heads=read_heads(Bundle.open(headed)))) as together:
        yield together


async def test_predict_takes_the_classifier_of_a_bundle(
    headed: Path, models: Models, tmp_path: Path
) -> None:
    (model,) = models
    classification = Classification(tmp_path, models)
    predicted = await classification.predict(f"{model.name}/about", items=TEXTS)
    encoder = attar.load(headed, threads=1)
    assert encoder.heads.keys() == {"about", "normal"}
    head = encoder.heads["about"]
    assert isinstance(head, LinearClassifier)
    vectors = encoder.embed(TEXTS).vectors
    expected = head.probabilities(vectors, fingerprint=encoder.fingerprint)
    np.testing.assert_allclose(predicted.probabilities, expected, atol=1e-5)
    assert predicted.classes == ("cat", "sky")
    (listed,) = await classification.list()
    assert (listed.name, listed.model) == (f"{model.name}/about", model.name)
    assert await classification.get(listed.name) == listed


async def test_score_takes_the_detector_of_a_bundle(models: Models, tmp_path: Path) -> None:
    (model,) = models
    collections = Collections(StoreProcess(tmp_path / "collections"), models)
    anomaly = Anomaly(tmp_path, models, collections)
    try:
        items = ["the cat sat on 3", "blue sky red sun"]
        scored = await anomaly.score(f"{model.name}/normal", items=items)
        listed = await anomaly.list()
    finally:
        await collections.close()
    assert scored.anomalies.tolist() == [False, True]
    assert [detector.name for detector in listed] == [f"{model.name}/normal"]


async def test_a_head_of_a_bundle_is_not_deleted_and_one_that_is_not_there_is_named(
    models: Models, tmp_path: Path
) -> None:
    (model,) = models
    classification = Classification(tmp_path, models)
    with pytest.raises(InvalidInput, match="is part of the bundle of its model"):
        await classification.delete(f"{model.name}/about")
    for name in ("normal", "none"):  # a detector is no classifier
        with pytest.raises(NotFound, match=rf"no classifier '{name}'; it has about"):
            await classification.predict(f"{model.name}/{name}", items=TEXTS)
    with pytest.raises(NotFound, match="nothing"):
        await classification.predict("nothing/about", items=TEXTS)
    with pytest.raises(InvalidInput, match="a classifier's name has"):
        await classification.fit(f"{model.name}/new", items=TEXTS, labels=["a", "b", "a"])


def test_a_client_classifies_by_the_classifier_of_a_bundle(headed: Path, tmp_path: Path) -> None:
    name = f"{Bundle.open(headed).manifest.name}/about"
    with serving(settings(headed, data_dir=tmp_path)) as target, Client(target) as client:
        assert set(client.classify(name, TEXTS).labels) <= {"cat", "sky"}
        assert [classifier.name for classifier in client.classifiers()] == [name]


def test_heads_in_bundles_have_so_many_bytes_together_and_no_more(
    headed: Path, tmp_path: Path
) -> None:
    bundle, models = Bundle.open(headed), tmp_path / "models"
    name, size = bundle.manifest.name, sum(entry.bytes for entry in bundle.head_files)
    models.mkdir()
    served = partial(settings, model_repository=models, data_dir=tmp_path / "data", watch_s=0)
    with serving(served(max_heads_bytes=size)) as target, Client(target) as client:
        headed.rename(models / "headed.attar")
        try:
            client.load_model(name)
            client.set_variant(name, "fp32")  # the same heads count once
            assert client.classify(f"{name}/about", TEXTS).errors == (None,) * 3
            with pytest.raises(LimitReached, match=f"more would have .* have {size} of max_heads"):
                client.fit_classifier("more", ["cat", "sun"], ["animal", "sky"])
            client.unload_model(name)
            client.load_model(name)
            client.unload_model(name)
        finally:
            (models / "headed.attar").rename(headed)

    beyond = (
        f"the heads in the bundle of model {name} would have {size} bytes, and the heads that are "
        f"there have 0 of max_heads_bytes, {size - 1}; delete one, serve the bundle without them, "
    )
    one_less = settings(headed, data_dir=tmp_path / "data", max_heads_bytes=size - 1)
    with pytest.raises(LimitReached, match=beyond), serving(one_less):
        pass


async def test_heads_of_a_bundle_are_held_to_the_limits_of_those_that_were_fitted(
    headed: Path, tmp_path: Path
) -> None:
    encoder = attar.load(headed, threads=1)
    detector, weights = encoder.heads["normal"], np.ones((2, encoder.dim), np.float32)
    assert isinstance(detector, KnnAnomaly)
    references = np.repeat(detector.references, 10, axis=0)
    many = replace(detector, references=references, neighbours=101)
    labels = ("a" * 1000, "\u4e2d" * 1000)
    wide = LinearClassifier(weights, np.zeros(2, np.float32), labels, 2, "m", encoder.fingerprint)
    size = 2 * 4 + 1000 + 3000
    work = size + 8 * weights.size + 24 * 2
    for answer_bytes, working_bytes, refusal in (
        (size, work, ""),
        (size - 1, work, f"would have {size} bytes, more than max_answer_bytes, {size - 1}"),
        (size, work - 1, f"more than max_working_bytes, {work - 1}"),
    ):
        model = make(headed, heads={"many": many, "wide": wide}, max_answer_bytes=answer_bytes)
        call = RequestContext(rpc="", request_id="", working=WorkingMemory(working_bytes))
        async with started(model) as models:
            classification = Classification(tmp_path, models)
            expected = pytest.raises(InvalidInput, match=refusal) if refusal else nullcontext()
            with answering(call), expected:
                await classification.predict(f"{model.name}/wide", items=["the cat"])

    async with started(make(headed, heads={"many": many})) as models:
        collections = Collections(StoreProcess(tmp_path / "collections"), models)
        anomaly = Anomaly(tmp_path, models, collections)
        try:
            with pytest.raises(InvalidInput, match="neighbours is 101; a served detector takes"):
                await anomaly.score(f"{model.name}/many", items=TEXTS)
        finally:
            await collections.close()
