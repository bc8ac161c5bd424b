"""Anomaly probe: are anomalous items farther from the training items than normal ones?

The score is the mean distance to the k nearest neighbours: Angiulli and Pizzuti, PKDD 2002, "Fast
Outlier Detection in High Dimensional Spaces".
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_auc_score

from ._rows import unit


def knn_distance(train: ArrayLike, test: ArrayLike, *, k: int = 5) -> NDArray[np.float32]:
    """Give each test row's mean cosine distance, in [0, 2], to its `k` nearest train rows.

    Distances are rounded to 1e-6, what float32 can tell, so that those of equal rows are equal.
    """
    cosines = unit("test", test) @ unit("train", train).T  # (m, n)
    k = min(k, cosines.shape[1])
    distances = 1 - np.partition(cosines, -k, axis=1)[:, -k:].mean(axis=1)
    return np.asarray(distances.round(6).clip(0, 2))


def auroc(normal: ArrayLike, anomalous: ArrayLike) -> float:
    """Give the chance that an anomalous score exceeds a normal one; a tie counts half."""
    scores = np.concatenate([np.asarray(normal), np.asarray(anomalous)])
    truth = np.repeat([0, 1], [np.size(normal), np.size(anomalous)])
    return float(roc_auc_score(truth, scores))


def anomaly_auroc(
    train: ArrayLike, normal: ArrayLike, anomalous: ArrayLike, *, k: int = 5
) -> float:
    """Give the AUROC of `knn_distance` from `train` at telling `anomalous` rows from `normal`."""
    return auroc(knn_distance(train, normal, k=k), knn_distance(train, anomalous, k=k))
