"""T-JEPA: from a few features, predict how a slowly moving copy sees the others.

Thimonier et al. 2024, arXiv:2410.05016.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import torch
from torch import Tensor

from ...composing import RunSettings, compose_rows, seeded
from ...data.source import Source
from ...distributed import step_generator
from ...encoders.table import TableConfig, TableEncoder
from ...encoders.transformer import TransformerConfig
from ...loop import Training
from ...methods.latent_features import LatentFeatures, LatentFeaturesBatch
from ...predictors import TransformerPredictor
from ...probes.encoder import probe_encoder
from ...recipe import Recipe
from ...schedules import cosine_ramp
from ...views.masks import feature_masks

BLOCKS = TransformerConfig(width=64, depth=3, heads=4, hidden=128, norm="pre", norm_eps=1e-5)
PREDICTOR = TransformerConfig(width=32, depth=2, heads=4, hidden=64, norm="pre", norm_eps=1e-5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(RunSettings):
    """The recipe's numbers."""

    steps: int = 200
    batch_size: int = 64
    rate: float = 2e-4
    warmup: int = 20  # steps
    weight_decay: float = 0.05
    transformer: TransformerConfig = BLOCKS
    predictor: TransformerConfig = PREDICTOR
    context: tuple[float, float] = (0.2, 0.4)  # least and greatest share that is seen
    target: tuple[float, float] = (0.2, 0.4)
    sets: int = 4
    momentum: float = 0.996  # of the target at the first step; 1 at the last
    regularise: bool = True  # with the token before the features


SMALL: Final = Settings()
PAPER: Final = Settings(  # Jannis, official code; not given: steps (epochs there), warmup, heads
    batch_size=512,
    rate=3.7e-4,
    weight_decay=0.0,
    transformer=replace(BLOCKS, depth=16),
    predictor=replace(PREDICTOR, width=16, depth=16),
    context=(0.136, 0.368),
    target=(0.156, 0.622),
)


def build(data: Source, settings: Settings) -> Training[LatentFeaturesBatch]:
    """Compose the run; the encoder takes rows as they were measured, and standardises them."""
    first = data.train[torch.arange(min(4096, len(data.train)))]  # for mean and deviation
    features = first.shape[1]
    shape = TableConfig(
        numeric=features, transformer=settings.transformer, pooling="mean", normalized=False
    )
    with seeded(settings.seed):
        encoder = TableEncoder(shape)
        predictor = TransformerPredictor(encoder.width, features, settings.predictor)
    encoder.standardise(first)
    momentum = cosine_ramp(settings.momentum, 1.0, settings.steps)
    shares = settings.only("context", "target", "sets")

    def views(rows: Tensor, step: int) -> LatentFeaturesBatch:
        draw = step_generator(settings.seed, step)
        return LatentFeaturesBatch.of(rows, feature_masks(len(rows), features, draw, **shares))

    method = LatentFeatures(encoder, predictor, momentum=momentum, regularise=settings.regularise)
    probe = partial(probe_encoder, encoder, data)
    return compose_rows(method, settings, data.train, views=views, probe=probe)


recipe = Recipe(
    paper="Thimonier et al. 2024, arXiv:2410.05016",
    family="align",
    modality="table",
    settings=SMALL,
    published=PAPER,
    build=build,
    differences=(
        "the embedding is the mean of the features' states instead of their concatenation",
        "the trained encoder is probed instead of its moving average; no dropout",
    ),
)
