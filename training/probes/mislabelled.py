"""Mislabelled items: labels that the embeddings contradict, and the labels that they suggest.

Rizhko and Bloom 2024 (AstroM3, arXiv:2411.08842): an object far from the centroid of its own class
and nearest to that of another is a candidate, the more so where modalities agree.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attar.errors import InvalidInput, ShapeError


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """What one embedding an object, (n,) in all, says of the objects' labels.

    `label` is that of the nearest class. `distance` is how far the object is from the class that it
    has: how odd it is there. `doubt` is how much nearer the nearest other class is, above 0 where
    `label` is another.
    """

    label: NDArray[Any]
    distance: NDArray[np.float32]
    doubt: NDArray[np.float32]


def suggest(distances: ArrayLike, labels: ArrayLike, *, classes: ArrayLike) -> Suggestion:
    """Hold each object's label (n,) against its `distances` (n, classes), as `centroids` gives.

    `classes` are the columns' labels, in rising order.

    Raises:
        ShapeError: the three do not fit.
        InvalidInput: there are fewer than two classes, or an object's label is none of them.
    """
    far, own, names = np.asarray(distances), np.asarray(labels), np.asarray(classes)
    if far.ndim != 2 or own.shape != far.shape[:1] or names.shape != far.shape[1:]:
        raise ShapeError(
            f"distances must be (n, classes), labels (n,) and classes (classes,); got {far.shape}, "
            f"{own.shape} and {names.shape}"
        )
    if len(names) < 2 or not np.isin(own, names).all():
        raise InvalidInput(
            f"labels must be of at least two classes, {names.tolist()}; got "
            f"{np.setdiff1d(own, names).tolist()} as well"
        )
    of_own = own[:, None] == names
    to_own = far[of_own]
    to_other = np.where(of_own, np.inf, far).min(axis=1)
    return Suggestion(label=names[far.argmin(axis=1)], distance=to_own, doubt=to_own - to_other)


def agreement(suggestions: Sequence[Suggestion], labels: ArrayLike) -> NDArray[np.int64]:
    """Count for each object (n,) how many suggestions name one and the same other label.

    Where they name several, the count is of the one that most name; 0 where all keep the label.
    """
    own = np.asarray(labels)
    named = np.stack([each.label for each in suggestions])  # (m, n)
    votes = (named[:, None] == named).sum(axis=0)  # of either's, by itself too
    counted: NDArray[np.int64] = np.where(named == own, 0, votes).max(axis=0)
    return counted


def precision_at_k(scores: ArrayLike, wanted: ArrayLike, *, k: int) -> float:
    """Give the share of the `k` highest scores (n,) that are `wanted` (n,); raises InvalidInput."""
    values, right = np.asarray(scores), np.asarray(wanted, np.bool_)
    if values.shape != right.shape or values.ndim != 1 or not 1 <= k <= len(values):
        raise InvalidInput(
            f"scores and wanted must be (n,) and k in [1, n]; got {values.shape}, {right.shape} "
            f"and {k}"
        )
    return float(right[np.argsort(-values, kind="stable")[:k]].mean())
