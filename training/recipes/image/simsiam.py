"""SimSiam: a stop-gradient and a predictor are enough against collapse.

Chen and He, CVPR 2021, arXiv:2011.10566.
"""

from dataclasses import dataclass
from typing import Final

from ...data.source import Source
from ...encoders.mlp import mlp
from ...loop import Training
from ...methods.asymmetric import Asymmetric
from ...methods.siamese import Inputs
from ...recipe import Recipe
from .common import two_views
from .imagenet import passes
from .settings import SMALL_IMAGES, ImageSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ImageSettings):
    """The recipe's numbers."""

    steps: int = 400  # without negatives it takes longer
    projection: int = 256
    bottleneck: int = 64  # of the predictor: a quarter of the projection, as in the paper


SMALL: Final = Settings()
PAPER: Final = Settings(  # section 3 and the official defaults
    **passes(100, batch_size=512),
    rate=0.05 * 512 / 256,
    warmup=0,
    encoder="resnet50",
    views="natural",
    projection=2048,
    bottleneck=512,
)


def build(data: Source, settings: Settings) -> Training[tuple[Inputs, Inputs]]:
    """Compose the run."""
    return two_views(
        data,
        settings,
        lambda encoder: Asymmetric(
            encoder,
            mlp(encoder.dim, settings.projection, settings.projection),
            mlp(settings.projection, settings.bottleneck, settings.projection),
        ),
    )


recipe = Recipe(
    paper="Chen and He 2021, arXiv:2011.10566",
    family="align",
    modality="image",
    settings=SMALL,
    published=PAPER,
    build=build,
    differences=(
        *SMALL_IMAGES,
        "AdamW with one rate for all instead of SGD with a constant rate for the predictor",
        "a projector of two layers instead of three, and no batch norm after the projection",
    ),
)
