"""SSLD on digits: a small student learns a teacher's classes without labels, by Jensen-Shannon.

Cui et al. 2021, arXiv:2103.05959, with small convolutional encoders.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import fmean
from typing import cast

from torch import Tensor

from ...data.source import Source
from ...datasets.digits import digits
from ...loop import Training, fit
from ...methods.siamese import Inputs, Siamese
from ...objectives.soft_labels import jensen_shannon
from ...probes.finetune import Classifier, accuracy
from ...recipe import Claim, Figures, Recipe, Stage
from . import simclr_v2

SHARE = 0.1  # of the labels, which the teacher saw


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(simclr_v2.Settings):
    """The recipe's numbers: a teacher as in SimCLRv2, and how it teaches."""

    share: float = SHARE
    divergence: bool = True  # Jensen-Shannon; without, cross-entropy
    batch_statistics: bool = True  # in the teacher's batch norm


def build(data: Source, settings: Settings) -> Training[tuple[Inputs, Inputs]]:
    """Compose the first run, which pretrains the teacher."""
    return simclr_v2.build(data, settings)


def distil(data: Source, teacher: Classifier, settings: Settings) -> Training[Tensor]:
    """Compose the run in which the student sees all images and no label."""
    objective = jensen_shannon if settings.divergence else simclr_v2.soft(settings)
    return simclr_v2.distil(
        data, teacher, settings, objective, batch_statistics=settings.batch_statistics
    )


def stages(data: Source, settings: Settings) -> Iterator[Stage]:
    """Give the runs, with the teacher's fine-tuning between them."""
    simclr_v2.refuse_unlabelled(data)
    first = build(data, settings)
    yield Stage("pretrain", first)
    teacher = simclr_v2.taught(data, cast("Siamese", first.method), settings)
    yield Stage("distil", distil(data, teacher.classifier, settings))


def trial(data: Source, seed: int) -> dict[str, float]:
    """Give test accuracies of the teacher, and of students taught in three ways."""
    default = replace(Settings(), seed=seed)
    pretraining = replace(build(data, default), probe=None)
    fit(pretraining, accelerator="cpu", progress=False)
    teacher = simclr_v2.taught(data, cast("Siamese", pretraining.method), default)
    ways = {
        "jensen_shannon": default,
        "cross_entropy": replace(default, divergence=False),
        "own_statistics": replace(default, batch_statistics=False),
    }
    figures = {"teacher": teacher.accuracy}
    for name, settings in ways.items():
        training = replace(distil(data, teacher.classifier, settings), probe=None)
        fit(training, accelerator="cpu", progress=False)
        figures[name] = accuracy(training.method.encoder.eval(), data)
    return figures


def _holds(figures: Figures) -> bool:
    ours, theirs = fmean(figures["jensen_shannon"]), fmean(figures["cross_entropy"])
    return ours >= theirs - 0.005 and ours >= 0.97 * fmean(figures["teacher"])


recipe = Recipe(
    paper="Cui et al. 2021, arXiv:2103.05959",
    family="distribute",
    modality="image",
    claim=Claim(
        "a student of a sixteenth of the teacher's convolutions, taught without labels by "
        "Jensen-Shannon, has on average at least 97 % of the teacher's accuracy and at most half a "
        "point less than one taught by cross-entropy",
        digits,
        trial,
        _holds,
    ),
    settings=Settings(),
    build=build,
    stages=stages,
    departures=(
        "8x8 grey digits, all of which teach, for ImageNet and four million chosen images beside",
        "a teacher pretrained as SimCLRv2's and fine-tuned on a tenth of the labels",
        "one run at one rate, without the shorter one after it",
    ),
)
