"""The image recipes: one contract for all of them, on digits."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from attar.errors import InvalidInput
from attar.training.catalogue import catalogue, claim_of
from attar.training.data.source import Source, embed
from attar.training.encoders.encoder import TensorEncoder
from attar.training.loop import fit
from attar.training.overrides import override
from attar.training.probes.rankme import rankme
from attar.training.probes.suite import evaluate
from attar.training.recipes.image.views import pair_of

from ...support.images import Digits, load

RECIPES = {name: recipe for name, recipe in catalogue().items() if recipe.modality == "image"}


@pytest.fixture(scope="module")
def data() -> Digits:
    return load()


def test_the_split_is_always_the_same_and_shares_no_image(data: Digits) -> None:
    again = load()
    assert torch.equal(again.train, data.train)
    assert (len(data.train), len(data.test)) == (1257, 540)
    assert (data.train.min().item(), data.train.max().item()) == (0.0, 1.0)
    assert data.train.shape[1:] == (1, 8, 8)


@pytest.mark.parametrize("name", RECIPES)
def test_a_batch_depends_on_the_step_and_nothing_else(name: str, data: Digits) -> None:
    recipe = RECIPES[name]
    one, other = (recipe.build(shown(name, data), recipe.settings) for _ in range(2))
    other.views(other.batches(0), 0)
    torch.rand(3)
    given, again, later = (
        leaves(run.views(run.batches(step), step)) for run, step in ((one, 5), (other, 5), (one, 6))
    )
    assert all(torch.equal(a, b) for a, b in zip(given, again, strict=True))
    assert not torch.equal(given[0], later[0])


@pytest.mark.parametrize("name", RECIPES)
def test_a_short_run_logs_its_probes_and_embeds_by_the_pooled_features(
    name: str, data: Digits
) -> None:
    recipe = RECIPES[name]
    training = recipe.build(shown(name, data), replace(recipe.settings, steps=3, warmup=1))
    history = fit(training, accelerator="cpu", progress=False)
    assert [made for made, _ in history.series("scarce")] == [0, training.steps]
    assert set(history.rows[-1]) >= {"step", "rankme", "knn", "linear", "scarce"}
    encoder = training.method.encoder.eval()
    assert isinstance(encoder, TensorEncoder)
    assert isinstance(encoder.project.map, nn.Identity)
    embeddings = embed(encoder, data.test)
    assert embeddings.shape == (540, encoder.dim)
    assert np.linalg.norm(embeddings, axis=1).std() > 1e-4  # of no common length


def test_the_probe_finds_labels_in_pixels_and_none_in_noise(data: Digits) -> None:
    pixels = evaluate(data.train.flatten(1).numpy(), data.test.flatten(1).numpy(), data.source)
    assert pixels["knn"] > 0.95
    assert pixels["scarce"] > 0.75
    noise = np.random.default_rng(0).normal(size=(len(data.train) + len(data.test), 16))
    blind = evaluate(
        noise[: len(data.train)].astype(np.float32),
        noise[len(data.train) :].astype(np.float32),
        data.source,
    )
    assert blind["knn"] < 0.2
    assert blind["scarce"] < 0.2


def shown(name: str, data: Digits) -> Any:
    """Give what a recipe is built with: the digits, or two groups of them."""
    return data.source if RECIPES[name].read is None else claim_of(name).data()


def leaves(batch: object) -> list[torch.Tensor]:
    """Give the tensors of nested tuples, in order."""
    if isinstance(batch, torch.Tensor):
        return [batch]
    assert isinstance(batch, tuple)
    return [leaf for part in batch for leaf in leaves(part)]


def test_a_probe_ranks_the_outputs_of_the_projector_too(data: Digits) -> None:
    training = RECIPES["image/simclr"].build(data.source, RECIPES["image/simclr"].settings)
    assert training.probe is not None
    method = training.method.eval()
    figures = training.probe(0)
    assert isinstance(method.projector, nn.Module)
    outputs = embed(nn.Sequential(method.encoder, method.projector), data.train)
    assert figures["rankme_projector"] == pytest.approx(rankme(outputs), rel=1e-4)
    assert figures["rankme"] == pytest.approx(rankme(embed(method.encoder, data.train)), rel=1e-4)


@pytest.mark.parametrize("name", ["image/barlow_twins", "image/byol"])
def test_the_two_views_of_a_pair_have_strengths_of_their_own(name: str) -> None:
    """In these papers the first view is always blurred, and only the second solarised."""
    images = torch.rand(200, 3, 16, 16)
    settings = replace(RECIPES[name].settings, views="natural")
    first, second = (
        view(images, torch.Generator().manual_seed(0)).params
        for view in pair_of(Source(train=images), settings)
    )
    assert first["blurred"].all()
    assert not first["solarised"].any()
    assert 5 < second["blurred"].sum() < 35
    assert 20 < second["solarised"].sum() < 60


def test_settings_name_the_optimiser_its_decay_and_the_clip(data: Digits) -> None:
    recipe = RECIPES["image/simclr"]
    changes = ["optimizer=sgd", "weight_decay=0.04", "final_weight_decay=0.4", "clip=3"]
    training = recipe.build(data.source, override(recipe.settings, changes))
    assert isinstance(training.optimiser, torch.optim.SGD)
    assert training.clip == 3
    assert training.weight_decay is not None
    ends = [training.weight_decay(step) for step in (0, training.steps)]
    assert ends == pytest.approx([0.04, 0.4])
    still = override(recipe.settings, ["weight_decay=0", "final_weight_decay=0.4"])
    with pytest.raises(
        InvalidInput, match=r"final_weight_decay is 0\.4, so weight_decay must be ab"
    ):
        recipe.build(data.source, still)


def test_dino_sees_two_large_crops_and_small_ones(data: Digits) -> None:
    recipe = RECIPES["image/dino"]
    training = recipe.build(data.source, replace(recipe.settings, local_views=3, local_side=6))
    shapes = [tuple(view.shape[2:]) for view in training.views(training.batches(0), 0)]
    assert shapes == [(8, 8)] * 2 + [(6, 6)] * 3


def test_dino_exports_its_teacher_and_mae_a_transformer_that_sees_all_patches(data: Digits) -> None:
    dino = RECIPES["image/dino"].build(data.source, RECIPES["image/dino"].settings).method
    assert dino.exported is not dino.encoder
    mae = RECIPES["image/mae"].build(data.source, RECIPES["image/mae"].settings)
    batch = mae.views(mae.batches(0), 0)
    assert (batch.visible.shape[1], batch.masked.shape[1]) == (4, 12)
    assert mae.method.exported(batch.images).shape == (128, mae.method.exported.dim)


@pytest.mark.parametrize("part", ["invariant", "equivariant"])
def test_sie_probes_and_exports_half_of_the_features(data: Digits, part: str) -> None:
    recipe = RECIPES["image/sie"]
    changed = override(recipe.settings, [f"part={part}", "steps=1", "warmup=0"])
    training = recipe.build(data.source, changed)
    whole = training.method.encoder.eval()(data.test[:5])
    half = whole[:, :32] if part == "invariant" else whole[:, 32:]
    torch.testing.assert_close(training.method.exported(data.test[:5]), half)
    assert "knn" in fit(training, accelerator="cpu", progress=False).rows[-1]
