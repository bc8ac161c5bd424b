"""The rows of the ladder: figures of queries over seeds, with intervals."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from attar.encodings import decode, encode, slice_dims

from .ladder_tasks import Figures, Task, Vectors

DRAWS = 1000
LIMITS = (0.025, 0.975)  # of the draws: a 95 % interval
ONE_BIT = ", 1-bit vectors"  # after the precision of a graph
KEY = ("corpus", "encoder", "trained_on", "precision", "width", "metric")

Row = dict[str, Any]


def statistic(metric: str) -> Callable[[Figures], float]:
    """Give what a metric is of the figures of its queries."""
    if metric == "spearman":
        return lambda figures: float(spearmanr(figures[:, 0], figures[:, 1]).statistic)
    return lambda figures: float(figures.mean())


def estimate(
    runs: Sequence[Figures], base: Figures | None, metric: str, *, seed: int = 0
) -> dict[str, Any]:
    """Give the mean over runs of one metric, with its 95 % interval, and its ratio to `base`.

    A run has the figures of the same queries, at another seed. A draw of the bootstrap takes runs
    with replacement, and queries with replacement, the same of each run and of `base`.
    """
    of, draw = statistic(metric), np.random.default_rng(seed)
    count = len(runs[0])
    by_seed = [of(run) for run in runs]
    values, ratios = [], []
    for _ in range(DRAWS):
        queries = draw.integers(count, size=count)
        chosen = draw.integers(len(runs), size=len(runs))
        values.append(np.mean([of(runs[run][queries]) for run in chosen]))
        if base is not None:
            ratios.append(values[-1] / of(base[queries]))
    figures = {**_limits(float(np.mean(by_seed)), values, ""), "by_seed": _rounded(by_seed)}
    if base is None:
        return figures
    return figures | _limits(float(np.mean(by_seed)) / of(base), ratios, "of_teacher")


def _limits(value: float, draws: Sequence[Any], name: str) -> dict[str, float]:
    low, high = np.quantile(draws, LIMITS)
    keys = (f"{name}_low", f"{name}_high") if name else ("low", "high")
    return {name or "value": _round(value), keys[0]: _round(low), keys[1]: _round(high)}


def _round(value: Any) -> float:
    return round(float(value), 4)


def _rounded(values: Iterable[float]) -> list[float]:
    return [_round(value) for value in values]


def measures(
    task: Task, queries: Vectors, documents: Vectors, *, widths: Sequence[int]
) -> dict[tuple[str, int], Mapping[str, Figures]]:
    """Give the figures of queries at each width, and of one bit a dimension at the full one.

    Keys are what follows the precision of the graph, "" or `ONE_BIT`, and the width.
    """
    dim = queries.shape[1]
    results = {
        ("", width): task.measure(slice_dims(queries, width), slice_dims(documents, width))
        for width in (dim, *(width for width in widths if width < dim))
    }
    if widths and dim % 8 == 0:
        bits = [decode(encode(vectors, "binary"), "binary") for vectors in (queries, documents)]
        results[ONE_BIT, dim] = task.measure(*bits)
    return results


def merged(rows: Sequence[Row], fresh: Sequence[Row]) -> list[Row]:
    """Give rows in the order of their keys, where fresh ones replace those of the same key."""

    def key(row: Row) -> tuple[str, ...]:
        return tuple(f"{row.get(name) or '':>6}" for name in KEY)

    by_key = {key(row): row for row in (*rows, *fresh)}
    return [by_key[name] for name in sorted(by_key)]
