"""SiT: a small vision transformer rebuilds corrupted images and knows them again.

Atito et al. 2021, arXiv:2104.03602.
"""

from dataclasses import dataclass
from typing import Final

from ...composing import step_views
from ...data.source import Source
from ...encoders.encoder import TensorEncoder
from ...encoders.image import EncoderName, patches_of
from ...loop import Training
from ...methods.group_masked import GroupMasked, GroupMaskedBatch
from ...recipe import Recipe
from ...schedules import cosine_ramp
from .common import image_run
from .imagenet import VIT_S
from .settings import ProjectorSettings
from .views import pair_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ProjectorSettings):
    """The recipe's numbers."""

    encoder: EncoderName = "vit"
    rate: float = 3e-3
    steps: int = 300
    projection: int = 256
    projector_depth: int = 3
    momentum: float = 0.98  # of the target at the first step; 1 at the last
    temperature: float = 0.2
    rebuild: float = 5.0  # the authors' weight for small data sets
    contrast: float = 1.0
    drop: float = 0.5  # share of an image that noise hides
    foreign: float = 0.3  # share of an image that another replaces


SMALL: Final = Settings()
# Official code, ViT-S, rate of 256 images; not given: steps, warmup.
PAPER: Final = Settings(**VIT_S, rate=5e-4, final_weight_decay=0.1, hidden=4096, momentum=0.996)


def build(data: Source, settings: Settings) -> Training[tuple[GroupMaskedBatch, GroupMaskedBatch]]:
    """Compose the run; raises InvalidInput for an encoder that has no patches."""
    ema = cosine_ramp(settings.momentum, 1.0, settings.steps)
    own = settings.only("temperature", "rebuild", "contrast")

    def method(encoder: TensorEncoder) -> GroupMasked:
        projector = settings.projector_of(encoder, norm_output=True)
        return GroupMasked(patches_of(encoder, settings.encoder), projector, momentum=ema, **own)

    views = step_views(GroupMaskedBatch.two(*pair_of(data, settings)), settings, "drop", "foreign")
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
        "contrast of the mean of patches instead of a class token, without stochastic depth",
        "blocks of noise and of another image in every image, instead of zeros or another image",
    ),
)
