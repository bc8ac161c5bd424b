"""Few labels are drawn fairly, and what they give is what can be counted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier

from attar.errors import InvalidInput
from attar.training.probes.few_shot import centroid_accuracy, few_rows, few_shot

Labelled = tuple[NDArray[np.float64], NDArray[np.int64]]


def blobs(seed: int, n: int, *, noise: float = 0.7) -> Labelled:
    """Unit rows around one direction for each of three classes."""
    draw = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    rows = np.eye(3, 6)[labels] + noise * draw.normal(size=(n, 6))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), labels


@given(labels=st.lists(st.integers(0, 3), min_size=1, max_size=40), each=st.integers(1, 5))
def test_every_class_gives_as_many_rows_as_it_can(labels: list[int], each: int) -> None:
    known = np.array(labels)
    rows = few_rows(known, each, seed=0)
    assert len(set(rows.tolist())) == len(rows)
    for label in set(labels):
        assert (known[rows] == label).sum() == min(each, (known == label).sum())


def test_accuracies_are_scikit_learns_averaged_over_the_draws() -> None:
    (train, labels), (test, truth) = blobs(0, 90), blobs(1, 120)
    found = few_shot(train, labels, test, truth, each=3, draws=6, seed=5)
    nearest, centroid = [], []
    for draw in range(6):
        rows = few_rows(labels, 3, seed=5 + draw)
        # On unit rows the nearest by distance is the nearest by cosine.
        one = KNeighborsClassifier(1).fit(train[rows], labels[rows])
        nearest.append(one.score(test, truth))
        means = np.stack([train[rows][labels[rows] == label].mean(0) for label in range(3)])
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        centroid.append(KNeighborsClassifier(1).fit(means, [0, 1, 2]).score(test, truth))
    assert found.nearest.mean == pytest.approx(np.mean(nearest))
    assert found.nearest.deviation == pytest.approx(np.std(nearest, ddof=1))
    assert found.centroid.mean == pytest.approx(np.mean(centroid))
    assert found.centroid.deviation == pytest.approx(np.std(centroid, ddof=1))


def test_more_labels_help_and_all_of_them_leave_nothing_to_chance() -> None:
    data = *blobs(0, 300), *blobs(1, 300)
    few, many = (few_shot(*data, each=each) for each in (1, 20))
    assert many.centroid.mean > few.centroid.mean
    assert many.centroid.deviation < few.centroid.deviation
    everything = few_shot(*data, each=1000)
    assert everything.centroid.deviation == pytest.approx(0)
    assert everything.centroid.mean == pytest.approx(centroid_accuracy(*data))


def test_few_shot_refuses_no_label_a_class() -> None:
    train, labels = blobs(0, 9)
    with pytest.raises(InvalidInput, match="each must be at least 1 and draws 2; got 0 and 10"):
        few_shot(train, labels, train, labels, each=0)
