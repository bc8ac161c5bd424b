"""MoCo on digits: find one's key beside a queue of past ones.

He et al., CVPR 2020, arXiv:1911.05722, with a small convolutional encoder.
"""

from dataclasses import dataclass

from ...data.source import Source
from ...encoders.mlp import mlp
from ...loop import Training
from ...methods.momentum import Mixing, MomentumContrast
from ...methods.siamese import Inputs
from ...recipe import Recipe
from ...schedules import constant
from ...targets import Queue
from .common import ImageSettings, scarce_claim, two_views


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ImageSettings):
    """The recipe's numbers."""

    hidden: int = 256  # width inside the projector
    projection: int = 64
    queue: int = 512
    momentum: float = 0.98  # of the slow copy
    temperature: float = 0.2


def build(
    data: Source, settings: Settings, mixing: Mixing | None = None
) -> Training[tuple[Inputs, Inputs]]:
    """Compose the run; `mixing` adds harder negatives, made of those there are."""
    return two_views(
        data,
        settings,
        lambda encoder: MomentumContrast(
            encoder,
            mlp(settings.dim, settings.hidden, settings.projection),
            queue=Queue(settings.queue, settings.projection, seed=settings.seed),
            momentum=constant(settings.momentum),
            temperature=settings.temperature,
            mixing=mixing,
        ),
    )


recipe = Recipe(
    paper="He et al. 2020, arXiv:1911.05722",
    family="contrast",
    modality="image",
    claim=scarce_claim(build, Settings()),
    settings=Settings(),
    build=build,
    departures=(
        "8x8 grey digits and affine, erasing and noise views, for ImageNet and its colour views",
        "a queue of 512 for 1,257 images, and a copy that is slow by 0.98, for 65,536 and 0.999",
        "both views ask, and batch norm is not shuffled",
        "AdamW at batch 128, for SGD at 256",
    ),
)
