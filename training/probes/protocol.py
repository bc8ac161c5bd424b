"""The label protocol: accuracy where 1, 10 or 100 % of the items have a label, on fixed lists."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from attar.errors import InvalidInput

from .linear import linear_accuracy

SHARES = (0.01, 0.1, 1.0)  # SimCLRv2's (Chen et al. 2020, arXiv:2006.10029)


def label_protocol(
    train: ArrayLike,
    train_labels: ArrayLike,
    test: ArrayLike,
    test_labels: ArrayLike,
    *,
    lists: Mapping[float, ArrayLike],
) -> dict[float, float]:
    """Give the linear probe's accuracy for each share of labels, on that share's list of rows.

    `lists` are the rows of `train` (n, d) whose labels may be seen, by the share that they are of
    all; every method that is compared gets the same ones (`samplers.labels.label_lists`).

    Raises InvalidInput for a list with a row that is not there or comes twice, or without a class.
    """
    labels = np.asarray(train_labels)
    accuracies = {}
    for share, listed in lists.items():
        rows = np.asarray(listed)
        check_list(rows, labels, f"the list of {share:.0%}")
        seen = np.asarray(train)[rows]
        accuracies[share] = linear_accuracy(seen, labels[rows], test, test_labels)
    return accuracies


def check_list(rows: ArrayLike, labels: ArrayLike, name: str) -> None:
    """Raise InvalidInput unless `rows` are of `labels`, each once, and of every class."""
    chosen, known = np.asarray(rows), np.asarray(labels)
    n = len(known)
    whole = chosen.ndim == 1 and chosen.dtype.kind in "iu" and len(chosen) > 0
    if not whole or chosen.min() < 0 or chosen.max() >= n or len(np.unique(chosen)) < len(chosen):
        raise InvalidInput(
            f"{name} must be different rows of [0, {n}), in whole numbers; got {chosen.dtype} "
            f"{chosen.tolist()[:5]}..."
        )
    missing = np.setdiff1d(known, known[chosen])
    if len(missing):
        raise InvalidInput(
            f"{name} has no item of {len(missing)} classes, {missing[0]} for one; a list has at "
            "least one of each"
        )
