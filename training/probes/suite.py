"""The probes of a source with labels, in one dict: recipes log them, and claims use them."""

import numpy as np
from numpy.typing import NDArray

from ..data.source import Source
from .few_shot import few_rows
from .knn import knn_accuracy
from .linear import linear_accuracy
from .rankme import rankme

SCARCE, DRAWS = 5, 5  # labels a class in the scarce-label probe, and how often they are drawn


def evaluate(
    train: NDArray[np.float32], test: NDArray[np.float32], source: Source
) -> dict[str, float]:
    """Probe (n, dim) embeddings of a source's items, wherever they were computed.

    `rankme` is of the training items. Where both parts have labels, of two classes or more, `knn`
    and `linear` are the accuracies on the test part of probes that saw all training labels, and
    `scarce` that of 1-NN with five labels a class, averaged over five seeded draws.
    """
    figures = {"rankme": rankme(train)}
    if source.train_labels is None or source.test_labels is None:
        return figures
    if len(np.unique(source.train_labels)) == 1:
        return figures  # there is nothing to tell apart
    labels, test_labels = source.train_labels, source.test_labels
    scarce = [
        knn_accuracy(train[rows], labels[rows], test, test_labels, k=1)
        for rows in (few_rows(labels, SCARCE, seed=draw) for draw in range(DRAWS))
    ]
    return figures | {
        "knn": knn_accuracy(train, labels, test, test_labels),
        "linear": linear_accuracy(train, labels, test, test_labels),
        "scarce": float(np.mean(scarce)),
    }
