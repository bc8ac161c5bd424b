"""The report of an adaptation: what was gained on the documents, and what was lost elsewhere."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ..probes.interval import Interval, bootstrap
from ..probes.retrieval import ranks
from ..probes.text_retrieval import Retrieval, embed
from ..run_data import report

REPORT = "report.json"


def ranks_of(encoder: nn.Module, task: Retrieval) -> NDArray[np.int64]:
    """Give the rank, from 1, of the passage of each query."""
    return ranks(embed(encoder, task.queries), embed(encoder, task.documents), task.relevant)


def home(before: NDArray[np.int64], after: NDArray[np.int64]) -> dict[str, Any]:
    """Give recall at 1 and 10 and MRR before and after, and the gain, each with its interval.

    The gain is of the same queries, so its interval is narrower than the other two.
    """
    first, second = _by_query(before), _by_query(after)
    return {
        name: {
            "before": _limits(bootstrap(first[name])),
            "after": _limits(bootstrap(second[name])),
            "gain": _limits(bootstrap(second[name] - first[name])),
        }
        for name in first
    }


def write(out: Path, facts: Mapping[str, Any]) -> None:
    """Write the report into the run's folder, and show it."""
    (out / REPORT).write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
    report(*_lines(facts))


def _lines(facts: Mapping[str, Any]) -> Iterator[str]:
    for name, figures in facts["home"].items():
        before, after, gain = (figures[key] for key in ("before", "after", "gain"))
        yield (
            f"{name} of held-out queries: {before['value']:.3f} before, {after['value']:.3f} "
            f"after; gain {gain['value']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f})"
        )
    abroad, soup = facts["abroad"], facts["soup"]
    yield (
        f"on {abroad['count']} general texts ({abroad['texts']}) it agrees with the base: "
        f"Spearman {abroad['spearman']:.3f}, mean cosine {abroad['cosine']:.3f}"
    )
    if soup["share"] == 0:
        yield "no weights were better on validation and kept the base: the base's are saved"
        return
    yield (
        f"the best of {facts['steps']} steps was {facts['best_step']}; the weights saved are "
        f"{soup['share']:.0%} of the way from the base to those"
    )


def _by_query(positions: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    return {
        "recall_at_1": (positions <= 1).astype(np.float64),
        "recall_at_10": (positions <= 10).astype(np.float64),
        "mrr": 1 / positions,
    }


def _limits(figure: Interval) -> dict[str, float]:
    return {"value": figure.mean, "low": figure.low, "high": figure.high}
