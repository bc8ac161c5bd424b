"""Confidence intervals of the mean of a figure: over several seeds, or over many queries."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from attar.errors import InvalidInput, ShapeError

CONFIDENCE = 0.95
DRAWS = 1000  # of a bootstrap


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean over seeds or queries, and the limits of its 95 % confidence interval."""

    mean: float
    low: float
    high: float
    count: int


def interval(values: ArrayLike) -> Interval:
    """Give the mean of (n,) figures, one a seed, with its 95 % interval by Student's t.

    Seeds are taken as independent and their figures as nearly normal. Raises InvalidInput for fewer
    than two figures, or one that is not finite.
    """
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or len(array) < 2 or not np.isfinite(array).all():
        raise InvalidInput(
            f"an interval needs (n,) finite figures, n at least 2; got {array.tolist()}"
        )
    n = len(array)
    half = stdtrit(n - 1, (1 + CONFIDENCE) / 2) * array.std(ddof=1) / np.sqrt(n)
    mean = float(array.mean())
    return Interval(mean=mean, low=float(mean - half), high=float(mean + half), count=n)


def paired(after: ArrayLike, before: ArrayLike) -> Interval:
    """Give the mean of `after` - `before` with its interval: figures (n,) of the same seeds.

    The effect of a seed on both figures cancels, so this is narrower than two separate intervals.
    A difference is significant when zero is outside of the interval. Raises ShapeError when they do
    not pair up.
    """
    first, second = np.asarray(after, np.float64), np.asarray(before, np.float64)
    if first.shape != second.shape:
        raise ShapeError(f"figures must pair up by seed; got {first.shape} and {second.shape}")
    return interval(first - second)


def bootstrap(values: ArrayLike, *, seed: int = 0) -> Interval:
    """Give the mean of (n,) figures, one a query, with its 95 % interval by resampling queries.

    The limits are percentiles of the means of `DRAWS` samples of n queries with replacement (Efron
    and Tibshirani 1993, section 13.3). Raises InvalidInput for no figure, or one not finite.
    """
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or len(array) < 1 or not np.isfinite(array).all():
        raise InvalidInput(f"a bootstrap needs (n,) finite figures, n at least 1; got {array!r}")
    draw, n = np.random.default_rng(seed), len(array)
    means = [array[draw.integers(n, size=n)].mean() for _ in range(DRAWS)]
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(mean=float(array.mean()), low=float(low), high=float(high), count=n)
