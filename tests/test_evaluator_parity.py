"""One evaluator, the same items, the same numbers: torch, every variant, and the server.

The evaluator meets nothing but embeddings. Torch and the fp32 variant must score alike, and each
variant must give on this machine what it gives through the server, within the tolerance that its
bundle records.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import attar
from attar import Client
from attar.bundle import Bundle
from attar.export.exporting import through_runtime
from attar.export.tensor import export_tensor
from attar.export.text import export_text
from attar.inputs import Role
from attar.manifest import TensorSpec
from attar.training.data.source import embed
from attar.training.encoders.encoder import TensorEncoder
from attar.training.loop import fit
from attar.training.probes import suite
from attar.training.probes.summaries import SummaryRetrieval
from attar.training.recipes.image import barlow_twins
from benchmarks.support.servers import serving, settings

from .support.images import Digits, load
from .support.students import binarized, corpus, embed_in_torch, texts, trained

VARIANTS = ("fp32", "int8", "binarized")
RETRIEVAL = ("recall_at_1", "recall_at_10", "mrr")

# For a server whose every run is of one small batch, whatever the request: other batch-mates than
# `embed` has on this side.
MATES = 96  # padded tokens in one run

evaluate = SummaryRetrieval.of(corpus())


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    exported = export_text(
        tmp_path_factory.mktemp("parity") / "student.attar",
        trained(),
        name="student",
        texts=texts(),
        probe=through_runtime(evaluate),
        metric="recall_at_10",
        binarized=binarized(),
    )
    assert exported.refused == {}
    return exported.bundle


@contextmanager
def client(bundle: Bundle, variant: str, folder: Path) -> Iterator[Client]:
    """Serve one variant and give a client of it."""
    chosen = settings(bundle.path, data_dir=folder, variant=variant, max_batch_tokens=MATES)
    with serving(chosen) as target, Client(target) as connected:
        yield connected


def scores_of_torch() -> dict[str, float]:
    return evaluate(lambda items, _role: embed_in_torch(trained().encoder, items))


def assert_scores_equal(rows: Mapping[str, float], expected: Mapping[str, float]) -> None:
    """Hold ranks to equality, and RankMe, which is no rank, to float32."""
    assert {name: rows[name] for name in RETRIEVAL} == {name: expected[name] for name in RETRIEVAL}
    assert rows["rankme"] == pytest.approx(expected["rankme"], rel=1e-4)


def test_the_encoder_has_something_to_lose() -> None:
    assert 0.3 < scores_of_torch()["recall_at_1"] < 1


def test_fp32_scores_what_torch_scores(bundle: Bundle) -> None:
    scored = through_runtime(evaluate)(attar.load(bundle.path, variant="fp32", threads=1))
    assert_scores_equal(scored, scores_of_torch())


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_bundle_records_what_a_user_will_measure(bundle: Bundle, variant: str) -> None:
    scored = through_runtime(evaluate)(attar.load(bundle.path, variant=variant, threads=1))
    assert_scores_equal(scored, bundle.variant(variant).probe)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_gives_the_same_numbers_alone_and_in_any_batch(
    bundle: Bundle, variant: str
) -> None:
    encoder = attar.load(bundle.path, variant=variant, threads=1)
    items = texts()[:80]
    alone = np.concatenate([encoder.embed([item]).vectors for item in items])
    rows = encoder.prepare(items)
    for together in (
        encoder.embed(items).vectors,
        encoder.infer(rows),
        np.concatenate([encoder.infer(rows[i : i + 7]) for i in range(0, len(rows), 7)]),
    ):
        assert np.abs(together - alone).max() <= tolerance(bundle, variant)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_server_gives_the_same_embeddings_and_the_same_scores(
    bundle: Bundle, variant: str, tmp_path: Path
) -> None:
    encoder = attar.load(bundle.path, variant=variant, threads=1)
    with client(bundle, variant, tmp_path / "data") as connected:

        def embed(items: Sequence[str], role: Role) -> NDArray[Any]:
            answer = connected.embed(items, role=role)
            assert (answer.variant, answer.fingerprint) == (variant, encoder.fingerprint)
            return answer.vectors

        here, there = encoder.embed(texts()).vectors, embed(texts(), "passage")
        scored = evaluate(embed)

    assert np.abs(here - there).max() <= tolerance(bundle, variant)
    assert_scores_equal(scored, through_runtime(evaluate)(encoder))


def test_the_torch_encoder_and_the_server_agree_end_to_end(bundle: Bundle, tmp_path: Path) -> None:
    with client(bundle, "fp32", tmp_path / "data") as connected:
        scored = evaluate(lambda items, role: connected.embed(items, role=role).vectors)
        served = connected.embed(texts()).vectors
    assert np.abs(served - embed_in_torch(trained().encoder, texts())).max() <= 2e-6
    assert_scores_equal(scored, scores_of_torch())


def tolerance(bundle: Bundle, variant: str) -> float:
    """Give what the bundle promises of a variant: no more than float32's own here."""
    recorded = bundle.variant(variant).tolerance
    assert recorded is not None
    assert recorded <= 1e-5
    return recorded


def test_images_score_the_same_in_torch_on_a_device_and_through_the_server(tmp_path: Path) -> None:
    data = load()
    short = replace(barlow_twins.recipe.settings, steps=10, warmup=2)
    training = replace(barlow_twins.recipe.build(data.source, short), probe=None)
    fit(training, accelerator="cpu", progress=False)
    trained = training.method.encoder.eval()
    assert isinstance(trained, TensorEncoder)
    encoder = trained.at_unit_length()
    some = Digits(
        data.train[:400], data.train_labels[:400], data.test[:100], data.test_labels[:100]
    )
    exported = export_tensor(
        tmp_path / "digits.attar",
        encoder,
        name="digits",
        spec=TensorSpec(name="image", dtype="float32", shape=("batch", 1, 8, 8)),
        items=some.train[:100].numpy(),
    )
    loaded = attar.load(exported.bundle.path, threads=1)

    in_torch = [embed(encoder, part) for part in (some.train, some.test)]
    here = [loaded.embed(part.numpy()).vectors for part in (some.train, some.test)]
    with client(exported.bundle, "fp32", tmp_path / "data") as connected:
        there = [connected.embed(part.numpy()).vectors for part in (some.train, some.test)]

    for expected, device, server in zip(in_torch, here, there, strict=True):
        assert np.abs(device - expected).max() <= 1e-6
        assert np.abs(server - device).max() <= tolerance(exported.bundle, "fp32")
    probes = [suite.evaluate(train, test, some.source) for train, test in (in_torch, here, there)]
    for name in ("knn", "linear", "scarce"):
        assert len({probe[name] for probe in probes}) == 1, name
