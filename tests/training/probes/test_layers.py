"""The weighted-layer probe reads the layers that hold the answer, and is a linear probe of one."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import check_grad

from attar.errors import InvalidInput, ShapeError
from attar.training.probes.layers import objective, weighted_layers
from attar.training.probes.linear import linear_accuracy

LABELS, TRUTH = np.arange(150) % 3, np.arange(90) % 3


def telling(seed: int, labels: NDArray[np.int64], noise: float) -> NDArray[np.float64]:
    draw = np.random.default_rng(seed)
    return np.eye(3, 8)[labels] + noise * draw.normal(size=(len(labels), 8))


def test_the_gradient_is_the_objectives() -> None:
    draw = np.random.default_rng(0)
    layers, labels = draw.normal(size=(3, 20, 4)), draw.integers(0, 3, 20)
    at = draw.normal(size=3 + 5 * 3)

    def value(p: NDArray[np.float64]) -> float:
        return objective(p, layers, labels, 0.5)[0]

    def slope(p: NDArray[np.float64]) -> NDArray[np.float64]:
        return objective(p, layers, labels, 0.5)[1]

    assert check_grad(value, slope, at) < 1e-5


def test_one_layer_is_the_linear_probe() -> None:
    train, test = telling(0, LABELS, 0.8), telling(1, TRUTH, 0.8)
    found = weighted_layers(train[None], LABELS, test[None], TRUTH)
    assert found.weights == (1.0,)
    assert found.accuracy == pytest.approx(linear_accuracy(train, LABELS, test, TRUTH), abs=0.012)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_the_layer_that_knows_is_read(layer: int) -> None:
    noise = [5.0, 5.0, 5.0]
    noise[layer] = 0.3
    train = np.stack([telling(i, LABELS, n) for i, n in enumerate(noise)])
    test = np.stack([telling(9 + i, TRUTH, n) for i, n in enumerate(noise)])
    found = weighted_layers(train, LABELS, test, TRUTH)
    assert sum(found.weights) == pytest.approx(1)
    assert np.argmax(found.weights) == layer
    last = linear_accuracy(train[-1], LABELS, test[-1], TRUTH)
    assert found.accuracy >= max(last, 0.9) - 0.02


def test_layers_that_do_not_agree_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"must agree; got \(2, 3, 4\) and \(1, 3, 4\)"):
        weighted_layers(np.ones((2, 3, 4)), [0, 1, 0], np.ones((1, 3, 4)), [0, 1, 0])
    with pytest.raises(InvalidInput, match=r"two classes or more; got \[0\]"):
        weighted_layers(np.ones((1, 3, 4)), [0] * 3, np.ones((1, 3, 4)), [0] * 3)
