"""Barlow Twins: the cross-correlation of two views' embeddings becomes the identity.

Zbontar et al., ICML 2021, arXiv:2103.03230.
"""

from dataclasses import dataclass
from functools import partial
from typing import Final

from ...data.source import Source
from ...encoders.mlp import projector
from ...loop import Training
from ...methods.siamese import Inputs, Siamese
from ...objectives.barlow_twins import barlow_twins
from ...recipe import Recipe
from .common import two_views
from .imagenet import lars
from .settings import SMALL_IMAGES, ImageSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ImageSettings):
    """The recipe's numbers; those of the objective and the views were tried at one seed."""

    blur: tuple[float, float] = (1.0, 0.1)  # section 2.2
    solarise: tuple[float, float] = (0.0, 0.2)
    projector: int = 512  # width of the projector's layers
    projector_depth: int = 3
    redundancy: float = 2e-2  # λ


SMALL: Final = Settings()
PAPER: Final = Settings(  # sections 2.2 and 2.3, and the official defaults
    **lars(batch_size=2048, rate=0.2 * 2048 / 256, weight_decay=1e-6, count=1000),
    encoder="resnet50",
    projector=8192,
    redundancy=0.0051,
)


def build(data: Source, settings: Settings) -> Training[tuple[Inputs, Inputs]]:
    """Compose the run."""
    width = settings.projector
    return two_views(
        data,
        settings,
        lambda encoder: Siamese(
            encoder,
            projector(encoder.dim, width, width, depth=settings.projector_depth),
            partial(barlow_twins, redundancy=settings.redundancy),
        ),
    )


recipe = Recipe(
    paper="Zbontar et al. 2021, arXiv:2103.03230",
    family="decorrelate",
    modality="image",
    settings=SMALL,
    published=PAPER,
    build=build,
    differences=(
        *SMALL_IMAGES,
        "one rate for weights, biases and norm gains",
    ),
)
