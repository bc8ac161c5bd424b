"""DirectPred on digits: BYOL's predictor set from the projections' spectrum, not trained.

Tian et al., ICML 2021, arXiv:2102.06810, with a small convolutional encoder.
"""

from dataclasses import dataclass

from ...data.source import Source
from ...encoders.mlp import mlp
from ...loop import Training
from ...methods.asymmetric import Asymmetric
from ...methods.twins import Inputs
from ...predictors import DirectPred
from ...recipe import Recipe
from ...schedules import constant, cosine_ramp
from .run import ImageSettings, scarce_claim, two_views


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ImageSettings):
    """The recipe's numbers."""

    hidden: int = 256  # width inside the projector
    projection: int = 64
    momentum: float = 0.98  # of the target at the first step; 1 at the last
    correlation: float = 0.3  # the share of the moving average that each step keeps


def build(data: Source, settings: Settings) -> Training[tuple[Inputs, Inputs]]:
    """Compose the run."""
    return two_views(
        data,
        settings,
        lambda encoder: Asymmetric(
            encoder,
            mlp(settings.dim, settings.hidden, settings.projection),
            DirectPred(settings.projection, momentum=constant(settings.correlation)),
            momentum=cosine_ramp(settings.momentum, 1.0, settings.steps),
        ),
    )


recipe = Recipe(
    paper="Tian et al. 2021, arXiv:2102.06810",
    family="align",
    modality="image",
    claim=scarce_claim(build, Settings()),
    settings=Settings(),
    build=build,
    departures=(
        "8x8 grey digits and affine, erasing and noise views, for ImageNet and its colour views",
        "the predictor is set at every step",
        "AdamW at batch 128, for SGD",
    ),
)
