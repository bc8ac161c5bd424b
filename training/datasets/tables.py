"""Tables that are here without a download: two that scikit-learn ships."""

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_wine

from ..data.arrays import array_rows
from ..data.source import Source
from ..data.split import DataSplit, source


def breast_cancer() -> Source:
    """Give 569 tumours of 30 measured features, benign or malignant, 30 % held out.

    Features are as they were measured, on scales of their own.
    """
    values, labels = load_breast_cancer(return_X_y=True)
    return _table("breast_cancer", values, labels)


def wine() -> Source:
    """Give 178 wines of 13 measured features and three growers, 30 % held out.

    Features are as they were measured, on scales of their own.
    """
    values, labels = load_wine(return_X_y=True)
    return _table("wine", values, labels)


def _table(name: str, values: NDArray[np.float64], labels: NDArray[np.int64]) -> Source:
    return source(
        DataSplit(name, array_rows(name, values.astype(np.float32), form="table"), labels)
    )
