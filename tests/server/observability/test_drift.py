"""Drift: collapse and movement of what is served are seen, and an equal stream is not accused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.linalg import sqrtm

from attar.server.observability.drift import Drift, frechet, rankme, spread
from attar.training.probes.rankme import rankme as papers

Rows = NDArray[np.float64]


def stream(rows: int, dim: int = 8, *, seed: int = 0, rank: int | None = None) -> Rows:
    """Give unit rows whose spectrum falls off, of at most `rank` dimensions."""
    random = np.random.default_rng(seed)
    scale = 1 / np.arange(1, dim + 1)
    if rank is not None:
        scale[rank:] = 0
    drawn = random.standard_normal((rows, dim)) * scale
    made: Rows = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return made


def fed(*parts: Rows, rows: int = 64) -> Drift:
    """Give a drift that has taken all the rows, with figures computed after each part."""
    drift = Drift(rows)
    for part in parts:
        for row in part:
            drift.keep(row.astype(np.float32))
        drift.figures()
    return drift


@given(rows=st.integers(2, 40), dim=st.integers(2, 12), seed=st.integers(0, 99))
def test_rankme_is_the_probes(rows: int, dim: int, seed: int) -> None:
    some = stream(rows, dim, seed=seed)

    # On d > n the probe's spectrum has no zeros either: both see min(n, d) values.
    assert rankme(some) == pytest.approx(papers(some), rel=1e-6)


@given(rows=st.integers(12, 40), dim=st.integers(1, 8), seed=st.integers(0, 99))
def test_frechets_distance_is_the_formulas(rows: int, dim: int, seed: int) -> None:
    one, other = stream(rows, dim, seed=seed), 0.5 + 2 * stream(rows + 3, dim, seed=seed + 1)
    c1, c2 = (np.atleast_2d(np.cov(x.T, bias=True)) for x in (one, other))
    root = np.real(sqrtm(c1 @ c2 + 1e-15 * np.eye(dim)))
    apart = one.mean(axis=0) - other.mean(axis=0)
    expected = apart @ apart + np.trace(c1 + c2 - 2 * root)

    assert frechet(spread(one), spread(other)) ** 2 == pytest.approx(expected, abs=1e-6)


def test_a_window_is_no_distance_from_itself() -> None:
    some = spread(stream(30, 50))

    assert frechet(some, some) == pytest.approx(0, abs=1e-7)


def test_nothing_is_said_before_the_window_is_full() -> None:
    drift = fed(stream(63))

    assert drift.figures().rows == 63
    assert drift.figures().rankme == 0


def test_an_equal_stream_is_near_and_a_moved_one_is_far() -> None:
    reference = stream(64)
    same = fed(reference, stream(64, seed=1))
    moved = fed(reference, stream(64, seed=1) + 0.5)

    assert same.figures().rankme == pytest.approx(papers(stream(64, seed=1)), rel=1e-3)
    assert same.figures().shift < 3 * np.sqrt(2 / 64)
    assert moved.figures().shift > 1
    assert moved.figures().drift >= moved.figures().shift
    assert same.figures().drift < 0.3 < moved.figures().drift


def test_a_collapse_is_seen() -> None:
    drift = fed(stream(64), stream(64, rank=1, seed=2))

    assert drift.figures().rankme < 1.1
    assert drift.figures().drift > 0.3


def test_only_the_last_rows_count() -> None:
    drift = fed(stream(64, rank=1), stream(64, seed=3))

    assert drift.figures().rankme == pytest.approx(papers(stream(64, seed=3)), rel=1e-3)


def test_figures_are_made_anew_only_when_enough_has_changed() -> None:
    drift = fed(stream(64))
    before = drift.figures()
    drift.keep(np.ones(8, np.float32))
    assert drift.figures() is before

    for _ in range(3):
        drift.keep(np.ones(8, np.float32))
    assert drift.figures() is not before


def test_rows_that_are_all_zero_have_figures_too() -> None:
    drift = fed(np.zeros((64, 8)), np.ones((64, 8)))

    assert np.isfinite([drift.figures().rankme, drift.figures().shift]).all()
