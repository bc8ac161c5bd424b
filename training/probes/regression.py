"""Regression probe: the error of a linear map from embeddings to a number, such as solubility.

Hoerl and Kennard 1970, "Ridge Regression".
"""

import numpy as np
from numpy.typing import ArrayLike
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ._rows import rows


def ridge_error(
    train: ArrayLike,
    train_values: ArrayLike,
    test: ArrayLike,
    test_values: ArrayLike,
    *,
    penalty: float = 1.0,
) -> float:
    """Give the root mean squared error on test rows, in the unit of the values.

    The map is a ridge regression on standardised train rows; `penalty` is scikit-learn's alpha.
    `train` (n, d) and `test` (m, d) are embeddings.
    """
    model = make_pipeline(StandardScaler(), Ridge(alpha=penalty))
    model.fit(rows("train", train), np.asarray(train_values, np.float64))
    apart = model.predict(rows("test", test)) - np.asarray(test_values, np.float64)
    return float(np.sqrt(np.square(apart).mean()))
