"""Weighted layers: a linear probe on a learned weighted mean of the hidden layers.

The frozen-encoder protocol of SUPERB (Yang et al., Interspeech 2021, arXiv:2105.01051).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from attar.errors import InvalidInput, ShapeError

from ._rows import rows

ITERATIONS = 500


@dataclass(frozen=True, slots=True)
class WeightedLayers:
    """The accuracy on test rows, and the share of each layer in what was read, which sum to 1."""

    accuracy: float
    weights: tuple[float, ...]


def weighted_layers(
    train: ArrayLike,
    train_labels: ArrayLike,
    test: ArrayLike,
    test_labels: ArrayLike,
    *,
    inverse_penalty: float = 1.0,
) -> WeightedLayers:
    """Fit a softmax-weighted sum of layers and a logistic regression on it, together.

    `train` (layers, n, d) and `test` (layers, m, d) are embeddings of every layer; each is
    standardised by its train rows. The weights start equal. `inverse_penalty` is scikit-learn's C:
    with one layer this is `linear_accuracy`.

    Raises ShapeError when the layers do not agree, InvalidInput for less than two classes.
    """
    train_layers, test_layers = np.asarray(train, np.float32), np.asarray(test, np.float32)
    if (
        train_layers.ndim != 3
        or test_layers.ndim != 3
        or train_layers.shape[::2] != test_layers.shape[::2]
    ):
        raise ShapeError(
            f"train (layers, n, d) and test (layers, m, d) must agree; got "
            f"{train_layers.shape} and {test_layers.shape}"
        )
    classes, labels = np.unique(np.asarray(train_labels), return_inverse=True)
    if len(classes) < 2:
        raise InvalidInput(f"train_labels must be of two classes or more; got {classes.tolist()}")
    layers, _, d = train_layers.shape
    scaled = [_standardised(a, b) for a, b in zip(train_layers, test_layers, strict=True)]
    seen, unseen = (np.stack(part) for part in zip(*scaled, strict=True))
    start = np.zeros(layers + (d + 1) * len(classes))
    fitted = minimize(
        objective,
        start,
        args=(seen, labels, inverse_penalty),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": ITERATIONS},
    ).x
    shares, weight, bias = _parts(fitted, layers, d)
    predicted = (np.tensordot(shares, unseen, 1) @ weight + bias).argmax(1)
    hits = classes[predicted] == np.asarray(test_labels)
    return WeightedLayers(float(hits.mean()), tuple(shares.tolist()))


def objective(
    parameters: NDArray[np.float64],
    layers: NDArray[np.float64],
    labels: NDArray[np.int64],
    inverse_penalty: float,
) -> tuple[float, NDArray[np.float64]]:
    """Give the summed cross-entropy with an L2 penalty on the classifier, and the gradient.

    `parameters` are the logits of the layers' shares, then the (d, classes) weights, then a bias a
    class; `layers` is (layers, n, d). The sum is divided by n.
    """
    count, n, d = layers.shape
    shares, weight, bias = _parts(parameters, count, d)
    mixed = np.tensordot(shares, layers, 1)  # (n, d)
    logits = log_softmax(mixed @ weight + bias, axis=1)  # (n, classes)
    penalty = 0.5 / (inverse_penalty * n)
    value = -logits[np.arange(n), labels].mean() + penalty * (weight**2).sum()
    error = np.exp(logits)
    error[np.arange(n), labels] -= 1
    error /= n
    pull = np.tensordot(layers, error @ weight.T, 2)  # (layers,): the gradient of each share
    slopes = shares * (pull - shares @ pull)
    to_weight = mixed.T @ error + 2 * penalty * weight
    return float(value), np.concatenate([slopes, to_weight.ravel(), error.sum(0)])


def _parts(
    parameters: NDArray[np.float64], layers: int, d: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    classifier = parameters[layers:].reshape(d + 1, -1)
    return softmax(parameters[:layers]), classifier[:-1], classifier[-1]


def _standardised(
    train: NDArray[np.float32], test: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    train_rows, test_rows = (rows("layer", part).astype(np.float64) for part in (train, test))
    mean, deviation = train_rows.mean(axis=0), train_rows.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1)
    return (train_rows - mean) / deviation, (test_rows - mean) / deviation
