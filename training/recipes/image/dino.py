"""DINO: crops of every size give the outputs that a slow teacher gives for the large ones.

Caron et al., ICCV 2021, arXiv:2104.14294.
"""

from dataclasses import dataclass
from typing import Final

from torch import Tensor

from ...composing import step_views
from ...data.source import Source
from ...encoders.encoder import TensorEncoder
from ...encoders.prototype_head import PrototypeHead
from ...loop import Training
from ...methods.dino import Dino
from ...recipe import Recipe
from ...schedules import cosine_ramp, linear_ramp
from .common import image_run
from .multi_crop import MultiCropSettings, multi_crop
from .published import DINO_VIT_SMALL


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(MultiCropSettings):
    """The recipe's numbers."""

    steps: int = 400
    clip: float | None = 3.0
    hidden: int = 256  # width inside the head
    bottleneck: int = 64
    outputs: int = 128
    frozen: int = 20  # first steps, in which the prototypes do not learn
    momentum: float = 0.98  # of the teacher at the first step; 1 at the last
    student_temperature: float = 0.1
    teacher_temperature: tuple[float, float] = (0.04, 0.07)  # at the first step, after the rise
    rise: int = 100  # steps
    export_target: bool = True


SMALL: Final = Settings()
PAPER: Final = Settings(**DINO_VIT_SMALL)  # section 3.2 and the official code


def build(data: Source, settings: Settings) -> Training[tuple[Tensor, ...]]:
    """Compose the run."""
    first, last = settings.teacher_temperature
    own = settings.only("student_temperature", "frozen", "export_target")

    def method(encoder: TensorEncoder) -> Dino:
        head = PrototypeHead(encoder.dim, **settings.only("hidden", "bottleneck", "outputs"))
        momentum = cosine_ramp(settings.momentum, 1.0, settings.steps)
        temperature = linear_ramp(first, last, max(1, settings.rise))
        return Dino(encoder, head, momentum=momentum, teacher_temperature=temperature, **own)

    return image_run(data, settings, method, step_views(multi_crop(data, settings), settings))


recipe = Recipe(
    paper="Caron et al. 2021, arXiv:2104.14294",
    family="distribute",
    modality="image",
    settings=SMALL,
    published=PAPER,
    build=build,
    differences=(
        "small grey digits instead of photographs in colour",
        "the mean of a ViT's patches instead of its class token, and no stochastic depth",
    ),
)
