"""SlotCon: the places of an image are grouped by prototypes, and the groups told apart.

Wen et al., NeurIPS 2022, arXiv:2205.15288.
"""

from dataclasses import dataclass
from typing import Final

from ...composing import step_views
from ...data.source import Source
from ...encoders.encoder import TensorEncoder
from ...encoders.mlp import projector
from ...loop import Training
from ...methods.slotcon import SlotCon, SlotConBatch
from ...recipe import Recipe
from ...schedules import cosine_ramp
from ...views.image import ViewName
from .common import image_run
from .published import SLOTCON_COCO
from .settings import ProjectorSettings
from .views import crops_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ProjectorSettings):
    """The recipe's numbers."""

    views: ViewName = "crop"
    area: tuple[float, float] = (0.4, 1.0)  # of a crop, as shares of the image's
    flip: float = 0.0  # share of the crops that are mirrored
    steps: int = 100
    batch_size: int = 64
    prototypes: int = 16
    momentum: float = 0.98  # of the teacher at the first step; 1 at the last
    student_temperature: float = 0.1
    teacher_temperature: float = 0.07
    temperature: float = 0.2  # of the contrast of slots
    group_weight: float = 0.5


SMALL: Final = Settings()
PAPER: Final = Settings(**SLOTCON_COCO)  # section 4.1, and the official code's script for COCO
OWN = "prototypes", "student_temperature", "teacher_temperature", "temperature", "group_weight"


def build(data: Source, settings: Settings) -> Training[SlotConBatch]:
    """Compose the run; raises InvalidInput for views that are no crops."""
    width, own = settings.projection, settings.only(*OWN)

    def method(encoder: TensorEncoder) -> SlotCon:
        predictor = projector(width, settings.hidden, width, depth=settings.projector_depth)
        own["momentum"] = cosine_ramp(settings.momentum, 1.0, settings.steps)
        return SlotCon(encoder, settings.projector_of(encoder), predictor, dim=width, **own)

    two = SlotConBatch.two(*crops_of(data, settings, **settings.only("area", "flip")))
    return image_run(data, settings, method, step_views(two, settings))


recipe = Recipe(
    paper="Wen et al. 2022, arXiv:2205.15288",
    family="cluster",
    modality="image",
    settings=SMALL,
    published=PAPER,
    build=build,
    differences=(
        "small grey digits, one in an image, and ReLU instead of scenes in colour, and GELU",
        "crops that share nothing are not drawn again; the predictor normalises over all slots",
    ),
)
