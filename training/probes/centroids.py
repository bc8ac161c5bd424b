"""Centroids: the distance of each item to every class, by cosine or by the covariance in classes.

The cosine to a centroid assumes that a class is a round cloud. Properties other than the class,
such as the brightness of a star, stretch the cloud; the Mahalanobis distance corrects for that.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.covariance import ledoit_wolf

from attar.errors import ShapeError

from ._rows import unit

Distances: TypeAlias = NDArray[np.float32]
"""Of m items to the classes, (m, classes), in the order of `np.unique(labels)`."""


def cosine_distances(train: ArrayLike, labels: ArrayLike, rows: ArrayLike) -> Distances:
    """Give 1 less the cosine, in [0, 2], from `rows` (m, d) to the centroid of each class.

    `train` (n, d) has a label a row, of any values that compare, and a centroid is the mean of a
    class's unit rows. Source: Rizhko and Bloom 2024 (AstroM3, arXiv:2411.08842). Raises ShapeError
    where labels are not one a row.
    """
    centroids = _centroids(*_labelled(train, labels))
    return np.asarray(1 - unit("rows", rows) @ unit("centroids", centroids).T)


def mahalanobis_distances(train: ArrayLike, labels: ArrayLike, rows: ArrayLike) -> Distances:
    """Give the distances in units of the spread within classes; arguments as `cosine_distances`.

    The spread is one covariance for all classes, of unit rows about their centroids. Source: Lee et
    al. 2018, arXiv:1807.03888, there of a classifier's features; the covariance is shrunk towards
    that of a ball, as Ledoit and Wolf 2004 (J. Multivar. Anal. 88, 365) do.
    """
    unit_rows, own = _labelled(train, labels)
    centroids = _centroids(unit_rows, own)
    covariance, _ = ledoit_wolf(
        (unit_rows - centroids[own]).astype(np.float64), assume_centered=True
    )
    values, vectors = np.linalg.eigh(covariance)
    # A direction without spread in any class gets a small positive one.
    widths = np.sqrt(np.maximum(values, max(1e-9 * values[-1], 1e-12)))
    whitening = (vectors / widths).astype(np.float32)
    items, centres = unit("rows", rows) @ whitening, centroids @ whitening
    return np.stack([np.linalg.norm(items - centre, axis=1) for centre in centres], axis=1)


def _labelled(train: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Give unit rows (n, d), and the index of the class of each (n,)."""
    unit_rows, row_labels = unit("train", train), np.asarray(labels)
    if row_labels.shape != (len(unit_rows),):
        raise ShapeError(
            f"train must have a label a row; got {unit_rows.shape} with {row_labels.shape}"
        )
    return unit_rows, np.unique(row_labels, return_inverse=True)[1].astype(np.int64)


def _centroids(unit_rows: NDArray[np.float32], own: NDArray[np.int64]) -> NDArray[np.float32]:
    return np.stack([unit_rows[own == index].mean(axis=0) for index in range(own.max() + 1)])
