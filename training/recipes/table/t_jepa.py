"""T-JEPA: from a few features, predict how a slowly moving copy sees the others.

Thimonier et al. 2024, arXiv:2410.05016.
"""

from dataclasses import dataclass, replace
from typing import Final

from ...composing import RunSettings, compose_source, seeded, step_views
from ...data.source import Source
from ...encoders.table import table_encoder
from ...encoders.transformer import SMALL_BLOCKS, TransformerConfig
from ...loop import Training
from ...methods.latent_features import LatentFeatures, LatentFeaturesBatch
from ...predictors import SMALL_PREDICTOR, TransformerPredictor
from ...recipe import Recipe
from ...schedules import cosine_ramp


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(RunSettings):
    """The recipe's numbers."""

    rate: float = 2e-4
    weight_decay: float = 0.05
    transformer: TransformerConfig = SMALL_BLOCKS
    predictor: TransformerConfig = SMALL_PREDICTOR
    context: tuple[float, float] = (0.2, 0.4)  # least and greatest share that is seen
    target: tuple[float, float] = (0.2, 0.4)
    sets: int = 4
    momentum: float = 0.996  # of the target at the first step; 1 at the last
    regularise: bool = True  # with the token before the features
    categories: int = 0  # columns, the last ones, that hold codes from 0; the others are measured


SMALL: Final = Settings()
PAPER: Final = Settings(  # Jannis, official code; not given: steps (epochs there), warmup, heads
    batch_size=512,
    rate=3.7e-4,
    weight_decay=0.0,
    transformer=replace(SMALL_BLOCKS, depth=16),
    predictor=replace(SMALL_PREDICTOR, width=16, depth=16),
    context=(0.136, 0.368),
    target=(0.156, 0.622),
)


def build(data: Source, settings: Settings) -> Training[LatentFeaturesBatch]:
    """Compose the run; the encoder takes rows as they were measured, and standardises them."""
    with seeded(settings.seed):
        own = settings.only("transformer", "categories")
        encoder = table_encoder(data.train, first=settings.regularise, **own)
        predictor = TransformerPredictor(encoder.width, encoder.shape.features, settings.predictor)
    momentum = cosine_ramp(settings.momentum, 1.0, settings.steps)
    method = LatentFeatures(encoder, predictor, momentum=momentum)
    views = step_views(LatentFeaturesBatch.of, settings, "context", "target", "sets")
    return compose_source(method, settings, data, views=views)


recipe = Recipe(
    paper="Thimonier et al. 2024, arXiv:2410.05016",
    family="align",
    modality="table",
    settings=SMALL,
    published=PAPER,
    build=build,
    differences=("no dropout",),
)
