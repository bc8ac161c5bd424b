"""Use cases: embed, search, detect and classify, each in one space and each bad item alone."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from sklearn.linear_model import LogisticRegression

from attar.encodings import Encoding
from attar.errors import (
    AlreadyExists,
    BackendError,
    InputTooLong,
    InvalidInput,
    NotFound,
    NotSupported,
    SpaceMismatch,
    Unavailable,
)
from attar.server.collections.edge_process import StoreProcess
from attar.server.engine.models import Models
from attar.server.usecases.anomaly import Anomaly
from attar.server.usecases.classification import Classification
from attar.server.usecases.collections import Collection, Collections
from attar.server.usecases.embed import embed
from benchmarks.support.bundles import tiny_bundle, tiny_tensor_bundle

from ...support.models import make, started

LONG = "cat " * 40
WEATHER = ["the sun", "blue sky", "rain", "the rain and the sky", "red sun", "sky blue rain"] * 5
ANIMALS = ["the cat", "a dog ran", "cat on the mat", "the dog sat", "dog", "cat sat"] * 5


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return {
        "tiny": tiny_bundle(folder / "tiny.attar", dims=(8, 16)),
        "retrained": tiny_bundle(folder / "retrained.attar", dims=(8, 16), seed=1),
        "image": tiny_tensor_bundle(folder / "image.attar"),
    }


@pytest_asyncio.fixture
async def models(bundles: dict[str, Path]) -> AsyncIterator[Models]:
    async with started(make(bundles["tiny"])) as together:
        yield together


@pytest_asyncio.fixture
async def retrained(bundles: dict[str, Path]) -> AsyncIterator[Models]:
    """Give a server whose model has kept its name and changed its space."""
    async with started(make(bundles["retrained"])) as together:
        yield together


@pytest_asyncio.fixture
async def collections(models: Models, tmp_path: Path) -> AsyncIterator[Collections]:
    opened = Collections(StoreProcess(tmp_path / "collections"), models)
    yield opened
    await opened.close()


# ------------------------------------------------------------------------------ embed


@pytest.mark.parametrize("encoding", ["f32", "f16", "int8", "binary"])
@pytest.mark.parametrize("dims", [None, 8])
async def test_embed_gives_the_encoder_s_rows(
    models: Models, encoding: Encoding, dims: int | None
) -> None:
    found = await embed(models, items=WEATHER, dims=dims, encoding=encoding)
    device = models[""].encoder.embed(WEATHER, dims=dims, encoding=encoding)
    assert found.vectors.dtype == device.vectors.dtype
    assert found.dims == device.dims
    close = np.abs(found.vectors.astype(float) - device.vectors.astype(float)).max()
    assert close <= (1 if encoding == "int8" else 2e-3 if encoding == "f16" else 1e-6)
    assert [item.tokens for item in found.items] == device.tokens.tolist()
    assert min(found.queue_s, found.tokenize_s, found.infer_s) > 0


async def test_bad_items_fail_alone_and_their_rows_are_zeros(models: Models) -> None:
    items = [LONG, "the cat", "\ud800", "sun"]
    found = await embed(models, items=items, truncation="error", encoding="int8")
    assert isinstance(found.items[0].error, InputTooLong)
    assert isinstance(found.items[2].error, InvalidInput)
    assert found.good == [1, 3]
    assert not found.vectors[[0, 2]].any()
    assert found.vectors[[1, 3]].any(axis=1).all()
    cut = await embed(models, items=items[:2])
    assert [item.truncated for item in cut.items] == [True, False]
    none = await embed(models, items=["\ud800"])
    assert none.vectors.shape == (1, 16)


async def test_a_row_that_overflows_fails_alone(bundles: dict[str, Path]) -> None:
    async with started(make(bundles["image"])) as models:
        images = np.ones((3, 1, 8, 8), np.float32)
        images[1] = 3e38
        found = await embed(models, items=images)
        assert [type(item.error) for item in found.items][1] is BackendError
        assert found.good == [0, 2]


async def test_embed_refuses_what_the_model_cannot_give(
    models: Models, bundles: dict[str, Path]
) -> None:
    with pytest.raises(InvalidInput, match=r"\[8, 16\]; got 5"):
        await embed(models, items=["a"], dims=5)
    with pytest.raises(NotFound, match="this server has tiny"):
        await embed(models, items=["a"], model="other")
    async with started(make(bundles["image"])) as images:
        with pytest.raises(NotSupported):
            await embed(images, items=np.ones((1, 1, 8, 8), np.float32), encoding="int8")


# ------------------------------------------------------------------------------ search


async def test_a_text_finds_itself(collections: Collections, models: Models) -> None:
    info = await collections.create("notes", dims=8)
    space = models[""].encoder.fingerprint
    assert info == Collection("notes", "tiny", space, 8, 0)
    texts = sorted({*WEATHER, *ANIMALS})
    done = await collections.upsert(
        "notes", ids=range(len(texts)), items=texts, payloads=[{"text": text} for text in texts]
    )
    assert done.fingerprint == space
    found = await collections.search("notes", items=texts, limit=1)
    assert [hits[0].payload for hits in found.hits] == [{"text": text} for text in texts]
    np.testing.assert_allclose([hits[0].score for hits in found.hits], 1, atol=1e-5)
    some = await collections.search("notes", items=["sun"], filter={"text": ["dog", "rain"]})
    assert {texts[int(hit.id)] for hit in some.hits[0]} == {"dog", "rain"}
    assert await collections.count("notes", filter={"text": "dog"}) == 1
    (point,) = (await collections.retrieve("notes", [3], with_vectors=True)).points
    assert point.payload == {"text": texts[3]}
    await collections.delete_points("notes", [3])
    assert (await collections.get("notes")).points == len(texts) - 1


async def test_an_item_that_cannot_be_embedded_is_the_only_one_not_stored(
    collections: Collections,
) -> None:
    await collections.create("notes")
    done = await collections.upsert(
        "notes", ids=[1, 2, 3], items=["cat", LONG, "sun"], truncation="error"
    )
    assert [type(item.error) for item in done.items] == [type(None), InputTooLong, type(None)]
    assert [point.id for point in (await collections.retrieve("notes", [1, 2, 3])).points] == [1, 3]
    found = await collections.search("notes", items=[LONG, "cat"], truncation="error", limit=1)
    assert [[hit.id for hit in hits] for hits in found.hits] == [[], [1]]


async def test_vectors_come_with_the_fingerprint_of_the_collection_s_space(
    collections: Collections, models: Models
) -> None:
    info = await collections.create("notes")
    vectors = models[""].encoder.embed(["cat", "sun"]).vectors
    good: dict[str, Any] = {"vectors": vectors, "fingerprint": info.fingerprint}
    await collections.upsert("notes", ids=[1, 2], **good)
    assert [h[0].id for h in (await collections.search("notes", **good)).hits] == [1, 2]
    for call in (
        lambda **given: collections.upsert("notes", ids=[3, 4], **given),
        lambda **given: collections.search("notes", **given),
    ):
        with pytest.raises(InvalidInput, match="fingerprint of their space"):
            await call(vectors=vectors)
        with pytest.raises(SpaceMismatch, match="the vectors are of sha256:other"):
            await call(vectors=vectors, fingerprint="sha256:other")
        with pytest.raises(InvalidInput, match="either items to embed or vectors"):
            await call(items=["a", "b"], **good)
        with pytest.raises(InvalidInput, match="either items to embed or vectors"):
            await call()
    assert await collections.count("notes") == 2


async def test_a_model_whose_space_has_changed_is_refused(
    models: Models, retrained: Models, tmp_path: Path
) -> None:
    before = Collections(StoreProcess(tmp_path / "collections"), models)
    info = await before.create("notes")
    await before.upsert("notes", ids=[1], items=["cat"])
    vectors = models[""].encoder.embed(["cat"]).vectors
    await before.close()
    after = Collections(StoreProcess(tmp_path / "collections"), retrained)
    try:
        assert await after.list() == (Collection("notes", "tiny", info.fingerprint, 16, 1),)
        with pytest.raises(SpaceMismatch, match="model tiny now embeds into"):
            await after.search("notes", items=["cat"])
        with pytest.raises(SpaceMismatch, match="make a new collection and embed again"):
            await after.upsert("notes", ids=[2], items=["cat"])
        found = await after.search("notes", vectors=vectors, fingerprint=info.fingerprint)
        assert found.hits[0][0].id == 1
    finally:
        await after.close()


async def test_a_damaged_collection_is_unavailable_until_it_is_deleted(
    models: Models, tmp_path: Path
) -> None:
    before = Collections(StoreProcess(tmp_path / "collections"), models)
    await before.create("notes")
    await before.close()
    (tmp_path / "collections" / "notes" / "collection.json").write_text("{")
    after = Collections(StoreProcess(tmp_path / "collections"), models)
    try:
        assert list(after.damaged) == ["notes"]
        assert await after.list() == ()
        for call in (after.get("notes"), after.count("notes"), after.search("notes", items=["a"])):
            with pytest.raises(Unavailable, match="notes is damaged"):
                await call
        with pytest.raises(AlreadyExists):
            await after.create("notes")
        await after.delete("notes")
        await after.create("notes")
    finally:
        await after.close()


async def test_calls_on_one_collection_may_come_all_at_once(collections: Collections) -> None:
    await collections.create("notes")
    await asyncio.gather(
        *(collections.upsert("notes", ids=[i], items=["cat"]) for i in range(20)),
        *(collections.search("notes", items=["cat"]) for _ in range(20)),
    )
    assert await collections.count("notes") == 20


# ------------------------------------------------------------------------------ heads


async def test_a_detector_knows_the_normal_ones_and_survives_a_restart(
    models: Models, collections: Collections, tmp_path: Path
) -> None:
    anomaly = Anomaly(tmp_path, models, collections)
    info = await anomaly.fit("weather", items=WEATHER, target_fpr=0.2, neighbours=2)
    assert info.references + info.calibration == len(WEATHER)
    again = Anomaly(tmp_path, models, collections)
    assert await again.list() == (info,)
    assert await again.get("weather") == info
    scored = await again.score("weather", items=["rain", LONG, "x y z query"], truncation="error")
    assert scored.anomalies.tolist() == [False, False, True]
    assert np.isnan(scored.scores).tolist() == np.isnan(scored.p_values).tolist()
    assert np.isnan(scored.scores).tolist() == [False, True, False]
    assert isinstance(scored.items[1].error, InputTooLong)
    assert scored.p_values[2] == np.float32(1 / (info.calibration + 1))
    await again.delete("weather")
    assert await Anomaly(tmp_path, models, collections).list() == ()


async def test_a_detector_can_be_fitted_on_a_collection(
    models: Models, collections: Collections, tmp_path: Path
) -> None:
    anomaly = Anomaly(tmp_path, models, collections)
    await collections.create("weather", dims=8)
    await collections.upsert("weather", ids=range(len(WEATHER)), items=WEATHER)
    info = await anomaly.fit("weather", collection="weather", target_fpr=0.2)
    assert info.references + info.calibration == len(WEATHER)
    assert (await anomaly.score("weather", items=["rain"])).anomalies.tolist() == [False]
    with pytest.raises(AlreadyExists):
        await anomaly.fit("weather", collection="weather")
    with pytest.raises(InvalidInput, match="either items or a collection"):
        await anomaly.fit("both", items=WEATHER, collection="weather")
    with pytest.raises(NotFound, match="no collection"):
        await anomaly.fit("none", collection="none")


async def test_a_classifier_learns_its_labels_and_survives_a_restart(
    models: Models, tmp_path: Path
) -> None:
    classification = Classification(tmp_path, models)
    labels = ["weather"] * len(WEATHER) + ["animal"] * len(ANIMALS)
    info = await classification.fit("topic", items=WEATHER + ANIMALS, labels=labels)
    assert (info.labels, info.examples) == (("animal", "weather"), 60)
    again = Classification(tmp_path, models)
    assert await again.list() == (info,)
    found = await again.predict("topic", items=["the cat", "\ud800", "rain"])
    assert found.labels == ("animal", None, "weather")
    assert found.classes == info.labels
    np.testing.assert_allclose(found.probabilities.sum(axis=1), [1, 0, 1], atol=1e-6)
    await again.delete("topic")
    with pytest.raises(NotFound, match="no classifier 'topic'"):
        await again.predict("topic", items=["cat"])


@pytest.mark.parametrize("labels", [["a", "b"], ["a", "b", "c"]])
async def test_probabilities_are_scikit_learn_s(
    models: Models, tmp_path: Path, labels: list[str]
) -> None:
    many = [labels[i % len(labels)] for i in range(len(WEATHER))]
    classification = Classification(tmp_path, models)
    await classification.fit("any", items=WEATHER, labels=many)
    found = await classification.predict("any", items=ANIMALS)
    encoder = models[""].encoder
    reference = LogisticRegression(C=10, class_weight="balanced", max_iter=1000).fit(
        encoder.embed(WEATHER).vectors, many
    )
    expected = reference.predict_proba(encoder.embed(ANIMALS).vectors)
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-5)


async def test_a_fit_needs_every_item_and_at_least_two_labels(
    models: Models, tmp_path: Path
) -> None:
    classification = Classification(tmp_path, models)
    for labels, message in (
        (["a"], "one label an item; got 1 for 2"),
        (["a", "a"], r"two different labels; got \['a'\]"),
        (["a", ""], r"labels\[1\] must be a name"),
    ):
        with pytest.raises(InvalidInput, match=message):
            await classification.fit("any", items=["cat", "sun"], labels=labels)
    with pytest.raises(InputTooLong, match="item 1 has"):
        await classification.fit("any", items=["cat", LONG], labels=["a", "b"], truncation="error")
    with pytest.raises(InvalidInput, match="a classifier's name has"):
        await classification.fit("../any", items=["cat", "sun"], labels=["a", "b"])
    assert await classification.list() == ()


async def test_heads_refuse_a_model_whose_space_has_changed(
    models: Models, retrained: Models, collections: Collections, tmp_path: Path
) -> None:
    await Anomaly(tmp_path, models, collections).fit("d", items=WEATHER, target_fpr=0.2)
    await Classification(tmp_path, models).fit(
        "c", items=["cat", "sun"], labels=["animal", "weather"]
    )
    with pytest.raises(SpaceMismatch, match="fit the head again"):
        await Anomaly(tmp_path, retrained, collections).score("d", items=["cat"])
    with pytest.raises(SpaceMismatch, match="fit the head again"):
        await Classification(tmp_path, retrained).predict("c", items=["cat"])


async def test_a_damaged_head_is_reported_and_does_not_stop_the_others(
    models: Models, tmp_path: Path
) -> None:
    classification = Classification(tmp_path, models)
    await classification.fit("good", items=["cat", "sun"], labels=["animal", "weather"])
    (tmp_path / "classifiers" / "bad.npz").write_bytes(b"nonsense")
    again = Classification(tmp_path, models)
    assert list(again.damaged) == ["bad"]
    assert [info.name for info in await again.list()] == ["good"]
    with pytest.raises(Unavailable, match="classifier bad is damaged"):
        await again.predict("bad", items=["cat"])
    await again.delete("bad")
    assert not (tmp_path / "classifiers" / "bad.npz").exists()
