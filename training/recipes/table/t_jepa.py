"""T-JEPA on tables: from a few features, predict how a slow copy of the encoder sees the others.

Thimonier et al. 2024, arXiv:2410.05016, with a small transformer over features.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from torch import Tensor, nn

from ...data.source import Source, embed
from ...datasets.tables import breast_cancer
from ...distributed import shard, step_generator
from ...encoders.table import TableConfig, TableEncoder
from ...encoders.transformer import TransformerConfig
from ...loop import Training, fit
from ...methods.latent_features import LatentFeatures, LatentFeaturesBatch
from ...optimisers import adamw
from ...predictors import TransformerPredictor
from ...probes.suite import evaluate
from ...reading import read
from ...recipe import Claim, Figures, Recipe
from ...sampler import Sampler
from ...schedules import cosine_ramp, warmup_cosine
from ...views.masks import feature_masks

BLOCKS = TransformerConfig(width=64, depth=3, heads=4, hidden=128, norm="pre", norm_eps=1e-5)
PREDICTOR = TransformerConfig(width=32, depth=2, heads=4, hidden=64, norm="pre", norm_eps=1e-5)
MEASURED = 4096  # rows from which mean and deviation of the features are taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The recipe's numbers; shares, sets and momentum are the paper's."""

    steps: int = 200
    seed: int = 0
    batch_size: int = 64
    rate: float = 2e-4
    warmup: int = 20  # steps
    weight_decay: float = 0.05
    transformer: TransformerConfig = BLOCKS
    predictor: TransformerConfig = PREDICTOR
    context: tuple[float, float] = (0.2, 0.4)  # least and greatest share that is seen
    target: tuple[float, float] = (0.2, 0.4)
    sets: int = 4
    momentum: float = 0.996  # of the slow copy at the first step; 1 at the last
    regularise: bool = True  # with the token before the features


def build(data: Source, settings: Settings) -> Training[LatentFeaturesBatch]:
    """Compose the run; its probe gives RankMe and, with labels, accuracies.

    The encoder takes rows as they were measured, and brings them to one scale itself.
    """
    first = data.train[torch.arange(min(MEASURED, len(data.train)))]
    features = first.shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(settings.seed)
        encoder = TableEncoder(
            TableConfig(
                numeric=features, transformer=settings.transformer, pooling="mean", normalized=False
            )
        )
        predictor = TransformerPredictor(encoder.width, features, settings.predictor)
    encoder.standardise(first)
    method = LatentFeatures(
        encoder,
        predictor,
        momentum=cosine_ramp(settings.momentum, 1.0, settings.steps),
        regularise=settings.regularise,
    )
    rows = Sampler(items=len(data.train), batch_size=settings.batch_size, seed=settings.seed)

    def views(items: Tensor, step: int) -> LatentFeaturesBatch:
        n = len(items)
        masks = feature_masks(
            n,
            features,
            step_generator(settings.seed, step),
            context=settings.context,
            target=settings.target,
            sets=settings.sets,
        )
        context = masks.context.nonzero()[:, -1].view(n, -1)
        targets = masks.targets.nonzero()[:, -1].view(n, settings.sets, -1)
        return LatentFeaturesBatch(items, context.to(items.device), targets.to(items.device))

    return Training(
        method=method,
        batches=lambda step: data.train[shard(rows(step))],
        views=views,
        optimiser=adamw(method, weight_decay=settings.weight_decay),
        rate=warmup_cosine(settings.rate, settings.warmup, settings.steps),
        steps=settings.steps,
        seed=settings.seed,
        probe=lambda _made: probe(encoder, data),
    )


def probe(encoder: nn.Module, data: Source) -> dict[str, float]:
    """Probe an encoder on a source."""
    test = np.zeros((0, 1), np.float32) if data.test is None else embed(encoder, data.test)
    return evaluate(embed(encoder, data.train), test, data)


class Standardised(nn.Module):
    """Rows at mean 0 and variance 1: what the probes are given without an encoder."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.deviation, self.mean = torch.std_mean(rows, 0)

    def forward(self, rows: Tensor) -> Tensor:
        """Give (b, features)."""
        return (rows - self.mean) / self.deviation.clamp(min=1e-6)


def trial(data: Source, seed: int) -> dict[str, float]:
    """Probe standardised rows, and encoders trained with and without the regularising token."""
    raw = probe(Standardised(data.train[torch.arange(len(data.train))]), data)
    figures = {f"raw/{name}": raw[name] for name in ("linear", "knn")}
    for name, regularise in (("t_jepa", True), ("without_token", False)):
        training = build(data, replace(Settings(), seed=seed, regularise=regularise))
        rows = fit(training, accelerator="cpu", progress=False).rows
        before, after = (row for row in rows if "linear" in row)
        figures |= {f"untrained/{kind}": before[kind] for kind in ("linear", "knn")}
        figures |= {f"{name}/{kind}": after[kind] for kind in ("linear", "knn")}
        spread = next(row for row in reversed(rows) if "spread_features" in row)
        kinds = "spread_features", "spread_rows"
        figures |= {f"{name}/{kind}": spread[kind] for kind in kinds}
    return figures


def last_rows(path: Path, *, test: int) -> Source:
    """Read a table whose last `test` rows are its test part, as UCI's Letter (4000) for `trial`."""
    return read(str(path), form="table", test_last=test)


def _holds(figures: Figures) -> bool:
    mean = {name: fmean(values) for name, values in figures.items()}
    linear = mean["t_jepa/linear"] >= mean["raw/linear"] - 0.01
    return linear and mean["t_jepa/knn"] > mean["raw/knn"]


recipe = Recipe(
    paper="Thimonier et al. 2024, arXiv:2410.05016",
    family="align",
    modality="table",
    claim=Claim(
        "on held-out tumours a linear probe of the embedding is on average at most a point less "
        "accurate than one of standardised features, and k-NN more accurate",
        breast_cancer,
        trial,
        _holds,
    ),
    settings=Settings(),
    build=build,
    departures=(
        "the embedding is the mean of the features' states, for a learned map of all of them",
        "width 64 and 200 steps on a few hundred rows; no dropout",
    ),
)
