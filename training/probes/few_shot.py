"""Few-shot probe: the accuracy with few labels a class, on average over draws of the labels.

Nearest centroid: Snell et al., NeurIPS 2017, arXiv:1703.05175.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attar.errors import InvalidInput

from ._rows import unit
from .knn import knn_accuracy


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A mean over draws of labels, and the standard deviation between them (n - 1)."""

    mean: float
    deviation: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FewShot:
    """Accuracies in [0, 1] of nearest centroid and of 1-NN, which have nothing to tune."""

    centroid: Spread
    nearest: Spread


def few_shot(
    train: ArrayLike,
    train_labels: ArrayLike,
    test: ArrayLike,
    test_labels: ArrayLike,
    *,
    each: int,
    draws: int = 10,
    seed: int = 0,
) -> FewShot:
    """Give the accuracy on test rows when only `each` train rows a class have a label.

    A test row is of the class whose centroid, or whose one nearest row, is nearest by cosine; the
    centroid is the mean of unit rows (Snell et al. 2017, arXiv:1703.05175, of unit rows). Draw i
    depends on `seed` + i. `train` (n, d) and `test` (m, d) are embeddings; a class that has fewer
    than `each` rows gives all it has.

    Raises InvalidInput when `each` is below 1 or `draws` below 2.
    """
    if each < 1 or draws < 2:
        raise InvalidInput(f"each must be at least 1 and draws 2; got {each} and {draws}")
    train_rows, test_rows = unit("train", train), unit("test", test)
    labels, truth = np.asarray(train_labels), np.asarray(test_labels)
    centroid, nearest = [], []
    for draw in range(draws):
        rows = few_rows(labels, each, seed=seed + draw)
        centroid.append(centroid_accuracy(train_rows[rows], labels[rows], test_rows, truth))
        nearest.append(knn_accuracy(train_rows[rows], labels[rows], test_rows, truth, k=1))
    return FewShot(centroid=_spread(centroid), nearest=_spread(nearest))


def centroid_accuracy(
    train: ArrayLike, train_labels: ArrayLike, test: ArrayLike, test_labels: ArrayLike
) -> float:
    """Give the share of test rows whose nearest class centroid, by cosine, is their own's."""
    rows, labels = unit("train", train), np.asarray(train_labels)
    classes = np.unique(labels)
    centroids = np.stack([rows[labels == label].mean(axis=0) for label in classes])
    cosines = unit("test", test) @ unit("centroids", centroids).T  # (m, classes)
    return float((classes[cosines.argmax(axis=1)] == np.asarray(test_labels)).mean())


def few_rows(labels: NDArray[np.generic], each: int, *, seed: int) -> NDArray[np.int64]:
    """Draw the rows of `each` items a class, or of all that a smaller class has."""
    draw = np.random.default_rng(seed)
    rows = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return np.concatenate([draw.choice(r, min(each, len(r)), replace=False) for r in rows])


def _spread(values: list[float]) -> Spread:
    return Spread(mean=float(np.mean(values)), deviation=float(np.std(values, ddof=1)))
