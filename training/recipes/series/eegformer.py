"""EEGFormer on made-up EEG: series as codes, and anomalies as codes that were not expected.

Chen et al. 2024, arXiv:2401.10278, with a small transformer over windows of a channel.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attar.errors import InvalidInput

from ...data.arrays import Npz
from ...data.source import Rows, Source, embed, subset
from ...datasets.eeg import eeg
from ...distributed import shard
from ...encoders.series import SeriesConfig, SeriesEncoder
from ...encoders.transformer import TransformerConfig
from ...loop import Training, fit
from ...methods.vector_quantised import VectorQuantised, perplexity
from ...optimisers import adamw
from ...probes.anomaly import auroc
from ...probes.rankme import rankme
from ...probes.surprise import n_grams
from ...recipe import Claim, Figures, Recipe
from ...sampler import Sampler
from ...schedules import warmup_cosine
from ...targets import Codebook
from ...views.frames import normalized

BLOCKS = TransformerConfig(width=64, depth=2, heads=4, hidden=128, norm="pre", norm_eps=1e-5)
PROBATION = 0.15  # of a NAB series: what NAB leaves for learning
LENGTH, HOP = 128, 32  # samples of a segment of NAB, and between their starts

Watched: TypeAlias = Source | Mapping[str, Source]
"""Segments labelled 0, or 1 with an anomaly, all 0 where they have no label; or several such."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The recipe's numbers."""

    steps: int = 300
    seed: int = 0
    batch_size: int = 32
    rate: float = 1e-3
    warmup: int = 20  # steps
    weight_decay: float = 0.01
    window: int = 64  # samples a token sees
    hop: int = 32  # samples to the next one
    transformer: TransformerConfig = BLOCKS
    size: int = 256  # codes
    hidden: int = 128  # width inside the decoder
    commitment: float = 0.25
    order: int = 2  # codes of an n-gram
    run: int = 4  # tokens: a segment is as strange as its strangest run


def build(data: Source, settings: Settings) -> Training[Tensor]:
    """Compose the run; its probe gives RankMe and, with labelled test segments, AUROC.

    Labels are 0 of normal segments and 1 of strange ones; InvalidInput is raised for others.
    """
    normal(data)
    channels, samples = data.train[torch.tensor([0])].shape[1:]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(settings.seed)
        shape = SeriesConfig(
            channels=channels,
            window=settings.window,
            hop=settings.hop,
            transformer=settings.transformer,
        )
        shape.refuse_short(samples)
        encoder = SeriesEncoder(shape)
        method = VectorQuantised(
            encoder,
            Codebook(settings.size, encoder.width),
            hidden=settings.hidden,
            commitment=settings.commitment,
        )
    rows = Sampler(items=len(data.train), batch_size=settings.batch_size, seed=settings.seed)
    return Training(
        method=method,
        batches=lambda step: data.train[shard(rows(step))],
        views=lambda series, _step: normalized(series),
        optimiser=adamw(method, weight_decay=settings.weight_decay),
        rate=warmup_cosine(settings.rate, settings.warmup, settings.steps),
        steps=settings.steps,
        seed=settings.seed,
        probe=lambda _made: probe(method, data, settings),
    )


def probe(method: VectorQuantised, data: Source, settings: Settings) -> dict[str, float]:
    """Give the RankMe of embeddings, the perplexity of codes, and the AUROC of their surprise."""
    figures = {
        "rankme": rankme(embed(method.encoder, data.train)),
        "perplexity": float(perplexity(torch.from_numpy(codes(method, data.train)), settings.size)),
    }
    if data.test is None or data.test_labels is None:
        return figures
    scores = surprises(method, data, settings)
    return figures | {"auroc": _told_apart(scores, data.test_labels == 1)}


def surprises(method: VectorQuantised, data: Source, settings: Settings) -> NDArray[np.float64]:
    """Score test segments by the mean surprise of their strangest run, to who knows normal ones."""
    assert data.test is not None
    model = n_grams(codes(method, normal(data)), settings.size, order=settings.order)
    each = model.surprise(codes(method, data.test))
    runs = np.lib.stride_tricks.sliding_window_view(each, min(settings.run, each.shape[1]), axis=1)
    return np.asarray(runs.mean(2).max(1))


def normal(data: Source) -> Rows:
    """Give the training segments labelled 0, or all where none has a label."""
    if data.train_labels is None:
        return data.train
    names = () if data.summary is None else data.summary.classes
    if not (data.train_labels == 0).any() or (names and "0" not in names):
        raise InvalidInput(
            "items of label 0 are the normal ones, which the probe compares with; there are none"
            + (f", but {', '.join(names)}: write 0 for normal" if names else "")
            + ", or read without labels by labels=none"
        )
    return subset(data.train, torch.from_numpy(np.flatnonzero(data.train_labels == 0)))


def codes(method: VectorQuantised, items: Rows) -> NDArray[np.int64]:
    """Give the codes of every item's tokens, (n, tokens)."""
    device = method.codebook.vectors.device
    parts = [
        method.codes(normalized(items[rows].to(device))).cpu()
        for rows in torch.split(torch.arange(len(items)), 256)
    ]
    return torch.cat(parts).numpy()


def trial(data: Watched, seed: int) -> dict[str, float]:
    """Train on all sources' segments; give each one's AUROC of surprise, averaged over them.

    `z_score` is that of the farthest sample from the mean of the normal ones, in deviations.
    """
    sources = {"": data} if isinstance(data, Source) else data
    every = torch.cat(
        [source.train[torch.arange(len(source.train))] for source in sources.values()]
    )
    settings = replace(Settings(), seed=seed)
    training = build(Source(train=every), settings)
    rows = fit(training, accelerator="cpu", progress=False).rows
    method = cast("VectorQuantised", training.method.eval())
    figures: dict[str, list[float]] = {"surprise": [], "z_score": []}
    for source in sources.values():
        if source.test is None or source.test_labels is None or len(set(source.test_labels)) < 2:
            continue
        strange = source.test_labels == 1
        figures["surprise"].append(_told_apart(surprises(method, source, settings), strange))
        figures["z_score"].append(_told_apart(_z_scores(normal(source), source.test), strange))
    return {name: fmean(values) for name, values in figures.items()} | {
        "perplexity": rows[-1]["perplexity"]
    }


def _z_scores(normal: Rows, items: Rows) -> NDArray[np.float64]:
    known = normal[torch.arange(len(normal))].double()
    mean = known.mean((0, 2), keepdim=True)
    deviation = known.std((0, 2), keepdim=True).clamp(min=1e-9)
    apart = (items[torch.arange(len(items))] - mean).abs() / deviation
    return np.asarray(apart.amax((1, 2)))


def _told_apart(scores: NDArray[np.float64], strange: NDArray[np.bool_]) -> float:
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


def _holds(figures: Figures) -> bool:
    enough = min(figures["perplexity"]) > Settings().size / 8
    return enough and min(figures["surprise"]) > 0.9


recipe = Recipe(
    paper="Chen et al. 2024, arXiv:2401.10278",
    family="align",
    modality="series",
    claim=Claim(
        "the surprise of the strangest run of four codes tells segments with a spike-wave burst "
        "from normal ones with an AUROC above 0.9 at each seed, and codes' perplexity is above an "
        "eighth of the codebook",
        eeg,
        trial,
        _holds,
    ),
    settings=Settings(),
    build=build,
    departures=(
        "one channel of made-up EEG for the Temple University corpus; 256 codes and two layers",
        "a token is a window of samples; the paper cuts the spectrum of a whole segment",
        "codes that fall idle start again from a state",
    ),
)
