"""Heads: calibrated, bound to their space, and the same after a round trip."""

import io
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from attar.errors import BundleRefused, InvalidInput, ShapeError, SpaceMismatch
from attar.heads import METRICS, KnnAnomaly, LinearClassifier, Metric, read_head

SPACE = "sha256:one"


def cloud(n: int, *, seed: int, dims: int = 8) -> NDArray[np.float32]:
    """Draw n points around one direction."""
    noise = np.random.default_rng(seed).normal(size=(n, dims))
    return np.asarray(noise + 2 * np.eye(dims)[0], np.float32)


def fit(n: int = 200, *, seed: int = 0, **options: float) -> KnnAnomaly:
    return KnnAnomaly.fit(
        cloud(n, seed=seed),
        model="m",
        fingerprint=SPACE,
        neighbours=int(options.get("neighbours", 5)),
        target_fpr=options.get("target_fpr", 0.05),
        seed=seed,
    )


def classifier() -> LinearClassifier:
    rng = np.random.default_rng(0)
    weights, bias = rng.normal(size=(3, 8)), rng.normal(size=3)
    return LinearClassifier(
        weights.astype(np.float32), bias.astype(np.float32), ("a", "β", "c"), 12, "m", SPACE
    )


def test_p_values_of_exchangeable_items_are_super_uniform() -> None:
    """P(p <= a) <= a on average over the calibration draw: 200 fits, 40 new items each."""
    p = np.concatenate(
        [
            head.p_values(head.score(cloud(40, seed=1000 + seed), fingerprint=SPACE))
            for seed in range(200)
            for head in [fit(120, seed=seed)]
        ]
    )
    for level in (0.05, 0.1, 0.2, 0.5, 0.8):
        # Items of one fit share its calibration: 200 independent fits set the error bar.
        assert (p <= level).mean() <= level + 3 * np.sqrt(level * (1 - level) / 200)
    assert (p <= 0.5).mean() > 0.4  # and they are not all 1


def test_calibration_items_are_held_out_of_the_references() -> None:
    data = cloud(100, seed=3)
    head = KnnAnomaly.fit(data, model="m", fingerprint=SPACE, neighbours=1)
    assert len(head.references) + len(head.calibration) == 100
    assert len(head.calibration) == 25
    # An item among the references would be at distance 0 from itself.
    assert (head.calibration > 1e-4).all()


def test_an_item_far_from_the_normal_ones_is_an_anomaly() -> None:
    head = fit()
    scores = head.score(-cloud(5, seed=9), fingerprint=SPACE)
    assert head.anomalies(scores).all()
    np.testing.assert_allclose(head.p_values(scores), 1 / (len(head.calibration) + 1))


@settings(deadline=None)
@given(st.integers(0, 50), st.sampled_from([0.02, 0.05, 0.1, 0.3, 0.9]))
def test_an_anomaly_is_an_item_whose_p_value_meets_the_target(seed: int, target: float) -> None:
    head = fit(100, seed=seed, target_fpr=target)
    scores = np.concatenate(
        [head.calibration, head.score(cloud(50, seed=seed + 7), fingerprint=SPACE)]
    )
    np.testing.assert_array_equal(head.anomalies(scores), head.p_values(scores) <= target)


@settings(deadline=None)
@given(st.permutations(range(75)))
def test_scores_do_not_depend_on_the_order_of_the_references(order: list[int]) -> None:
    head = fit(100)
    shuffled = KnnAnomaly(head.references[order], head.calibration, 5, 0.05, "m", SPACE)
    queries = cloud(10, seed=4)
    np.testing.assert_allclose(
        shuffled.score(queries, fingerprint=SPACE),
        head.score(queries, fingerprint=SPACE),
        atol=1e-6,
    )


def test_the_score_is_the_mean_cosine_distance_to_the_nearest() -> None:
    head, queries = fit(60, neighbours=3), cloud(600, seed=5)
    units = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    distances = np.sort(1 - units @ head.references.T, axis=1)[:, :3].mean(axis=1)
    np.testing.assert_allclose(head.score(queries, fingerprint=SPACE), distances, atol=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_the_nearest_of_many_references_are_those_of_another_implementation(metric: Metric) -> None:
    many = cloud(2 * 8192 + 2, seed=0, dims=4)  # compared by 8192 at a time, and the last are two
    many /= np.linalg.norm(many, axis=1, keepdims=True)
    some = np.concatenate([cloud(30, seed=1, dims=4), many[-1:]])
    head = KnnAnomaly(many, np.zeros(20, np.float32), 5, 0.05, "m", SPACE, metric)

    expected, _ = NearestNeighbors(n_neighbors=5, metric=metric).fit(many).kneighbors(some)
    scores = head.score(some, fingerprint=SPACE)
    assert scores == pytest.approx(expected.mean(axis=1), rel=1e-3, abs=2e-6)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("dims", "neighbours"), [(1024, 1400), (4, 1400)])
def test_memory_does_not_grow_with_neighbours_and_dimensions(
    dims: int, neighbours: int, metric: Metric
) -> None:
    """The rows of one query's 1,400 nearest took 11 MB in float64, four times over."""
    references, queries = cloud(1500, seed=0, dims=dims), cloud(2, seed=1, dims=dims)
    references /= np.linalg.norm(references, axis=1, keepdims=True)
    head = KnnAnomaly(references, np.zeros(9, np.float32), neighbours, 0.1, "m", SPACE, metric)
    expected, _ = NearestNeighbors(metric=metric).fit(references).kneighbors(queries, neighbours)

    tracemalloc.start()
    scores = head.score(queries, fingerprint=SPACE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 25e6
    assert scores == pytest.approx(expected.mean(axis=1), rel=1e-4)


def test_a_fit_is_looked_at_between_its_blocks_and_ends_with_what_that_raises() -> None:
    seen = list[int]()

    def third() -> None:
        seen.append(1)
        if len(seen) == 3:
            raise InterruptedError

    rows = cloud(4000, seed=0, dims=512)
    with pytest.raises(InterruptedError):
        KnnAnomaly.fit(rows, model="m", fingerprint=SPACE, between=third)
    assert len(seen) == 3


def test_too_few_items_for_the_target_are_refused_with_the_number_needed() -> None:
    with pytest.raises(InvalidInput, match="give at least 105"):
        fit(50, target_fpr=0.01)
    assert len(fit(105, target_fpr=0.01).references) == 5


def test_probabilities_sum_to_one_and_survive_large_logits() -> None:
    p = classifier().probabilities(1e4 * cloud(10, seed=1), fingerprint=SPACE)
    assert p.shape == (10, 3)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("head", [fit(), classifier()])
def test_a_head_survives_a_round_trip_byte_for_byte(head: KnnAnomaly | LinearClassifier) -> None:
    data = head.to_bytes()
    again = type(head).from_bytes(data)
    assert again.to_bytes() == data
    assert again.fingerprint == SPACE


def test_embeddings_of_another_space_or_shape_are_refused() -> None:
    vectors = cloud(2, seed=0)
    with pytest.raises(SpaceMismatch, match=r"sha256:one.*sha256:two"):
        fit().score(vectors, fingerprint="sha256:two")
    with pytest.raises(SpaceMismatch):
        classifier().probabilities(vectors, fingerprint="sha256:two")
    with pytest.raises(ShapeError, match=r"\(n, 8\) float32"):
        fit().score(vectors[:, :4], fingerprint=SPACE)
    with pytest.raises(InvalidInput, match="finite"):
        fit().score(vectors * np.float32(np.nan), fingerprint=SPACE)


def test_what_is_not_a_head_is_refused(tmp_path: Path) -> None:
    objects = tmp_path / "objects.npz"
    np.savez(objects, kind=np.str_("knn-anomaly"), references=np.array([{}], dtype=object))
    good = classifier().to_bytes()
    for data in (b"", b"nonsense", objects.read_bytes(), good, good[: len(good) // 2]):
        with pytest.raises(BundleRefused, match="not a knn-anomaly head"):
            KnnAnomaly.from_bytes(data)


def test_compressed_arrays_are_no_head_and_are_not_unpacked() -> None:
    bomb = io.BytesIO()
    np.savez_compressed(bomb, kind=np.zeros(2**27, "S1"))
    assert len(bomb.getvalue()) < 2**20
    tracemalloc.start()
    assert read_head(bomb.getvalue()) is None
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()
