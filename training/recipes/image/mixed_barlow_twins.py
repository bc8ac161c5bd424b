"""Mixed Barlow Twins on digits: the regulariser that keeps long runs from overfitting.

Bandara et al. 2023, arXiv:2312.02151, with a small convolutional encoder.
"""

from dataclasses import dataclass

from ...data.source import Source
from ...encoders.mlp import mlp
from ...loop import Training
from ...methods.mixing import MixedTwins
from ...methods.twins import Inputs
from ...recipe import Recipe
from .run import ImageSettings, scarce_claim, two_views


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ImageSettings):
    """The recipe's numbers."""

    projector: int = 512  # width of the projector's two layers
    redundancy: float = 2e-2
    strength: float = 4.0  # of the regulariser, in λ


def build(data: Source, settings: Settings) -> Training[tuple[Inputs, Inputs]]:
    """Compose the run."""
    return two_views(
        data,
        settings,
        lambda encoder: MixedTwins(
            encoder,
            mlp(settings.dim, settings.projector, settings.projector),
            redundancy=settings.redundancy,
            strength=settings.strength,
        ),
    )


recipe = Recipe(
    paper="Bandara et al. 2023, arXiv:2312.02151",
    family="decorrelate",
    modality="image",
    claim=scarce_claim(build, Settings()),
    settings=Settings(),
    build=build,
    departures=(
        "8x8 grey digits and affine, erasing and noise views, for CIFAR and ImageNet",
        "three convolutions and a projector of two layers, for ResNet-18 and three",
        "AdamW at batch 128 and λ = 0.02, for Adam at 256 and λ = 1/128",
    ),
)
