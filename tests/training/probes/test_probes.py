"""Probes give what can be worked out by hand, and see nothing but numpy."""

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from attar.errors import InvalidInput, ShapeError
from attar.heads import KnnAnomaly
from attar.training.probes.anomaly import anomaly_auroc, auroc, conformal_p_values, knn_distance
from attar.training.probes.few_shot import few_shot
from attar.training.probes.knn import knn_accuracy
from attar.training.probes.linear import linear_accuracy
from attar.training.probes.rankme import rankme
from attar.training.probes.retrieval import labelled_scores, mrr, ranks, recall_at_k

Array = NDArray[np.float64]
seeds = st.integers(0, 1000)


def normal(seed: int, n: int, d: int) -> Array:
    return np.random.default_rng(seed).normal(size=(n, d))


def blobs(seed: int, n: int, *, classes: int = 3, d: int = 8) -> tuple[Array, NDArray[np.int64]]:
    """Rows around one direction a class, with their labels."""
    labels = np.arange(n) % classes
    return np.eye(classes, d)[labels] * 4 + normal(seed, n, d) * 0.3, labels


# RankMe


@pytest.mark.parametrize("rank", [1, 2, 5, 8])
def test_rankme_counts_orthogonal_directions_of_equal_strength(rank: int) -> None:
    rows = np.tile(np.eye(8)[:rank] * 3.0, (4, 1))
    assert rankme(rows) == pytest.approx(rank, rel=1e-4)


def test_rankme_of_a_collapsed_encoder_is_one() -> None:
    assert rankme(np.outer(np.arange(1, 20), np.arange(1, 6))) == pytest.approx(1, rel=1e-4)


@given(seed=seeds, n=st.integers(2, 20), d=st.integers(1, 20), scale=st.floats(0.01, 100))
def test_rankme_ignores_scale_and_rotation_and_stays_in_its_range(
    seed: int, n: int, d: int, scale: float
) -> None:
    z = normal(seed, n, d)
    rotation = np.linalg.qr(normal(seed + 1, d, d)).Q
    assert rankme(scale * z @ rotation) == pytest.approx(rankme(z), rel=1e-3)
    assert 1 - 1e-6 <= rankme(z) <= min(n, d) + 1e-3


def test_rankme_is_the_papers_formula_with_its_epsilon() -> None:
    z = np.diag([3.0, 1.0])
    p = np.array([0.75, 0.25]) + 1e-7
    assert rankme(z) == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-12)


def test_rankme_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidInput, match="every row is zero"):
        rankme(np.zeros((4, 3)))


# Retrieval


def test_ranks_are_counted_from_the_best_cosine() -> None:
    documents = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 5.0]])
    queries = np.array([[2.0, 0.1], [0.1, 1.0], [-1.0, 0.0]])
    assert ranks(queries, documents).tolist() == [1, 2, 1]  # the last one's cosines: -1, -0.7, 0
    assert ranks(queries, documents, [1, 1, 2]).tolist() == [2, 2, 1]


def test_recall_and_mrr_follow_from_the_ranks() -> None:
    documents = np.eye(4)
    queries = (
        documents[[0, 1, 2, 2]] + 0.1 * documents[[1, 0, 3, 3]]
    )  # the last finds itself second
    assert ranks(queries, documents).tolist() == [1, 1, 1, 2]
    assert recall_at_k(queries, documents, k=1) == 0.75
    assert recall_at_k(queries, documents, k=2) == 1.0
    assert mrr(queries, documents) == pytest.approx((1 + 1 + 1 + 0.5) / 4)


def test_a_collapsed_encoder_scores_last_and_not_first() -> None:
    same = np.ones((50, 4))
    assert ranks(same, same).tolist() == [50] * 50
    assert recall_at_k(np.zeros((50, 4)), np.zeros((50, 4)), k=10) == 0.0


@given(seed=seeds)
def test_shuffling_the_documents_keeps_the_ranks(seed: int) -> None:
    queries, documents = normal(seed, 20, 5), normal(seed + 1, 30, 5)
    order = np.random.default_rng(seed).permutation(30)
    places = np.argsort(order)  # where each document went
    assert (
        ranks(queries, documents).tolist() == ranks(queries, documents[order], places[:20]).tolist()
    )


def test_many_queries_rank_as_few_do() -> None:
    queries, documents = normal(0, 2500, 4), normal(1, 40, 4)
    relevant = np.arange(2500) % 40
    one_by_one = [
        int(ranks(queries[i : i + 1], documents, relevant[i : i + 1])[0])
        for i in range(0, 2500, 97)
    ]
    assert ranks(queries, documents, relevant)[::97].tolist() == one_by_one


def test_retrieval_refuses_what_does_not_agree() -> None:
    with pytest.raises(ShapeError, match=r"got \(3, 2\), \(3, 4\) and \(3,\)"):
        ranks(np.ones((3, 2)), np.ones((3, 4)))
    with pytest.raises(InvalidInput, match=r"relevant must be in \[0, 3\).*got 0 to 3"):
        ranks(np.ones((4, 2)), np.ones((3, 2)))


# Retrieval by label


@pytest.mark.parametrize("within", [False, True])
@given(seed=seeds, classes=st.integers(1, 4))
def test_labelled_retrieval_is_scikit_learns_precision_averaged(
    *, within: bool, seed: int, classes: int
) -> None:
    draw = np.random.default_rng(seed)
    documents, known = normal(seed, 25, 3), draw.integers(0, classes, 25)
    queries = documents if within else normal(seed + 1, 7, 3)
    wanted = known if within else draw.integers(0, classes, 7)
    unit = [z / np.linalg.norm(z, axis=1, keepdims=True) for z in (queries, documents)]
    cosines = unit[0] @ unit[1].T
    average, first = [], []
    for row, label in enumerate(wanted):
        others = np.arange(25) != (row if within else -1)
        right, near = known[others] == label, cosines[row, others]
        if right.any():
            average.append(average_precision_score(right, near))
            first.append(1 + int((near > near[right].max()).sum()))
    if within:
        found = labelled_scores(queries, wanted, k=3)
    else:
        found = labelled_scores(queries, wanted, documents, known, k=3)
    assert found["map"] == pytest.approx(np.mean(average), rel=1e-5)
    assert found["mrr"] == pytest.approx(np.mean(1 / np.array(first)))
    assert found["hit_at_1"] == pytest.approx(np.mean(np.array(first) == 1))
    assert found["hit_at_3"] == pytest.approx(np.mean(np.array(first) <= 3))


def test_ties_count_against_the_query_by_label_too() -> None:
    found = labelled_scores([[1.0, 0]], [1], [[1.0, 0]] * 4, [1, 0, 0, 0], k=3)
    assert found == {"map": 0.25, "mrr": 0.25, "hit_at_1": 0.0, "hit_at_3": 0.0}


def test_many_labelled_queries_score_as_few_do() -> None:
    z, labels = normal(0, 2100, 4), np.arange(2100) % 7
    parts = [
        labelled_scores(z[i : i + 300], labels[i : i + 300], z[:50], labels[:50])
        for i in range(0, 2100, 300)
    ]
    whole = labelled_scores(z, labels, z[:50], labels[:50])
    for name, value in whole.items():
        assert value == pytest.approx(np.mean([part[name] for part in parts]))


def test_labelled_retrieval_refuses_what_does_not_agree() -> None:
    with pytest.raises(ShapeError, match=r"got \(3, 2\) with \(2,\) and \(3, 2\) with \(2,\)"):
        labelled_scores(np.ones((3, 2)), [0, 1])
    with pytest.raises(ShapeError, match=r"\(2, 2\) with \(\)"):
        labelled_scores(np.ones((3, 2)), [0, 1, 2], np.ones((2, 2)))
    with pytest.raises(InvalidInput, match="no query has a document with its label"):
        labelled_scores(np.ones((3, 2)), [0, 1, 2])


# Neighbours, lines and anomalies


def test_neighbours_and_lines_find_separated_classes() -> None:
    train, test = blobs(0, 90), blobs(1, 60)
    assert knn_accuracy(*train, *test, k=5) == 1.0
    assert linear_accuracy(*train, *test) == 1.0


def test_neighbours_and_lines_find_nothing_in_noise() -> None:
    (_, labels), (_, truth) = blobs(0, 300), blobs(1, 300)
    noise = normal(2, 300, 8), labels, normal(3, 300, 8), truth
    assert knn_accuracy(*noise) == pytest.approx(1 / 3, abs=0.1)
    assert linear_accuracy(*noise) == pytest.approx(1 / 3, abs=0.1)


def test_a_near_neighbour_outvotes_two_far_ones() -> None:
    train, labels = np.array([[1.0, 0.1], [0.0, 1.0], [0.1, 1.0]]), ["near", "far", "far"]
    assert knn_accuracy(train, labels, [[1.0, 0.0]], ["near"], k=3) == 1.0


def test_more_neighbours_than_rows_is_all_of_them() -> None:
    train, labels = blobs(0, 9)
    assert knn_accuracy(train, labels, train, labels, k=1000) == 1.0
    assert knn_distance(train, train, k=1000).shape == (9,)


def test_auroc_is_the_chance_of_the_right_order() -> None:
    assert auroc([0.1, 0.2], [0.3, 0.4]) == 1.0
    assert auroc([0.3, 0.4], [0.1, 0.2]) == 0.0
    assert auroc([1.0, 1.0], [1.0]) == 0.5
    assert auroc([1.0, 3.0], [2.0, 4.0]) == 0.75


def test_strange_rows_are_far_from_normal_ones() -> None:
    train, held_out = blobs(0, 90)[0], blobs(1, 60)[0]
    assert anomaly_auroc(train, held_out, -held_out) == 1.0
    assert anomaly_auroc(train, held_out[::2], held_out[1::2]) == pytest.approx(0.5, abs=0.15)
    np.testing.assert_allclose(knn_distance(train[:1], -train[:1]), [2.0], rtol=1e-6)


def test_equal_rows_are_at_distance_zero_and_their_order_is_a_tie() -> None:
    """In float32 products of equal unit rows are off by 1e-7, above one and below it."""
    row = np.random.default_rng(0).normal(size=(1, 99)).astype(np.float32)
    for n in (1, 7, 64):
        assert (knn_distance(row.repeat(40, 0), row.repeat(n, 0)) == 0).all()
    assert anomaly_auroc(row.repeat(40, 0), row.repeat(30, 0), row.repeat(7, 0)) == 0.5


@given(seeds)
def test_a_p_value_counts_the_calibration_scores_that_are_as_high(seed: int) -> None:
    draw = np.random.default_rng(seed)
    calibration, scores = draw.integers(10, size=7), draw.integers(12, size=5)

    expected = [(1 + sum(c >= score for c in calibration)) / 8 for score in scores]
    assert conformal_p_values(calibration, scores).tolist() == expected


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2])
def test_p_values_are_those_of_the_detector_on_a_device(rate: float) -> None:
    """Where no two scores are so near that it takes them for equal."""
    rows = normal(0, 400, 16).astype(np.float32)
    head = KnnAnomaly.fit(rows[:300], model="m", fingerprint="f", target_fpr=rate)
    scores = head.score(rows[300:], fingerprint="f")

    np.testing.assert_allclose(
        conformal_p_values(head.calibration, scores), head.p_values(scores), rtol=1e-6
    )


def test_of_normal_scores_at_most_the_requested_share_is_flagged() -> None:
    scores = normal(0, 2000, 200)
    flagged = [(conformal_p_values(row[:99], row[99:]) <= 0.1).mean() for row in scores]

    assert np.mean(flagged) == pytest.approx(0.1, abs=0.003)


@pytest.mark.parametrize("length", [1e30, 1e19, 1e-22, 1e-40])
def test_distances_do_not_depend_on_how_long_rows_are(length: float) -> None:
    """In float32 the squares of these lengths are infinity, or zero."""
    train, test = blobs(0, 30)[0], blobs(1, 9)[0]
    scaled = [(rows * np.float64(length)).astype(np.float32) for rows in (train, test)]
    np.testing.assert_allclose(knn_distance(*scaled), knn_distance(train, test), atol=1e-4)


# All of them


@pytest.mark.parametrize(
    "probe",
    [
        rankme,
        lambda z: knn_accuracy(z, np.zeros(len(z)), z, np.zeros(len(z))),
        lambda z: linear_accuracy(z, np.zeros(len(z)), z, np.zeros(len(z))),
        lambda z: ranks(z, z),
        lambda z: labelled_scores(z, np.zeros(len(z))),
        lambda z: knn_distance(z, z),
        lambda z: few_shot(z, np.zeros(len(z)), z, np.zeros(len(z)), each=1),
    ],
    ids=[
        "rankme",
        "knn",
        "linear",
        "retrieval",
        "labelled",
        "anomaly",
        "few-shot",
    ],
)
def test_embeddings_that_are_no_finite_rows_are_refused(
    probe: Callable[[Array], object],
) -> None:
    with pytest.raises(ShapeError, match=r"must be \(n, d\).*got \(3,\)"):
        probe(np.ones(3))
    with pytest.raises(ShapeError, match=r"got \(0, 3\)"):
        probe(np.ones((0, 3)))
    with pytest.raises(InvalidInput, match="row 1 is not"):
        probe(np.array([[1.0, 2.0], [np.nan, 1.0]]))


def test_probes_import_no_torch() -> None:
    modules = ["anomaly", "few_shot", "interval", "knn", "layers", "linear"]
    modules += ["rankme", "retrieval"]
    code = "".join(f"import attar.training.probes.{name}\n" for name in modules)
    code += "import sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
