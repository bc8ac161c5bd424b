"""Anomaly detectors on tables: what the distance does to AUROC, and whether the alarm rate holds.

    python -m benchmarks.detectors --data FOLDER --out benchmarks/results/detectors.json

FOLDER has ADBench's tables as .npz with X and y, 1 for an anomaly. About a minute on one core.

For each seed half of the ordinary rows, drawn by it, are fitted and columns are standardised on
them; the other half and all anomalies are scored. `attar` is `KnnAnomaly` of five neighbours at
target_fpr 0.05, which the server runs on what an encoder that only standardises would give, by each
metric. Its reference is scikit-learn's NearestNeighbors with the same metric and number of
neighbours, fitted on all rows that attar splits into references and calibration. `contaminated`
fits on all rows, anomalies among them, and scores the same: what not to do.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from attar.heads import METRICS, KnnAnomaly, Metric
from attar.host import describe
from attar.training.probes.interval import interval

NEIGHBOURS: Final = 5
TARGET_FPR: Final = 0.05
SPACE: Final = "standardised columns"
Floats = NDArray[np.float32]
Figures = dict[str, float]


def main() -> None:
    """Write the figures of every table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of ADBench's .npz")
    parser.add_argument("--out", type=Path, required=True, help="file of results")
    parser.add_argument("--seeds", type=int, default=5, help="default: 5")
    parser.add_argument("--rows", type=int, default=12_000, help="larger tables are left out")
    given = parser.parse_args()
    tables = {}
    for path in sorted(given.data.glob("*.npz")):
        with np.load(path, allow_pickle=False) as npz:
            rows, anomalous = npz["X"].astype(np.float32), npz["y"].astype(bool)
        if len(rows) <= given.rows:
            tables[path.stem] = table(rows, anomalous, seeds=given.seeds)
            print(path.stem, line(tables[path.stem]), flush=True)
    report = {
        "machine": describe(),
        "seeds": given.seeds,
        "neighbours": NEIGHBOURS,
        "target_fpr": TARGET_FPR,
        "tables": tables,
    }
    given.out.write_text(json.dumps(report, indent=1) + "\n", "utf-8")


def table(rows: Floats, anomalous: NDArray[np.bool_], *, seeds: int) -> dict[str, Any]:
    """Measure one table: (n, d) rows, of which some are anomalous."""
    found: dict[str, Any] = {"rows": len(rows), "anomalies": int(anomalous.sum())}
    for metric in METRICS:
        runs = [held_out(rows, anomalous, metric, seed) for seed in range(seeds)]
        found[metric] = {name: asdict(interval([run[name] for run in runs])) for name in runs[0]}
    return found


def held_out(rows: Floats, anomalous: NDArray[np.bool_], metric: Metric, seed: int) -> Figures:
    """Fit on half of the ordinary rows; score the other half and the anomalies."""
    ordinary = np.random.default_rng(seed).permutation(np.flatnonzero(~anomalous))
    fitted, others = np.split(ordinary, [len(ordinary) // 2])
    scored = np.concatenate([others, np.flatnonzero(anomalous)])
    scale = standardiser(rows[fitted])
    head = fit(scale(rows[fitted]), metric, seed)
    scores = head.score(scale(rows[scored]), fingerprint=SPACE)
    flagged = head.anomalies(scores)
    reference = NearestNeighbors(n_neighbors=NEIGHBOURS, metric=metric).fit(scale(rows[fitted]))
    distances = reference.kneighbors(scale(rows[scored]))[0].mean(axis=1)
    everything = standardiser(rows)(rows)
    contaminated = fit(everything, metric, seed).score(everything, fingerprint=SPACE)
    return {
        "auroc": float(roc_auc_score(anomalous[scored], scores)),
        "auroc_scikit_learn": float(roc_auc_score(anomalous[scored], distances)),
        "auroc_contaminated": float(roc_auc_score(anomalous, contaminated)),
        "false_alarms": float(flagged[: len(others)].mean()),
        "recall": float(flagged[len(others) :].mean()),
    }


def fit(rows: Floats, metric: Metric, seed: int) -> KnnAnomaly:
    """Fit as the server does by default, but for the metric."""
    return KnnAnomaly.fit(
        rows,
        model="standardise",
        fingerprint=SPACE,
        neighbours=NEIGHBOURS,
        target_fpr=TARGET_FPR,
        metric=metric,
        seed=seed,
    )


def standardiser(rows: Floats) -> Callable[[Floats], Floats]:
    """Give what brings the columns of these rows to mean 0 and variance 1."""
    mean, spread = rows.mean(axis=0), rows.std(axis=0)
    spread[spread == 0] = 1
    return lambda values: ((values - mean) / spread).astype(np.float32)


def line(figures: dict[str, Any]) -> str:
    """Say a table's figures in a line."""
    return "; ".join(
        f"{metric}: "
        + ", ".join(f"{name} {value['mean']:.3f}" for name, value in figures[metric].items())
        for metric in METRICS
    )


if __name__ == "__main__":
    main()
