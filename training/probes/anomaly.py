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


def conformal_p_values(calibration: ArrayLike, scores: ArrayLike) -> NDArray[np.float64]:
    """Give each score's p-value: the share of c calibration scores, and itself, as high as it.

    `calibration` (c,) are scores of normal items that the detector was not fitted on. Of a normal
    item the p-value is at most a with a probability of at most a, for every a, over the draw of the
    calibration. Source: Laxhammar and Falkman 2010; Bates et al. 2023, arXiv:2104.08279, eq. 2.
    """
    ordered = np.sort(np.asarray(calibration))
    as_high = len(ordered) - np.searchsorted(ordered, np.asarray(scores), side="left")
    return np.asarray((1 + as_high) / (1 + len(ordered)))


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
