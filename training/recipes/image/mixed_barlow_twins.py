"""Mixed Barlow Twins: the regulariser that keeps long runs from overfitting.

Bandara et al. 2023, arXiv:2312.02151.
"""

from dataclasses import dataclass
from typing import Final

from ...data.source import Source
from ...encoders.mlp import projector
from ...loop import Training
from ...methods.mixing import MixedBarlowTwins
from ...methods.siamese import Inputs
from ...recipe import Recipe
from .common import two_views
from .settings import SMALL_IMAGES, ImageSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ImageSettings):
    """The recipe's numbers."""

    projector: int = 512  # width of the projector's layers
    projector_depth: int = 3
    redundancy: float = 2e-2  # λ
    strength: float = 4.0  # of the regulariser, in λ


SMALL: Final = Settings()
PAPER: Final = Settings(  # CIFAR-10, the official checkpoints' table; not given: steps, rate, decay
    batch_size=256,
    encoder="resnet18",
    views="natural",
    projector=1024,
    redundancy=1 / 128,
    strength=4.0,
)


def build(data: Source, settings: Settings) -> Training[tuple[Inputs, Inputs]]:
    """Compose the run."""
    width = settings.projector
    return two_views(
        data,
        settings,
        lambda encoder: MixedBarlowTwins(
            encoder,
            projector(encoder.dim, width, width, depth=settings.projector_depth),
            redundancy=settings.redundancy,
            strength=settings.strength,
        ),
    )


recipe = Recipe(
    paper="Bandara et al. 2023, arXiv:2312.02151",
    family="decorrelate",
    modality="image",
    settings=SMALL,
    published=PAPER,
    build=build,
    differences=(
        *SMALL_IMAGES,
        "AdamW instead of Adam",
    ),
)
