"""Barlow Twins on scikit-learn's 8x8 digits: images, to keep the contract from being text-shaped.

Zbontar et al., ICML 2021, arXiv:2103.03230, with a small convolutional encoder.
"""

from dataclasses import dataclass
from functools import partial

from ...data.source import Source
from ...encoders.mlp import mlp
from ...loop import Training
from ...methods.siamese import Inputs, Siamese
from ...objectives.barlow_twins import barlow_twins
from ...recipe import Recipe
from .common import ImageSettings, scarce_claim, two_views


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ImageSettings):
    """The recipe's numbers; those of the objective and the views were tried at one seed."""

    projector: int = 512  # width of the projector's two layers
    redundancy: float = 2e-2


def build(data: Source, settings: Settings) -> Training[tuple[Inputs, Inputs]]:
    """Compose the run."""
    return two_views(
        data,
        settings,
        lambda encoder: Siamese(
            encoder,
            mlp(settings.dim, settings.projector, settings.projector),
            partial(barlow_twins, redundancy=settings.redundancy),
        ),
    )


recipe = Recipe(
    paper="Zbontar et al. 2021, arXiv:2103.03230",
    family="decorrelate",
    modality="image",
    claim=scarce_claim(build, Settings()),
    settings=Settings(),
    build=build,
    departures=(
        "8x8 grey digits and affine, erasing and noise views, for ImageNet and its colour views",
        "three convolutions and a projector of two layers, for ResNet-50 and three",
        "AdamW at batch 128 and λ = 0.02, for LARS at 2048 and λ = 0.005",
    ),
)
