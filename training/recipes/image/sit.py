"""SiT: a small vision transformer rebuilds corrupted images and knows them again.

Atito et al. 2021, arXiv:2104.03602.
"""

from dataclasses import dataclass
from typing import Final

from torch import Tensor

from ...data.source import Source
from ...distributed import step_generator
from ...encoders.encoder import TensorEncoder
from ...encoders.image import EncoderName, patches_of
from ...encoders.mlp import mlp
from ...loop import Training
from ...methods.group_masked import GroupMasked, GroupMaskedBatch
from ...recipe import Recipe
from ...schedules import cosine_ramp
from .common import image_run
from .settings import ImageSettings, view_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ImageSettings):
    """The recipe's numbers."""

    encoder: EncoderName = "vit"
    rate: float = 3e-3
    steps: int = 300
    hidden: int = 256  # width inside the projector
    projection: int = 64
    momentum: float = 0.98  # of the target at the first step; 1 at the last
    temperature: float = 0.2
    rebuild: float = 5.0
    contrast: float = 1.0
    drop: float = 0.5  # share of an image that noise hides
    foreign: float = 0.3  # most of an image that another replaces


SMALL: Final = Settings()
PAPER: Final = Settings(  # official code, ViT-S; not given: steps, batch_size, warmup
    encoder="vit_small", rate=5e-4, weight_decay=0.04, views="natural", hidden=4096, momentum=0.996
)


def build(data: Source, settings: Settings) -> Training[tuple[GroupMaskedBatch, GroupMaskedBatch]]:
    """Compose the run; raises InvalidInput for an encoder that has no patches."""
    distort, momentum = view_of(data, settings), cosine_ramp(settings.momentum, 1.0, settings.steps)
    widths = settings.dim, settings.hidden, settings.projection
    own = settings.only("temperature", "rebuild", "contrast")

    def method(encoder: TensorEncoder) -> GroupMasked:
        vit, projector = patches_of(encoder, settings.encoder), mlp(*widths)
        return GroupMasked(vit, projector, momentum=momentum, **own)

    def views(images: Tensor, step: int) -> tuple[GroupMaskedBatch, GroupMaskedBatch]:
        draw, shares = step_generator(settings.seed, step), settings.only("drop", "foreign")
        first = GroupMaskedBatch.of(distort(images, draw).data, draw, **shares)
        return first, GroupMaskedBatch.of(distort(images, draw).data, draw, **shares)

    return image_run(data, settings, method, views)


recipe = Recipe(
    paper="Atito et al. 2021, arXiv:2104.03602",
    family="align",
    modality="image",
    settings=SMALL,
    published=PAPER,
    build=build,
    differences=(
        "small grey digits with affine, erasing and noise views instead of photographs",
        "contrast of the mean of patches instead of a class token",
        "one weight decay, without clipping",
        "both parts of the loss are means over the two views instead of sums",
    ),
)
