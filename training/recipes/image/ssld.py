"""SSLD: a small student learns a teacher's classes without labels, by Jensen-Shannon.

Cui et al. 2021, arXiv:2103.05959.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from torch import Tensor

from ...data.source import Source
from ...encoders.classifier import Classifier
from ...loop import Training
from ...methods.siamese import Inputs
from ...objectives.soft_labels import jensen_shannon, soft_labels
from ...recipe import Recipe, Stage
from . import simclr_v2, students
from .students import taught


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(simclr_v2.Settings):
    """The recipe's numbers: a teacher as in SimCLRv2, and how it teaches."""

    share: float = 0.1  # of the labels, which the teacher saw
    divergence: bool = True  # Jensen-Shannon; without, cross-entropy
    batch_statistics: bool = True  # in the teacher's batch norm


SMALL: Final = Settings()
PAPER: Final = Settings(views="natural")  # all other numbers are not given for sure


def build(data: Source, settings: Settings) -> Training[tuple[Inputs, Inputs]]:
    """Compose the first run, which pretrains the teacher."""
    return simclr_v2.build(data, settings)


def distil(data: Source, teacher: Classifier, settings: Settings) -> Training[Tensor]:
    """Compose the run in which the student sees all images and no label."""
    soft = partial(soft_labels, temperature=settings.distil_temperature)
    objective, own = jensen_shannon if settings.divergence else soft, settings.batch_statistics
    return students.distil(data, teacher, settings, objective, batch_statistics=own)


def stages(data: Source, settings: Settings) -> Iterator[Stage]:
    """Give the runs, with the teacher's fine-tuning between them."""
    return taught(data, settings, build(data, settings), distil)


recipe = Recipe(
    paper="Cui et al. 2021, arXiv:2103.05959",
    family="distribute",
    modality="image",
    settings=SMALL,
    published=PAPER,
    build=build,
    stages=stages,
    differences=(
        "small grey digits, all used, instead of ImageNet and four million chosen images",
        "a teacher pretrained as SimCLRv2's and fine-tuned on few labels",
        "one run at one rate, without the shorter one after it",
    ),
)
