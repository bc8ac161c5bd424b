"""The image recipes do what their papers and the authors' code do."""

from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import torch
from torch import nn

from attar.training.data.source import Source
from attar.training.groups import Groups
from attar.training.loop import fit
from attar.training.methods.asymmetric import Asymmetric
from attar.training.methods.reconstruction import Reconstruction
from attar.training.probes.encoder import probe_encoder
from attar.training.recipes.image import (
    direct_pred,
    further_pretraining,
    g_simclr,
    infinite_schedule,
    random_fields,
    random_teacher,
    scat_simclr,
    simclr,
    simsiam,
)
from attar.training.views.puzzle import quarter_turns

from ...support.images import Digits, load

COLOUR_FIELDS = "hue", "saturation", "brightness"


@pytest.fixture(scope="module")
def data() -> Digits:
    return load()


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
    given, expected = (run.views(items, 0) for run in (ours, theirs))
    for (ours_view,), (theirs_view,) in zip(given, expected, strict=True):
        assert torch.equal(ours_view, theirs_view)


@pytest.mark.parametrize("changed", ["displacement", "hue", "saturation", "brightness"])
def test_random_fields_bend_and_recolour_the_views_of_simclr(changed: str) -> None:
    images = Source(train=torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    none = dict.fromkeys(("displacement", "degrees", "scale", *COLOUR_FIELDS), 0.0)
    own = getattr(random_fields.SMALL, changed)
    settings = replace(random_fields.PAPER, batch_size=8, **{**none, changed: own})
    run, base = random_fields.build(images, settings), simclr.build(images, settings)
    ((given,), _), ((expected,), _) = (each.views(each.batches(0), 0) for each in (run, base))
    assert not torch.allclose(given, expected, atol=0.01)
    assert given.isfinite().all()


def test_scat_simclr_turns_every_image_in_all_ways_and_augments_the_result(data: Digits) -> None:
    run = scat_simclr.build(data.source, replace(scat_simclr.SMALL, batch_size=8))
    images = run.batches(0)
    batch = run.views(images, 0)
    assert batch.transformed.shape == (32, 1, 8, 8)
    assert batch.labels.tolist() == [0, 1, 2, 3] * 8
    turned = quarter_turns.all_classes(images).data
    assert (batch.transformed != turned).flatten(1).any(1).all()


def test_simsiam_normalises_its_projections_and_holds_the_rate_of_its_predictor(
    data: Digits,
) -> None:
    settings = replace(simsiam.SMALL, steps=4)
    run = simsiam.build(data.source, settings)
    method = cast("Asymmetric", run.method)
    parts = list(method.projector.children())
    assert [type(part) for part in parts].count(nn.Linear) == 3
    assert isinstance(parts[-1], nn.BatchNorm1d)
    assert not parts[-1].affine
    assert isinstance(run.optimiser, torch.optim.SGD)
    fit(replace(run, probe=None), accelerator="cpu", progress=False)
    rates = {
        id(parameter): group["lr"]
        for group in run.optimiser.param_groups
        for parameter in group["params"]
    }
    assert rates.keys() == {id(parameter) for parameter in method.parameters()}
    assert {rates[id(p)] for p in method.predictor.parameters()} == {settings.rate}
    assert {rates[id(p)] for p in method.encoder.parameters()} == {run.rate(3)}
    assert run.rate(3) < settings.rate


def test_a_random_teacher_is_matched_at_a_constant_rate_without_decay(data: Digits) -> None:
    run = random_teacher.build(data.source, random_teacher.SMALL)
    assert {run.rate(step) for step in range(run.steps)} == {random_teacher.PAPER.rate}
    assert {group["weight_decay"] for group in run.optimiser.param_groups} == {0.0}


def test_direct_preds_comparator_has_two_layers_with_batch_norm(data: Digits) -> None:
    settings = replace(direct_pred.SMALL, predictor="mlp")
    parts = list(direct_pred.predictor(settings).children())
    assert [type(part) for part in parts] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    ends = [parts[0].in_features, parts[-1].out_features]
    assert ends == [settings.projection] * 2
