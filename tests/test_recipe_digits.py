"""The digits recipe keeps its claim, and the contract it proves is not text-shaped."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from attar.training.loop import fit
from attar.training.recipes.digits import Digits, embed, evaluate, load, recipe
from attar.training.methods.twins import Twins


@pytest.fixture(scope="module")
def data() -> Digits:
    return load()


def test_the_split_is_always_the_same_and_shares_no_image(data: Digits) -> None:
    again = load()
    assert torch.equal(again.train, data.train)
    assert (len(data.train), len(data.test)) == (1257, 540)
    assert (data.train.min().item(), data.train.max().item()) == (0.0, 1.0)
    assert data.train.shape[1:] == (1, 8, 8)


def test_a_batch_depends_on_the_step_and_nothing_else(data: Digits) -> None:
    one, other = recipe.build(data, recipe.settings), recipe.build(data, recipe.settings)
    other.batches(0)
    torch.rand(3)
    (first,), (second,) = one.batches(5)
    (same,), _ = other.batches(5)
    assert torch.equal(first, same)
    assert not torch.equal(first, second)
    assert not torch.equal(first, one.batches(6)[0][0])


def test_a_short_run_logs_its_probes_and_gives_unit_embeddings(data: Digits) -> None:
    training = recipe.build(data, replace(recipe.settings, steps=3, warmup=1))
    history = fit(training, accelerator="cpu", progress=False)
    assert [made for made, _ in history.series("scarce")] == [0, 3]
    assert set(history.rows[-1]) == {"step", "rankme", "knn", "linear", "scarce"}
    assert isinstance(training.method, Twins)
    embeddings = embed(training.method.encoder.eval(), data.test)
    assert embeddings.shape == (540, recipe.settings.dim)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)


def test_the_probe_finds_labels_in_pixels_and_none_in_noise(data: Digits) -> None:
    pixels = evaluate(data.train.flatten(1).numpy(), data.test.flatten(1).numpy(), data)
    assert pixels["knn"] > 0.95
    assert pixels["scarce"] > 0.75
    noise = np.random.default_rng(0).normal(size=(len(data.train) + len(data.test), 16))
    blind = evaluate(
        noise[: len(data.train)].astype(np.float32),
        noise[len(data.train) :].astype(np.float32),
        data,
    )
    assert blind["knn"] < 0.2
    assert blind["scarce"] < 0.2


@pytest.mark.slow
def test_the_claim_holds() -> None:
    verdict = recipe.claim.check()
    assert verdict.holds, f"{recipe.claim.statement}: {dict(verdict.figures)}"
