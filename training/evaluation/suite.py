"""The evaluation suite: slices, corruptions, copies and gaps of an encoder of images.

What Goyal et al. 2022 (arXiv:2202.08360) judge large vision models by, on the user's own images:
accuracy by group and the worst of them (fairness, section 5), on corrupted images (robustness,
section 4), and copy detection (section 6). Nothing is trained but the vote of 20 neighbours.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from attar.errors import InvalidInput

from ..probes._rows import unit
from ..probes.interval import CONFIDENCE, DRAWS, Interval, bootstrap
from ..probes.knn import knn_hits
from ..probes.retrieval import ranks
from .copies import COPIES, copied
from .corruptions import CORRUPTIONS, corrupted

Embed: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""(n, c, h, w) images in [0, 1] to (n, d) embeddings."""

SHOWN: Final = (1, 3, 5)  # severities that are measured
MOST_SLICES: Final = 1000
LEAST: Final = 3  # images


def judge(
    embed: Embed,
    test: NDArray[np.float32],
    *,
    train: NDArray[np.float32] | None = None,
    train_labels: NDArray[np.int64] | None = None,
    test_labels: NDArray[np.int64] | None = None,
    class_names: Mapping[int, str] | None = None,
    groups: Sequence[str] = (),
) -> dict[str, Any]:
    """Judge an encoder on (n, c, h, w) `test` images in [0, 1].

    `train` (m, d) are embeddings of other images. With them and both labels, `accuracy` is the
    share of test images that their 20 nearest neighbours classify; `slices` has it by class and by
    group, `groups` being a name for each test image, and `corruptions` on corrupted test images,
    with the loss to the same images as they are. Without labels, corruptions have the mean cosine
    to the clean embedding alone. `copies` has recall@1 and MRR of finding the original among all
    test images. `gaps` has for each kind of slice its best, its worst and the difference. All have
    a 95 % interval by resampling images.

    Raises InvalidInput where there are fewer than three images, or names for another number.
    """
    if len(test) < LEAST:
        raise InvalidInput(f"the suite needs {LEAST} test images or more; got {len(test)}")
    if groups and len(groups) != len(test):
        raise InvalidInput(f"there are {len(groups)} groups for {len(test)} test images")
    clean = embed(test)
    labels = None
    if train is not None and train_labels is not None and test_labels is not None:
        labels = (train, train_labels, test_labels)
    hits = _hits(clean, labels)
    facts: dict[str, Any] = {"images": len(test)}
    if hits is not None:
        assert test_labels is not None
        facts["accuracy"] = _limits(hits)
        names = class_names or {}
        classes = [names.get(label, str(label)) for label in test_labels.tolist()]
        kinds = {"class": classes, **({"group": groups} if groups else {})}
        facts["slices"] = {kind: _slices(hits, of) for kind, of in kinds.items()}
        facts["gaps"] = {
            kind: _gap(rows, hits, kinds[kind]) for kind, rows in facts["slices"].items()
        }
    facts["corruptions"] = {
        name: [
            {
                "severity": severity,
                **_corruption(embed(corrupted(test, name, severity)), clean, hits, labels),
            }
            for severity in SHOWN
        ]
        for name in CORRUPTIONS
    }
    facts["copies"] = {kind: _copy(embed, test, clean, kind) for kind in COPIES}
    return facts


def _hits(embeddings: NDArray[np.float32], labels: Any) -> NDArray[np.float64] | None:
    if labels is None:
        return None
    train, train_labels, test_labels = labels
    return knn_hits(train, train_labels, embeddings, test_labels).astype(np.float64)


def _slices(hits: NDArray[np.float64], names: Sequence[str]) -> list[dict[str, Any]]:
    """Give each slice's accuracy, the worst first."""
    of = np.asarray(names)
    if len(kinds := np.unique(of)) > MOST_SLICES:
        raise InvalidInput(f"there are {len(kinds):,} slices; the suite takes {MOST_SLICES:,}")
    rows = [{"name": str(name), **_limits(hits[of == name])} for name in kinds]
    return sorted(rows, key=lambda row: (row["mean"], row["name"]))


def _gap(
    rows: Sequence[Mapping[str, Any]], hits: NDArray[np.float64], names: Sequence[str]
) -> dict[str, Any]:
    """Compare the best of the slices with the worst; the interval takes both as chosen before."""
    of = np.asarray(names)
    ends = [hits[of == rows[end]["name"]] for end in (0, -1)]
    draw = np.random.default_rng(0)
    worst, best = (
        np.array([part[draw.integers(len(part), size=len(part))].mean() for _ in range(DRAWS)])
        for part in ends
    )
    low, high = np.quantile(best - worst, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return {
        "worst": rows[0]["name"],
        "best": rows[-1]["name"],
        "mean": rows[-1]["mean"] - rows[0]["mean"],
        "low": float(low),
        "high": float(high),
    }


def _corruption(
    embeddings: NDArray[np.float32],
    clean: NDArray[np.float32],
    hits: NDArray[np.float64] | None,
    labels: Any,
) -> dict[str, Any]:
    """Compare the embeddings of corrupted images with the clean ones."""
    cosines = (unit("clean", clean) * unit("corrupted", embeddings)).sum(axis=1)
    row: dict[str, Any] = {"cosine": _limits(cosines)}
    if hits is not None:
        now = _hits(embeddings, labels)
        assert now is not None
        row |= {"accuracy": _limits(now), "loss": _limits(hits - now)}
    return row


def _copy(
    embed: Embed, test: NDArray[np.float32], clean: NDArray[np.float32], kind: str
) -> dict[str, Any]:
    places = ranks(embed(copied(test, kind)), clean)
    return {"recall_at_1": _limits(places == 1), "mrr": _limits(1 / places)}


def _limits(values: Any) -> dict[str, Any]:
    found: Interval = bootstrap(np.asarray(values, np.float64))
    return asdict(found)
