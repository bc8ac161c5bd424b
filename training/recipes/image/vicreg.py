"""VICReg: variance keeps what invariance would collapse, covariance spreads it out.

Bardes et al., ICLR 2022, arXiv:2105.04906.
"""

from dataclasses import dataclass
from functools import partial
from typing import Final

from ...data.source import Source
from ...encoders.mlp import projector
from ...loop import Training
from ...methods.siamese import Inputs, Siamese
from ...objectives.vicreg import vicreg
from ...recipe import Recipe
from .common import two_views
from .imagenet import epochs
from .settings import SMALL_IMAGES, ImageSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ImageSettings):
    """The recipe's numbers."""

    projector: int = 512  # width of the projector's layers
    projector_depth: int = 3
    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 1.0


SMALL: Final = Settings()
PAPER: Final = Settings(  # section 4.2 and the official defaults; not given: steps
    batch_size=2048,
    rate=0.2 * 2048 / 256,
    warmup=epochs(10, batch_size=2048),
    weight_decay=1e-6,
    encoder="resnet50",
    views="natural",
    optimizer="lars",
    projector=8192,
)


def build(data: Source, settings: Settings) -> Training[tuple[Inputs, Inputs]]:
    """Compose the run."""
    weights = settings.only("invariance", "variance", "covariance")
    width = settings.projector
    return two_views(
        data,
        settings,
        lambda encoder: Siamese(
            encoder,
            projector(encoder.dim, width, width, depth=settings.projector_depth),
            partial(vicreg, **weights),
        ),
    )


recipe = Recipe(
    paper="Bardes et al. 2022, arXiv:2105.04906",
    family="decorrelate",
    modality="image",
    settings=SMALL,
    published=PAPER,
    build=build,
    differences=SMALL_IMAGES,
)
