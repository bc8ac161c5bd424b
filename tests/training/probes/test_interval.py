"""Intervals are Student's, and hold the truth as often as they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from attar.errors import InvalidInput, ShapeError
from attar.training.probes.interval import bootstrap, interval, paired

figures = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12)


@given(values=figures)
def test_an_interval_is_scipys(values: list[float]) -> None:
    found = interval(values)
    if np.std(values) < 1e-9:
        assert found.low == pytest.approx(found.high, abs=1e-6)
        return
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    assert [found.low, found.high] == pytest.approx([low, high])
    assert found.mean == pytest.approx(np.mean(values))
    assert found.count == len(values)


def test_a_paired_difference_is_scipys() -> None:
    draw = np.random.default_rng(0)
    before = draw.normal(size=6)
    after = before + 0.1 + 0.05 * draw.normal(size=6)
    found = paired(after, before)
    expected = stats.ttest_rel(after, before).confidence_interval(0.95)
    assert [found.low, found.high] == pytest.approx([expected.low, expected.high])
    assert found.low > 0
    assert found.high - found.low < (interval(after).high - interval(after).low) / 2


def test_nineteen_intervals_of_twenty_hold_the_truth() -> None:
    draw = np.random.default_rng(1)
    held = [
        (found := interval(draw.normal(3.0, 2.0, 4))).low <= 3.0 <= found.high for _ in range(2000)
    ]
    assert np.mean(held) == pytest.approx(0.95, abs=0.015)  # three standard errors


def test_one_figure_or_an_infinite_one_has_no_interval() -> None:
    for bad in ([1.0], [], [1.0, np.nan], [[1.0, 2.0]]):
        with pytest.raises(InvalidInput, match=r"needs \(n,\) finite figures, n at least 2"):
            interval(bad)
    with pytest.raises(ShapeError, match=r"pair up by seed; got \(2,\) and \(3,\)"):
        paired([1, 2], [1, 2, 3])


def test_a_bootstrap_interval_is_that_of_the_mean_of_many_queries() -> None:
    found = np.random.default_rng(0).random(400) < 0.7
    limits = bootstrap(found)
    low, high = stats.norm.interval(0.95, found.mean(), found.std() / np.sqrt(400))
    assert limits.mean == found.mean()
    assert [limits.low, limits.high] == pytest.approx([low, high], abs=0.01)
    assert bootstrap(found) == limits
    assert bootstrap(found, seed=1) != limits


def test_a_bootstrap_of_equal_figures_has_no_width_and_of_none_is_refused() -> None:
    limits = bootstrap([0.5])
    assert (limits.low, limits.mean, limits.high, limits.count) == (0.5, 0.5, 0.5, 1)
    for values in ([], [np.nan], [[1.0]]):
        with pytest.raises(InvalidInput, match="n at least 1; got"):
            bootstrap(values)
