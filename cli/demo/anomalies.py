"""The anomaly part of the demo: foreign documents are found, and false alarms are counted.

Ordinary documents are bodies of docstrings.  Foreign ones are paragraphs of the licences that
installed packages carry.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from attar.client import Client
from attar.training.data.pairs import Split
from attar.training.datasets import licence_texts
from attar.training.probes.anomaly import auroc, conformal_p_values
from attar.training.probes.centroids import mahalanobis_distances
from attar.training.sampler import evenly

from .corpus import opening

CALIBRATION = 4  # one of so many ordinary texts is held out for p-values

Row = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnomalyTask:
    """Ordinary documents to fit on, others that should pass, and foreign ones that should not.

    `classes` has a label for each document to fit on, and `rates` are those of false alarms that
    thresholds are set for.
    """

    fitted: Sequence[str]
    classes: Sequence[str]
    ordinary: Sequence[str]
    foreign: Sequence[str]
    rates: Sequence[float]

    @classmethod
    def of(cls, splits: Split, *, fitted: int, rates: Sequence[float]) -> Self:
        """Fit on so many bodies to train on; the held-out ones are ordinary."""
        train = evenly(splits.train, fitted)
        return cls(
            fitted=[pair.body for pair in train],
            classes=[pair.package for pair in train],
            ordinary=[pair.body for pair in splits.held_out],
            foreign=[opening(text) for text in licence_texts.read(len(splits.held_out))],
            rates=rates,
        )


def anomalies(client: Client, model: str, task: AnomalyTask) -> dict[str, Row]:
    """Give the figures of the server's detector, and of Mahalanobis distances."""
    return {"knn": knn(client, model, task), "mahalanobis": mahalanobis(client, model, task)}


def knn(client: Client, model: str, task: AnomalyTask) -> Row:
    """Fit the server's detector, which is one of nearest neighbours, and score with it."""
    name = f"documentation-{model}"
    client.fit_anomaly(name, task.fitted, model=model, target_fpr=min(task.rates))
    ordinary, foreign = (
        client.score_anomaly(name, texts) for texts in (task.ordinary, task.foreign)
    )
    return {
        "auroc": auroc(ordinary.scores, foreign.scores),
        "thresholds": list(_thresholds(ordinary.p_values, foreign.p_values, task.rates)),
    }


def mahalanobis(client: Client, model: str, task: AnomalyTask) -> Row:
    """Score by the Mahalanobis distance to the nearest class, on embeddings of the server."""
    order = np.random.default_rng(0).permutation(len(task.fitted))
    count = len(order) // CALIBRATION
    vectors = client.embed(task.fitted, model=model).vectors[order]
    classes = np.asarray(task.classes)[order]
    calibration, ordinary, foreign = (
        mahalanobis_distances(vectors[count:], classes[count:], rows).min(axis=1)
        for rows in (
            vectors[:count],
            client.embed(task.ordinary, model=model).vectors,
            client.embed(task.foreign, model=model).vectors,
        )
    )
    p_ordinary, p_foreign = (conformal_p_values(calibration, s) for s in (ordinary, foreign))
    return {
        "auroc": auroc(ordinary, foreign),
        "thresholds": list(_thresholds(p_ordinary, p_foreign, task.rates)),
    }


def _thresholds(
    ordinary: NDArray[Any], foreign: NDArray[Any], rates: Sequence[float]
) -> Iterator[Row]:
    """Give the share of each kind whose p-value is at most the requested rate."""
    for rate in rates:
        yield {
            "requested": rate,
            "false_alarms": float((ordinary <= rate).mean()),
            "detected": float((foreign <= rate).mean()),
        }
