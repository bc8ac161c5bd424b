"""VICReg on digits: variance keeps what invariance would collapse, covariance spreads it out.

Bardes et al., ICLR 2022, arXiv:2105.04906, with a small convolutional encoder.
"""

from dataclasses import dataclass
from functools import partial

from ...data.source import Source
from ...encoders.mlp import mlp
from ...loop import Training
from ...methods.siamese import Inputs, Siamese
from ...objectives.vicreg import vicreg
from ...recipe import Recipe
from .common import ImageSettings, scarce_claim, two_views


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ImageSettings):
    """The recipe's numbers; the weights are the paper's."""

    projector: int = 512  # width of the projector's two layers
    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 1.0


def build(data: Source, settings: Settings) -> Training[tuple[Inputs, Inputs]]:
    """Compose the run."""
    weights = {name: getattr(settings, name) for name in ("invariance", "variance", "covariance")}
    return two_views(
        data,
        settings,
        lambda encoder: Siamese(
            encoder,
            mlp(settings.dim, settings.projector, settings.projector),
            partial(vicreg, **weights),
        ),
    )


recipe = Recipe(
    paper="Bardes et al. 2022, arXiv:2105.04906",
    family="decorrelate",
    modality="image",
    claim=scarce_claim(build, Settings()),
    settings=Settings(),
    build=build,
    departures=(
        "8x8 grey digits and affine, erasing and noise views, for ImageNet and its colour views",
        "three convolutions and a projector of two layers, for ResNet-50 and three",
        "AdamW at batch 128, for LARS at 2048",
    ),
)
