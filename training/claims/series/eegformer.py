"""The surprise of EEGFormer's codes finds spike-wave bursts, in synthetic EEG."""

from collections.abc import Mapping
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from statistics import fmean
from typing import Final, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray

from attar.errors import InvalidInput

from ...claim import Claim, Effect
from ...data.arrays import Npz
from ...data.normal import normal_items
from ...data.source import Rows, Source
from ...datasets.eeg import eeg
from ...loop import fit
from ...methods.vector_quantised import VectorQuantised
from ...probes.anomaly import auroc
from ...probes.code_surprise import surprises
from ...recipes.series.eegformer import SMALL, build

PROBATION = 0.15  # of a NAB series: what NAB leaves for learning
LENGTH, HOP = 128, 32  # samples of a segment of NAB, and between their starts

Watched: TypeAlias = Source | Mapping[str, Source]
"""Segments labelled 0, or 1 with an anomaly, all 0 where they have no label; or several such."""


def trial(data: Watched, seed: int) -> dict[str, float]:
    """Train on all sources' segments; give each one's AUROC of surprise, averaged over them.

    `z_score` is that of the farthest sample from the mean of the normal ones, in deviations.
    """
    sources = {"": data} if isinstance(data, Source) else data
    every = torch.cat(
        [source.train[torch.arange(len(source.train))] for source in sources.values()]
    )
    settings = replace(SMALL, seed=seed)
    training = build(Source(train=every), settings)
    rows = fit(training, accelerator="cpu", progress=False).rows
    method = cast("VectorQuantised", training.method.eval())
    figures: dict[str, list[float]] = {"surprise": [], "z_score": []}
    for source in sources.values():
        if source.test is None or source.test_labels is None or len(set(source.test_labels)) < 2:
            continue
        strange = source.test_labels == 1
        figures["surprise"].append(_separation(surprises(method, source), strange))
        figures["z_score"].append(
            _separation(_z_scores(normal_items(source), source.test), strange)
        )
    return {name: fmean(values) for name, values in figures.items()} | {
        "perplexity": rows[-1]["perplexity"]
    }


def _z_scores(normal: Rows, items: Rows) -> NDArray[np.float64]:
    known = normal[torch.arange(len(normal))].double()
    mean = known.mean((0, 2), keepdim=True)
    deviation = known.std((0, 2), keepdim=True).clamp(min=1e-9)
    apart = (items[torch.arange(len(items))] - mean).abs() / deviation
    return np.asarray(apart.amax((1, 2)))


def _separation(scores: NDArray[np.float64], strange: NDArray[np.bool_]) -> float:
    return auroc(scores[~strange], scores[strange])


def nab(path: Path, *, length: int = LENGTH, hop: int = HOP) -> dict[str, Source]:
    """Read NAB's series, packed in an .npz as NAME|value and NAME|label, for `trial`.

    Segments of `length` samples begin every `hop`; those within the first 15 % of a series are its
    normal ones, and a later one is labelled 1 where any of its samples is inside a window.
    Raises InvalidInput for a series whose first 15 % are shorter than a segment.
    """
    file = Npz(path)
    names = sorted(name.removesuffix("|value") for name in file if name.endswith("|value"))
    return {
        name: _streamed(name, file[f"{name}|value"], file[f"{name}|label"], length, hop)
        for name in names
    }


def _streamed(
    name: str, values: NDArray[np.generic], labels: NDArray[np.generic], length: int, hop: int
) -> Source:
    cut = int(PROBATION * len(values))
    if cut < length:
        raise InvalidInput(
            f"{name} has {cut} samples in its first 15 %; length is {length}: pass a shorter one"
        )
    windows = np.lib.stride_tricks.sliding_window_view
    series = torch.from_numpy(values.astype(np.float32))
    test = windows(labels[cut:].astype(bool), length)[::hop].max(1)
    return Source(
        train=series[:cut].unfold(0, length, hop)[:, None],
        test=series[cut:].unfold(0, length, hop)[:, None],
        test_labels=np.asarray(test, np.int64),
    )


claim: Final = Claim(
    "the highest surprise of a run of four codes separates segments with a spike-wave burst "
    "from normal ones with an AUROC above 0.9 at each seed, and the perplexity of the codes "
    "is above an eighth of the codebook",
    eeg,
    trial,
    effects=(
        Effect("surprise", itemgetter("surprise"), above=0.9),
        Effect("perplexity", itemgetter("perplexity"), above=SMALL.size / 8),
    ),
)
