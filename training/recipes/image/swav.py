"""SwAV on digits: balanced assignments to prototypes, told from one view to the other.

Caron et al., NeurIPS 2020, arXiv:2006.09882, with a small convolutional encoder.
"""

from dataclasses import dataclass

from ...data.source import Source
from ...encoders.mlp import mlp
from ...loop import Training
from ...methods.siamese import Inputs
from ...methods.swav import Swav
from ...recipe import Recipe
from .common import ImageSettings, scarce_claim, two_views


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ImageSettings):
    """The recipe's numbers."""

    hidden: int = 256  # width inside the projector
    projection: int = 64
    prototypes: int = 60
    temperature: float = 0.1
    epsilon: float = 0.05
    frozen: int = 20  # steps in which the prototypes stand still


def build(data: Source, settings: Settings) -> Training[tuple[Inputs, Inputs]]:
    """Compose the run."""
    return two_views(
        data,
        settings,
        lambda encoder: Swav(
            encoder,
            mlp(settings.dim, settings.hidden, settings.projection),
            dim=settings.projection,
            prototypes=settings.prototypes,
            temperature=settings.temperature,
            epsilon=settings.epsilon,
            frozen=settings.frozen,
        ),
    )


recipe = Recipe(
    paper="Caron et al. 2020, arXiv:2006.09882; Goyal et al. 2022, arXiv:2202.08360",
    family="cluster",
    modality="image",
    claim=scarce_claim(build, Settings()),
    settings=Settings(),
    build=build,
    departures=(
        "8x8 grey digits and affine, erasing and noise views, for ImageNet and its colour views",
        "two views and no small crops, no queue of features, 60 prototypes for 3,000",
        "AdamW at batch 128, for LARS at 4096",
    ),
)
