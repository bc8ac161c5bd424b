"""The image recipes: one contract for all of them, on digits."""

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from attar.errors import InvalidInput
from attar.training.catalogue import catalogue
from attar.training.catalogue import catalogue, claim_of
from attar.training.data.source import Source, embed
from attar.training.encoders.encoder import TensorEncoder
from attar.training.groups import Groups
from attar.training.loop import fit
from attar.training.overrides import override
from attar.training.probes.rankme import rankme
from attar.training.probes.suite import evaluate
from attar.training.recipes.image.settings import pair_of
from attar.training.methods.reconstruction import Reconstruction
from attar.training.probes.encoder import probe_encoder
from attar.training.recipes.image import further_pretraining, g_simclr, infinite_schedule
from attar.training.recipes.image import (
    direct_pred,
    further_pretraining,
    g_simclr,
    infinite_schedule,
    random_fields,
    random_teacher,
    scat_simclr,
    simclr,
)
from attar.training.views.puzzle import quarter_turns

from ...support.images import Digits, load

COLOUR_FIELDS = "hue", "saturation", "brightness"
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


def flat(value: float, count: int) -> Source:
    return Source(train=torch.full((count, 1, 8, 8), value))


def test_an_infinite_schedule_trains_on_the_related_group_and_then_on_the_target() -> None:
    """The groups may have different numbers of images, which stay as they are."""
    domains = Groups(related=flat(0.25, 40), target=flat(0.75, 24))
    settings = replace(infinite_schedule.SMALL, steps=30, batch_size=16)
    training = infinite_schedule.build(domains, settings)
    assert training.steps == 60
    for step in (0, 29, 30, 59):
        images = training.batches(step)
        assert images.shape == (16, 1, 8, 8)
        assert torch.equal(images, torch.full_like(images, 0.25 if step < 30 else 0.75))


def test_further_pretraining_learns_the_target_from_a_copy_of_the_base(data: Digits) -> None:
    images = data.train[:24]
    domains = Groups(related=data.source, target=Source(train=images))
    settings = replace(further_pretraining.SMALL, encoder="tiny", batch_size=16)
    base = cast("Reconstruction", further_pretraining.build(domains, settings).method)
    run = further_pretraining.further(domains.target, base, settings)
    corrupted, clean = run.views(run.batches(0), 0)
    assert (clean[:, None] == images).flatten(2).all(2).any(1).all()
    loss, _ = run.method.loss((corrupted, clean), 0)
    torch.testing.assert_close(loss, base.loss((corrupted, clean), 0)[0])
    assert run.method.encoder is not base.encoder
    run.method.eval()
    assert run.probe is not None
    assert run.probe(0) == probe_encoder(base.eval().encoder, domains.target)


@pytest.mark.parametrize("batch_size", [16, 32])
def test_g_simclr_has_as_many_clusters_as_images_in_a_batch(batch_size: int, data: Digits) -> None:
    settings = replace(g_simclr.SMALL, encoder="tiny", batch_size=batch_size)
    encoder = g_simclr.build(data.source, settings).method.encoder
    rows = g_simclr.unlike(encoder, data.source, settings)
    assert len(np.unique(rows.clusters)) == len(rows(0)) == batch_size


def test_random_fields_of_no_strength_are_the_views_of_simclr(data: Digits) -> None:
    settings = replace(random_fields.SMALL, strength=0.0)
    ours, theirs = random_fields.build(data.source, settings), simclr.build(data.source, settings)
    items = ours.batches(0)
    given, expected = (leaves(run.views(items, 0)) for run in (ours, theirs))
    assert all(torch.equal(a, b) for a, b in zip(given, expected, strict=True))


@pytest.mark.parametrize("changed", ["displacement", "hue", "saturation", "brightness"])
def test_random_fields_bend_and_recolour_the_views_of_simclr(changed: str) -> None:
    images = Source(train=torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    none = dict.fromkeys(("displacement", "degrees", "scale", *COLOUR_FIELDS), 0.0)
    own = getattr(random_fields.SMALL, changed)
    settings = replace(random_fields.PAPER, batch_size=8, **{**none, changed: own})
    run, base = random_fields.build(images, settings), simclr.build(images, settings)
    given, expected = (leaves(each.views(each.batches(0), 0)) for each in (run, base))
    assert not torch.allclose(given[0], expected[0], atol=0.01)
    assert given[0].isfinite().all()


def test_scat_simclr_turns_every_image_in_all_ways_and_augments_the_result(data: Digits) -> None:
    run = scat_simclr.build(data.source, replace(scat_simclr.SMALL, batch_size=8))
    images = run.batches(0)
    batch = run.views(images, 0)
    assert batch.transformed.shape == (32, 1, 8, 8)
    assert batch.labels.tolist() == [0, 1, 2, 3] * 8
    turned = quarter_turns.all_classes(images).data
    assert (batch.transformed != turned).flatten(1).any(1).all()


def test_a_random_teacher_is_matched_at_a_constant_rate_without_decay(data: Digits) -> None:
    run = random_teacher.build(data.source, random_teacher.SMALL)
    assert {run.rate(step) for step in range(run.steps)} == {random_teacher.PAPER.rate}
    assert {group["weight_decay"] for group in run.optimiser.param_groups} == {0.0}


def test_direct_preds_comparator_has_two_layers_with_batch_norm(data: Digits) -> None:
    settings = replace(direct_pred.SMALL, predictor="mlp")
    parts = list(direct_pred.predictor(settings).children())
    assert [type(part) for part in parts] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    assert (parts[0].in_features, parts[-1].out_features) == (settings.projection,) * 2


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
