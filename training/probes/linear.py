"""Linear probe: whether a linear classifier can read the label off the embedding."""

import numpy as np
from numpy.typing import ArrayLike
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
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
    """Give the test accuracy of a logistic regression fitted on standardised train rows.

    `train` (n, d) and `test` (m, d) are embeddings; `inverse_penalty` is scikit-learn's C.
    """
    classifier = LogisticRegression(C=inverse_penalty, max_iter=2000)
    model = make_pipeline(StandardScaler(), classifier)
    model.fit(rows("train", train), np.asarray(train_labels))
    return float(model.score(rows("test", test), np.asarray(test_labels)))
