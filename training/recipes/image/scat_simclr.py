"""ScatSimCLR: fixed wavelets, a small adapter, contrast, and a rotation to predict.

Kinakh et al. 2021, arXiv:2108.13939.
"""

from dataclasses import dataclass
from typing import Final

from torch import Tensor

from ...data.source import Source
from ...distributed import step_generator
from ...encoders.encoder import TensorEncoder
from ...encoders.image import EncoderName
from ...loop import Training
from ...methods.pretext_task import PretextTask, PretextTaskBatch
from ...recipe import Recipe
from ...views.puzzle import quarter_turns
from .common import image_run
from .settings import ProjectorSettings
from .views import view_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ProjectorSettings):
    """The recipe's numbers."""

    encoder: EncoderName = "scattering"
    temperature: float = 0.5
    puzzle: float = 0.3  # weight of saying how each of an image's four rotations was turned


SMALL: Final = Settings()
PAPER: Final = Settings(projection=128)  # the official code; others: as here, or not given


def build(data: Source, settings: Settings) -> Training[PretextTaskBatch]:
    """Compose the run."""
    distort = view_of(data, settings)

    def views(images: Tensor, step: int) -> PretextTaskBatch:
        draw = step_generator(settings.seed, step)
        first, second = (distort(images, draw).data for _ in range(2))
        turned = quarter_turns.all_classes(images if settings.puzzle else images[:1])
        transformed = distort(turned.data, draw).data
        return PretextTaskBatch(first, second, transformed, turned.params["label"])

    def method(encoder: TensorEncoder) -> PretextTask:
        own = settings.only("temperature") | {"weight": settings.puzzle, "dim": encoder.dim}
        classes = quarter_turns.classes
        return PretextTask(encoder, settings.projector_of(encoder), classes=classes, **own)

    return image_run(data, settings, method, views)


recipe = Recipe(
    paper="Kinakh et al. 2021, arXiv:2108.13939",
    family="contrast",
    modality="image",
    settings=SMALL,
    published=PAPER,
    build=build,
    differences=(
        "small grey digits with affine, erasing and noise views instead of STL-10 and CIFAR",
        "two residual blocks of one width instead of eight or more, for small images",
        "a projector with batch norm",
    ),
)
