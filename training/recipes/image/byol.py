"""BYOL on digits: predict a slow copy's projection, without negatives.

Grill et al., NeurIPS 2020, arXiv:2006.07733, with a small convolutional encoder.
"""

from dataclasses import dataclass

from ...data.source import Source
from ...encoders.mlp import mlp
from ...loop import Training
from ...methods.asymmetric import Asymmetric
from ...methods.siamese import Inputs
from ...recipe import Recipe
from ...schedules import cosine_ramp
from .common import ImageSettings, scarce_claim, two_views


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ImageSettings):
    """The recipe's numbers."""

    steps: int = 400  # without negatives it takes longer
    hidden: int = 256  # width inside projector and predictor
    projection: int = 64
    momentum: float = 0.98  # of the target at the first step; 1 at the last


def build(data: Source, settings: Settings) -> Training[tuple[Inputs, Inputs]]:
    """Compose the run."""
    return two_views(
        data,
        settings,
        lambda encoder: Asymmetric(
            encoder,
            mlp(settings.dim, settings.hidden, settings.projection),
            mlp(settings.projection, settings.hidden, settings.projection),
            momentum=cosine_ramp(settings.momentum, 1.0, settings.steps),
        ),
    )


recipe = Recipe(
    paper="Grill et al. 2020, arXiv:2006.07733",
    family="align",
    modality="image",
    claim=scarce_claim(build, Settings()),
    settings=Settings(),
    build=build,
    departures=(
        "8x8 grey digits and affine, erasing and noise views, for ImageNet and its colour views",
        "a run of hundreds of steps, so the target begins at 0.98 rather than 0.996",
        "AdamW at batch 128, for LARS at 4096",
    ),
)
