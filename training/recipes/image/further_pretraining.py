"""Self-distillation for further pretraining: go on from a base without leaving what one found.

Lee et al., ICLR 2023, arXiv:2210.02871.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, cast

from ...data.source import Source
from ...groups import Groups, read_groups
from ...loop import Training
from ...methods.reconstruction import Reconstruction, ReconstructionBatch
from ...methods.self_distilled import continued
from ...recipe import Recipe, Stage
from .autoencoder import autoencoder, noisy
from .common import image_run
from .settings import ImageSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ImageSettings):
    """The recipe's numbers; `steps` are those of each of the three runs."""

    hidden: int = 256  # width inside the decoder
    noise: float = 0.3  # of the images that are rebuilt
    weight: float = 1.0  # of keeping to the teacher


SMALL: Final = Settings()
PAPER: Final = Settings()  # weight 1: equation 3; all others are not given for sure


def build(data: Groups, settings: Settings) -> Training[ReconstructionBatch]:
    """Compose the first run: the base, a denoising autoencoder of the related group."""
    return autoencoder(data.related, settings, **settings.only("hidden", "noise"))


def further(
    target: Source, base: Reconstruction, settings: Settings, teacher: Reconstruction | None = None
) -> Training[ReconstructionBatch]:
    """Compose a run on the target from a copy of the base, near a teacher if there is one."""
    method = continued(base, teacher, weight=settings.weight)
    return image_run(target, settings, lambda _: method, noisy(settings, settings.noise))


def stages(data: Groups, settings: Settings) -> Iterator[Stage]:
    """Give the three runs: base, teacher on the target, and the student that begins again."""
    yield Stage("base", base := build(data, settings))
    target, start = data.target, cast("Reconstruction", base.method)
    yield Stage("teacher", second := further(target, start, settings))
    yield Stage("student", further(target, start, settings, cast("Reconstruction", second.method)))


recipe = Recipe(
    paper="Lee et al. 2023, arXiv:2210.02871",
    family="align",
    modality="image",
    settings=SMALL,
    published=PAPER,
    build=build,
    stages=stages,
    read=read_groups,
    differences=(
        "a denoising autoencoder of digits instead of masked autoencoders of photographs and text",
        "one round of self-distillation",
    ),
)
