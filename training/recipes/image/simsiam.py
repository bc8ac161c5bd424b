"""SimSiam on digits: a stop-gradient and a predictor are enough.

Chen and He, CVPR 2021, arXiv:2011.10566, with a small convolutional encoder.
"""

from dataclasses import dataclass

from ...data.source import Source
from ...encoders.mlp import mlp
from ...loop import Training
from ...methods.asymmetric import Asymmetric
from ...methods.siamese import Inputs
from ...recipe import Recipe
from .common import ImageSettings, scarce_claim, two_views


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ImageSettings):
    """The recipe's numbers."""

    steps: int = 400  # without negatives it takes longer
    projection: int = 256
    bottleneck: int = 64  # of the predictor: a quarter of the projection, as in the paper


def build(data: Source, settings: Settings) -> Training[tuple[Inputs, Inputs]]:
    """Compose the run."""
    return two_views(
        data,
        settings,
        lambda encoder: Asymmetric(
            encoder,
            mlp(settings.dim, settings.projection, settings.projection),
            mlp(settings.projection, settings.bottleneck, settings.projection),
        ),
    )


recipe = Recipe(
    paper="Chen and He 2021, arXiv:2011.10566",
    family="align",
    modality="image",
    claim=scarce_claim(build, Settings()),
    settings=Settings(),
    build=build,
    departures=(
        "8x8 grey digits and affine, erasing and noise views, for ImageNet and its colour views",
        "AdamW with one rate for all, for SGD with a constant rate for the predictor",
        "no batch norm after the projection",
    ),
)
