"""Linear probe: whether a linear classifier can read the label off the embedding."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from ._rows import rows


def linear_accuracy(
    train: ArrayLike,
    train_labels: ArrayLike,
    test: ArrayLike,
    test_labels: ArrayLike,
    *,
    inverse_penalty: float = 1.0,
) -> float:
    """Give the share of test rows that `linear_hits` finds, with its arguments."""
    hits = linear_hits(train, train_labels, test, test_labels, inverse_penalty=inverse_penalty)
    return float(hits.mean())


def linear_hits(
    train: ArrayLike,
    train_labels: ArrayLike,
    test: ArrayLike,
    test_labels: ArrayLike,
    *,
    inverse_penalty: float = 1.0,
) -> NDArray[np.bool_]:
    """Say of each test row (m,) whether a logistic regression on standardised train rows is right.

    `train` (n, d) and `test` (m, d) are embeddings; `inverse_penalty` is scikit-learn's C.
    """
    model = _fitted(train, train_labels, inverse_penalty)
    hits: NDArray[np.bool_] = model.predict(rows("test", test)) == np.asarray(test_labels)
    return hits


def linear_auroc(
    train: ArrayLike,
    train_labels: ArrayLike,
    test: ArrayLike,
    test_labels: ArrayLike,
    *,
    inverse_penalty: float = 1.0,
) -> float:
    """Give the chance that a logistic regression prefers a test row of class 1 to one of class 0.

    The arguments are `linear_hits`'s; labels are 0 and 1, both of them in either part.
    """
    model = _fitted(train, train_labels, inverse_penalty)
    scores = model.decision_function(rows("test", test))
    return float(roc_auc_score(np.asarray(test_labels), scores))


def _fitted(train: ArrayLike, labels: ArrayLike, inverse_penalty: float) -> Pipeline:
    classifier = LogisticRegression(C=inverse_penalty, max_iter=2000)
    model = make_pipeline(StandardScaler(), classifier)
    return model.fit(rows("train", train), np.asarray(labels))
