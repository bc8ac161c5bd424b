"""iBOT: a student names masked patches as its teacher does, and images as in DINO.

Zhou et al., ICLR 2022, arXiv:2111.07832.
"""

from dataclasses import dataclass
from typing import Final

from ...composing import step_views
from ...data.source import Source
from ...data.square import side_of
from ...encoders.encoder import TensorEncoder
from ...encoders.image import EncoderName, patches_of, vit_shape
from ...encoders.prototype_head import PrototypeHead
from ...loop import Training
from ...methods.ibot import Ibot, IbotBatch
from ...recipe import Recipe
from ...schedules import cosine_ramp, linear_ramp
from . import dino
from .common import image_run
from .multi_crop import multi_crop
from .published import IBOT_VIT_SMALL


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(dino.Settings):
    """The recipe's numbers: DINO's, and those of the masks."""

    encoder: EncoderName = "vit"
    batch_size: int = 64
    steps: int = 120
    mask: tuple[float, float] = (0.1, 0.5)  # least and largest share, in half of the images
    patch_weight: float = 1.0


SMALL: Final = Settings()
PAPER: Final = Settings(**IBOT_VIT_SMALL)  # section 4.1, and the official code's README


def build(data: Source, settings: Settings) -> Training[IbotBatch]:
    """Compose the run; raises InvalidInput for an encoder that has no patches."""
    shape = vit_shape(settings.encoder, channels=1, side=side_of(data))
    views = IbotBatch.after(multi_crop(data, settings), grid=shape.side // shape.patch)
    first, last = settings.teacher_temperature
    own = settings.only("student_temperature", "frozen", "export_target", "patch_weight")

    def method(encoder: TensorEncoder) -> Ibot:
        head = PrototypeHead(encoder.dim, **settings.only("hidden", "bottleneck", "outputs"))
        momentum = cosine_ramp(settings.momentum, 1.0, settings.steps)
        temperature = linear_ramp(first, last, max(1, settings.rise))
        vit = patches_of(encoder, settings.encoder)
        return Ibot(vit, head, momentum=momentum, teacher_temperature=temperature, **own)

    return image_run(data, settings, method, step_views(views, settings, "mask"))


recipe = Recipe(
    paper="Zhou et al. 2022, arXiv:2111.07832",
    family="distribute",
    modality="image",
    settings=SMALL,
    published=PAPER,
    build=build,
    differences=(
        "small grey digits instead of photographs in colour",
        "the mean of a ViT's patches instead of its class token, and no stochastic depth",
        "masked blocks of any sides up to half of the image's, instead of BEiT's",
    ),
)
