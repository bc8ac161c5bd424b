"""SimSiam: a stop-gradient and a predictor are enough against collapse.

Chen and He, CVPR 2021, arXiv:2011.10566.
"""

from dataclasses import dataclass
from typing import Final, cast

from ...data.source import Source
from ...encoders.encoder import TensorEncoder
from ...encoders.mlp import mlp, projector
from ...loop import Training
from ...methods.asymmetric import Asymmetric
from ...methods.siamese import Inputs
from ...optimisers import OptimizerName, hold_rate
from ...recipe import Recipe
from .common import two_views
from .imagenet import passes
from .settings import SMALL_IMAGES, ImageSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ImageSettings):
    """The recipe's numbers; the predictor has `rate` at every step."""

    steps: int = 400  # without negatives it takes longer
    rate: float = 0.03  # the paper's for CIFAR, as the decay
    warmup: int = 0
    weight_decay: float = 5e-4
    optimizer: OptimizerName = "sgd"
    projection: int = 256
    projector_depth: int = 3
    bottleneck: int = 64  # of the predictor: a quarter of the projection, as in the paper


SMALL: Final = Settings()
PAPER: Final = Settings(  # section 3 and the official defaults
    **passes(100, batch_size=512),
    rate=0.05 * 512 / 256,
    weight_decay=1e-4,
    encoder="resnet50",
    views="natural",
    projection=2048,
    bottleneck=512,
)


def build(data: Source, settings: Settings) -> Training[tuple[Inputs, Inputs]]:
    """Compose the run."""
    width, depth = settings.projection, settings.projector_depth

    def method(encoder: TensorEncoder) -> Asymmetric:
        head = projector(encoder.dim, width, width, depth=depth, norm_output=True)
        return Asymmetric(encoder, head, mlp(width, settings.bottleneck, width))

    training = two_views(data, settings, method)
    hold_rate(training.optimiser, cast("Asymmetric", training.method).predictor, settings.rate)
    return training


recipe = Recipe(
    paper="Chen and He 2021, arXiv:2011.10566",
    family="align",
    modality="image",
    settings=SMALL,
    published=PAPER,
    build=build,
    differences=SMALL_IMAGES,
)
