"""Several modalities in one space: AstroM3, its parts, and what its encoders say once exported."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import attar
from attar.errors import InvalidInput, ShapeError
from attar.export.tensor import export_model
from attar.training.checkpoints.encoder_folder import TensorModel, load, save
from attar.training.checkpoints.joint_space import models
from attar.training.data.objects import Objects
from attar.training.data.source import embed
from attar.training.datasets.stars import MODALITIES, variable_stars
from attar.training.encoders.joint_space import JointSpace
from attar.training.encoders.mlp import MlpConfig, MlpEncoder
from attar.training.loop import fit
from attar.training.methods.cross_modal import CrossModal
from attar.training.objectives.clip import MAX_SCALE, clip
from attar.training.probes.centroids import cosine_distances, mahalanobis_distances
from attar.training.probes.fusion import fused
from attar.training.probes.joint_space import embeddings
from attar.training.probes.mislabelled import agreement, precision_at_k, suggest
from attar.training.recipes.multimodal.astro_m3 import recipe
from attar.training.views.folded_phase import turned

SMALL = replace(
    recipe.settings, steps=3, warmup=1, batch_size=16, dim=12, width=8, depth=1, hidden=8
)
DRAW = np.random.default_rng(0)


@pytest.fixture(scope="module")
def sky() -> Objects:
    return variable_stars(each=12, samples=32, bins=512)


def untrained(sky: Objects) -> JointSpace:
    space = recipe.build(sky, SMALL).method.encoder
    assert isinstance(space, JointSpace)
    return space


@pytest.fixture(scope="module")
def space(sky: Objects) -> JointSpace:
    """Give the space after a few steps."""
    training = replace(recipe.build(sky, SMALL), probe=None)
    fit(training, accelerator="cpu", progress=False)
    made = training.method.encoder.eval()
    assert isinstance(made, JointSpace)
    return made


def test_a_batch_depends_on_the_step_and_nothing_else(sky: Objects) -> None:
    one, other = (recipe.build(sky, SMALL) for _ in range(2))
    other.views(other.batches(0), 0)
    torch.rand(3)
    batches = [run.views(run.batches(step), step) for run, step in ((one, 5), (other, 5), (one, 6))]
    assert all(torch.equal(a, b) for a, b in zip(batches[0], batches[1], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(batches[0], batches[2], strict=True))


def test_a_short_run_logs_searches_of_every_pair(sky: Objects) -> None:
    rows = fit(recipe.build(sky, SMALL), accelerator="cpu", progress=False).rows
    assert rows[-1]["chance"] == 1 / len(sky.test_labels)
    pairs = {name.removeprefix("map/") for name in rows[-1] if name.startswith("map/")}
    assert pairs == {"photometry-spectra", "photometry-metadata", "spectra-metadata"}
    assert {"rankme", "knn", *(f"recall_at_1/{pair}" for pair in pairs)} <= set(rows[0])


def test_parts_of_one_star_come_closer_than_those_of_two(sky: Objects) -> None:
    training = replace(recipe.build(sky, replace(SMALL, steps=60, warmup=5)), probe=None)
    history = fit(training, accelerator="cpu", log_every=1, progress=False)
    (_, first), *_, (_, last) = history.series("loss")
    chance = 6 * math.log(SMALL.batch_size)  # three pairs, both ways
    assert last < chance - 1 < first


def test_turning_a_curve_moves_its_phases_and_loses_no_sample(sky: Objects) -> None:
    curves = sky.train["photometry"][torch.arange(8)]
    view = turned(curves, torch.Generator().manual_seed(0))
    assert (view.data[:, 0].diff(dim=1) >= 0).all()
    assert (view.data[:, 0].min() >= 0) & (view.data[:, 0].max() < 1)
    moved = ((curves[:, 0] - view.params["shift"][:, None]) % 1).sort(1).values
    torch.testing.assert_close(view.data[:, 0], moved)
    start = int((view.data[0, 1] == curves[0, 1, 0]).nonzero()[0, 0])
    assert torch.equal(view.data[0, 1:], curves[0, 1:].roll(start, dims=1))  # a circle, cut again


def test_the_space_embeds_in_the_order_of_its_names(sky: Objects, space: JointSpace) -> None:
    rows = torch.arange(4)
    batch = [sky.test[name][rows] for name in space.names]
    with torch.no_grad():
        together = space(*batch)
    assert space.names == MODALITIES
    assert together.shape == (4, 3, SMALL.dim)
    for place, name in enumerate(space.names):
        with torch.no_grad():
            alone = space.encoder(name)(batch[place])
        torch.testing.assert_close(together[:, place], alone)
    with pytest.raises(InvalidInput, match="no modality 'radio'; there are photometry, spectra"):
        space.encoder("radio")


def test_a_space_has_at_least_two_encoders_of_one_width() -> None:
    narrow, wide = (MlpEncoder(MlpConfig(features=2, dim=dim)) for dim in (3, 4))
    with pytest.raises(InvalidInput, match="of one dim; got a of 3"):
        JointSpace({"a": narrow})
    with pytest.raises(InvalidInput, match="got a of 3, b of 4"):
        JointSpace({"a": narrow, "b": wide})


def test_the_loss_is_that_of_clip_over_all_pairs(sky: Objects) -> None:
    method = CrossModal(untrained(sky), scale=7.0)
    batch = tuple(sky.train[name][torch.arange(10)] for name in MODALITIES)
    loss, metrics = method.loss(batch, 0)
    parts = method.encoder(*batch).unbind(1)
    torch.testing.assert_close(loss, clip(parts, torch.full((3,), math.log(7.0))))
    parts = tuple(part.detach() for part in parts)
    cosines = [(a * b).sum(1).mean() for a, b in ((parts[0], parts[1]), (parts[0], parts[2]))]
    cosines.append((parts[1] * parts[2]).sum(1).mean())
    assert float(metrics["alignment"]) == pytest.approx(float(sum(cosines)) / 3, abs=1e-6)
    assert float(metrics["scale"]) == pytest.approx(7.0)


@pytest.mark.parametrize("scale", [MAX_SCALE, 1.0])
def test_a_scale_at_its_limit_still_learns(sky: Objects, scale: float) -> None:
    method = CrossModal(untrained(sky), scale=scale)
    batch = tuple(sky.train[name][torch.arange(10)] for name in MODALITIES)
    torch.autograd.backward(method.loss(batch, 0)[0])
    assert method.log_scales.grad is not None
    assert (method.log_scales.grad != 0).all()
    with torch.no_grad():
        method.log_scales.add_(3 if scale > 1 else -3)
    method.after_step(0)
    scales = method.log_scales.detach().exp()
    assert ((scales >= 1) & (scales <= MAX_SCALE)).all()


def test_what_was_not_seen_is_left_out_of_a_mean() -> None:
    a, b = (DRAW.normal(size=(5, 3)).astype(np.float32) for _ in range(2))
    seen = np.array([True, True, False, False, True])
    both = fused({"a": a, "b": b}, seen={"b": seen})
    np.testing.assert_allclose(both[~seen], unit(a[~seen]), rtol=1e-6)
    np.testing.assert_allclose(both[seen], unit(unit(a) + unit(b))[seen], rtol=1e-5)
    np.testing.assert_allclose(fused({"b": b, "a": 3 * a}), unit(unit(a) + unit(b)), rtol=1e-5)
    with pytest.raises(InvalidInput, match="object 2 has no modality"):
        fused({"a": a, "b": b}, seen={"a": seen, "b": seen})
    with pytest.raises(InvalidInput, match="seen be of them"):
        fused({"a": a}, seen={"b": seen})
    with pytest.raises(ShapeError, match="alike"):
        fused({"a": a, "b": b[:4]})


def test_distances_to_centroids_are_one_less_the_cosine() -> None:
    train, labels, rows = DRAW.normal(size=(40, 4)), np.arange(40) % 3, DRAW.normal(size=(7, 4))
    found = cosine_distances(train, labels, rows)
    assert found.shape == (7, 3)
    for label in range(3):
        centroid = unit(unit(train[labels == label]).mean(0, keepdims=True))
        expected = 1 - unit(rows) @ centroid[0]
        np.testing.assert_allclose(found[:, label], expected, atol=1e-6)
    with pytest.raises(ShapeError, match="a label a row"):
        cosine_distances(train, labels[:3], rows)


def test_mahalanobis_distances_count_in_spreads_whatever_way_rows_are_turned() -> None:
    rows, labels = clouds(20_000)
    found = mahalanobis_distances(rows, labels, rows)
    inner = np.concatenate(
        [unit(rows)[labels == k] - unit(rows)[labels == k].mean(0) for k in (0, 1)]
    )
    inverse = np.linalg.inv(inner.T @ inner / len(inner))
    away = unit(rows)[:5] - unit(rows)[labels == 0].mean(0)
    exact = np.sqrt(np.einsum("nd,de,ne->n", away, inverse, away))
    np.testing.assert_allclose(found[:5, 0], exact, rtol=0.05)  # but for the shrinkage
    turn = np.linalg.qr(DRAW.normal(size=(4, 4)))[0]
    turned_rows = mahalanobis_distances(rows @ turn, labels, rows @ turn)
    np.testing.assert_allclose(turned_rows, found, rtol=1e-3)


def test_mahalanobis_distances_see_classes_through_a_wide_nuisance() -> None:
    rows, labels = clouds()
    for distances, least, most in ((cosine_distances, 0.5, 0.9), (mahalanobis_distances, 0.99, 1)):
        right = (distances(rows, labels, rows).argmin(1) == labels).mean()
        assert least <= right <= most, distances


@given(st.integers(0, 2**32 - 1))
def test_doubt_is_above_zero_just_where_another_label_is_suggested(seed: int) -> None:
    draw = np.random.default_rng(seed)
    distances, labels = draw.random((20, 4)), draw.choice([3, 5, 7, 11], 20)
    found = suggest(distances, labels, classes=[3, 5, 7, 11])
    np.testing.assert_array_equal(found.label != labels, found.doubt > 0)
    np.testing.assert_array_equal(found.label == labels, found.distance == distances.min(1))


def test_a_wrong_label_is_doubted_most_and_the_right_one_suggested() -> None:
    rows, truth = clouds()
    given_labels = truth.copy()
    wrong = np.arange(0, len(truth), 25)
    given_labels[wrong] = 1 - truth[wrong]
    distances = mahalanobis_distances(rows, given_labels, rows)
    found = suggest(distances, given_labels, classes=[0, 1])
    assert set(np.argsort(-found.doubt)[: len(wrong)]) == set(wrong)
    np.testing.assert_array_equal(found.label[wrong], truth[wrong])
    assert precision_at_k(found.doubt, given_labels != truth, k=len(wrong)) == 1
    assert precision_at_k(-found.doubt, given_labels != truth, k=len(wrong)) == 0


def test_agreement_counts_those_that_name_one_other_label() -> None:
    named = [[1, 2, 1, 0], [1, 2, 2, 0], [0, 1, 3, 0]]  # of three modalities, four objects
    suggestions = [suggest(1 - np.eye(4)[each], [0] * 4, classes=range(4)) for each in named]
    assert agreement(suggestions, [0] * 4).tolist() == [2, 2, 1, 0]
    assert agreement(suggestions[:1], [0] * 4).tolist() == [1, 1, 1, 0]


def test_labels_without_a_class_and_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"classes, \[0, 1\]; got \[4\] as well"):
        suggest(np.ones((2, 2)), [0, 4], classes=[0, 1])
    with pytest.raises(ShapeError, match=r"\(2, 2\), \(3,\) and \(2,\)"):
        suggest(np.ones((2, 2)), [0, 1, 1], classes=[0, 1])
    with pytest.raises(InvalidInput, match=r"k in \[1, n\]"):
        precision_at_k([1.0, 2.0], [True, False], k=3)


def test_encoders_come_back_from_disk_and_say_which_space_they_share(
    sky: Objects, space: JointSpace, tmp_path: Path
) -> None:
    expected = embeddings(space, sky.test)
    spaces = []
    for name, model in saved(space, tmp_path):
        np.testing.assert_array_equal(embed(model.encoder, sky.test[name]), expected[name])
        spaces.append(dict(model.lineage["space"]))  # type: ignore[call-overload]  # JSON
    assert [part.pop("modality") for part in spaces] == list(MODALITIES)
    assert spaces[0] == spaces[1] == spaces[2]


@pytest.mark.timeout(300)
def test_every_encoder_is_a_bundle_of_that_space(
    sky: Objects, space: JointSpace, tmp_path: Path
) -> None:
    expected = embeddings(space, sky.test)
    spaces, fingerprints, found = [], set(), {}
    for name, model in saved(space, tmp_path):
        items = list(sky.test[name][torch.arange(len(sky.test_labels))].numpy())
        made = export_model(tmp_path / f"{name}.attar", model, name=name, items=items)
        found[name] = attar.load(made.bundle.path, threads=1).embed(items).vectors
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-5)
        spaces.append(made.bundle.manifest.lineage["space"])
        fingerprints.add(made.bundle.manifest.fingerprint)
    assert spaces == [model.lineage["space"] for model in models(space).values()]
    assert len(fingerprints) == 3  # each of its own weights
    np.testing.assert_allclose(fused(found), expected["fused"], rtol=0, atol=1e-4)


def test_another_training_makes_another_space(sky: Objects, space: JointSpace) -> None:
    def identity(of: JointSpace) -> set[object]:
        return {str(model.lineage["space"])[:80] for model in models(of).values()}

    other = untrained(sky)
    assert len(identity(space)) == 1
    assert identity(space) != identity(other)
    assert identity(other) == identity(untrained(sky))


def saved(space: JointSpace, folder: Path) -> Iterator[tuple[str, TensorModel]]:
    """Give each encoder, read back from disk."""
    for name, model in models(space).items():
        save(model, folder / name)
        read = load(folder / name)
        assert isinstance(read, TensorModel)
        yield name, read


def clouds(count: int = 400) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Give two thin clouds side by side, far longer than they are apart."""
    draw = np.random.default_rng(1)
    labels = np.arange(count) % 2
    rows = draw.normal(size=(count, 4)) * (0.05, 1.5, 0.05, 0.05) + (0, 0, 0, 3)
    rows[:, 0] += 0.6 * labels
    return rows, labels


def unit(rows: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))
