"""Alignment and uniformity are their formulas, and know their limits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import pdist
from scipy.special import hyp0f1

from attar.errors import ShapeError
from attar.training.probes.geometry import alignment, uniformity

seeds = st.integers(0, 1000)


def sphere(seed: int, n: int, d: int) -> NDArray[np.float64]:
    z = np.random.default_rng(seed).normal(size=(n, d))
    rows: NDArray[np.float64] = z / np.linalg.norm(z, axis=1, keepdims=True)
    return rows


@given(seed=seeds, t=st.floats(0.5, 4))
def test_uniformity_is_the_papers_formula(seed: int, t: float) -> None:
    z = sphere(seed, 30, 4)
    expected = np.log(np.exp(-t * pdist(z, "sqeuclidean")).mean())
    assert uniformity(3 * z, t=t) == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("d", [2, 3, 16])
def test_a_uniform_sphere_has_the_value_that_theory_gives(d: int) -> None:
    # E exp(-t |x - y|^2) = e^(-2t) E exp(2t cos) = e^(-2t) 0F1(; d/2; t^2) on the unit sphere.
    expected = np.log(hyp0f1(d / 2, 4.0)) - 4
    assert uniformity(sphere(0, 3000, d)) == pytest.approx(expected, abs=0.01)


def test_a_collapsed_encoder_is_perfectly_aligned_and_not_uniform() -> None:
    same = np.tile([[0.6, 0.8]], (2000, 1))
    assert uniformity(same) == pytest.approx(0, abs=1e-5)
    assert alignment(same, same) == pytest.approx(0, abs=1e-6)


@given(seed=seeds)
def test_alignment_is_the_distance_of_pairs(seed: int) -> None:
    x, y = sphere(seed, 9, 5), sphere(seed + 1, 9, 5)
    assert alignment(2 * x, y) == pytest.approx((2 - 2 * (x * y).sum(1)).mean(), rel=1e-4)
    assert alignment(x, y, alpha=1) == pytest.approx(np.linalg.norm(x - y, axis=1).mean(), rel=1e-4)


def test_opposite_rows_are_as_far_as_rows_can_be() -> None:
    x = sphere(0, 6, 3)
    assert alignment(x, -x) == pytest.approx(4, rel=1e-5)


def test_what_does_not_pair_up_or_compare_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"pairs must share one \(n, d\) shape; got \(3, 2\)"):
        alignment(np.ones((3, 2)), np.ones((4, 2)))
    with pytest.raises(ShapeError, match="at least 2; got 1"):
        uniformity(np.ones((1, 2)))
