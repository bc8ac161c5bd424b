"""kNN probe: whether an item's nearest neighbours carry its label."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._rows import unit


def knn_accuracy(
    train: ArrayLike,
    train_labels: ArrayLike,
    test: ArrayLike,
    test_labels: ArrayLike,
    *,
    k: int = 20,
    temperature: float = 0.07,
) -> float:
    """Give the share of test rows that `knn_hits` finds, with its arguments."""
    hits = knn_hits(train, train_labels, test, test_labels, k=k, temperature=temperature)
    return float(hits.mean())


def knn_hits(
    train: ArrayLike,
    train_labels: ArrayLike,
    test: ArrayLike,
    test_labels: ArrayLike,
    *,
    k: int = 20,
    temperature: float = 0.07,
) -> NDArray[np.bool_]:
    """Say of each test row (m,) whether its label wins the vote of its `k` nearest train rows.

    Neighbours are by cosine and vote with weight exp(cosine / temperature), as Wu et al. 2018
    (arXiv:1805.01978, section 3.4) do; k is capped at the number of train rows. `train` (n, d) and
    `test` (m, d) are embeddings, the labels (n,) and (m,) any values that compare.
    """
    documents, queries = unit("train", train), unit("test", test)
    classes, labels = np.unique(np.asarray(train_labels), return_inverse=True)
    cosines = queries @ documents.T  # (m, n)
    k = min(k, len(documents))
    nearest = np.argpartition(-cosines, k - 1, axis=1)[:, :k]  # (m, k)
    weights = np.exp((np.take_along_axis(cosines, nearest, axis=1) - 1) / temperature)
    votes = np.zeros((len(queries), len(classes)))
    np.add.at(votes, (np.arange(len(queries))[:, None], labels[nearest]), weights)
    hits: NDArray[np.bool_] = classes[votes.argmax(axis=1)] == np.asarray(test_labels)
    return hits
