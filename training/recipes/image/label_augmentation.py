"""Label augmentation on digits: classes and quarter turns in one softmax, from ten labels a class.

Lee et al., ICML 2020, arXiv:1910.05872, with a small convolutional encoder.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import fmean
from typing import cast

import numpy as np
import torch
from torch import Tensor

from attar.errors import InvalidInput

from ...data.source import Source
from ...datasets.digits import digits
from ...distributed import shard, step_generator
from ...encoders.encoder import TensorEncoder
from ...loop import Training, fit
from ...methods.label_augmentation import LabelAugmentation, LabelAugmentationBatch
from ...probes.few_shot import few_rows
from ...recipe import Claim, Figures, Recipe
from ...sampler import Sampler
from ...views.puzzle import quarter_turns
from .common import ImageSettings, image_run, image_view, side_of

FORMS = quarter_turns.answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ImageSettings):
    """The recipe's numbers."""

    steps: int = 300
    batch_size: int = 50
    each: int = 10  # labels a class
    turns: bool = True  # without, a plain classifier
    temperature: float = 1.0  # of the distillation


def build(data: Source, settings: Settings) -> Training[LabelAugmentationBatch]:
    """Compose the run; raises InvalidInput for a source without labels."""
    if data.train_labels is None:
        raise InvalidInput("label augmentation learns classes; the source has no labels")
    names, places = np.unique(data.train_labels, return_inverse=True)
    rows = torch.from_numpy(few_rows(data.train_labels, settings.each, seed=settings.seed))
    labels = torch.from_numpy(places)
    distort = image_view(settings.views, side_of(data))
    forms = FORMS if settings.turns else 1
    size = min(settings.batch_size, len(rows))
    sampler = Sampler(items=len(rows), batch_size=size, seed=settings.seed)

    def method(encoder: TensorEncoder) -> LabelAugmentation:
        return LabelAugmentation(
            encoder,
            dim=settings.dim,
            classes=len(names),
            forms=forms,
            distil=settings.turns,
            temperature=settings.temperature,
        )

    def batches(step: int) -> tuple[Tensor, Tensor]:
        own = rows[shard(sampler(step))]
        return data.train[own], labels[own]

    def views(items: tuple[Tensor, Tensor], step: int) -> LabelAugmentationBatch:
        images, known = items
        seen = distort(images, step_generator(settings.seed, step)).data
        return LabelAugmentationBatch(
            quarter_turns.all_answers(seen).data if settings.turns else seen, known
        )

    return replace(image_run(data, settings, method, views), batches=batches)


def trial(data: Source, seed: int) -> dict[str, float]:
    """Give test accuracies of a plain classifier, of all forms together, and of one pass."""
    plain, turned = (_trained(data, seed, turns=turns) for turns in (False, True))
    return {
        "plain": _accuracy(plain.aggregated, data),
        "aggregated": _accuracy(
            lambda images: turned.aggregated(quarter_turns.all_answers(images).data), data
        ),
        "one_pass": _accuracy(turned.single, data),
    }


def _trained(data: Source, seed: int, *, turns: bool) -> LabelAugmentation:
    training = replace(build(data, replace(Settings(), seed=seed, turns=turns)), probe=None)
    fit(training, accelerator="cpu", progress=False)
    return cast("LabelAugmentation", training.method.eval())


def _accuracy(classify: Callable[[Tensor], Tensor], data: Source) -> float:
    """Give the share of test images that are named rightly."""
    assert data.test is not None
    assert data.train_labels is not None
    with torch.no_grad():
        logits = classify(data.test[torch.arange(len(data.test))])
    names = np.unique(data.train_labels)
    return float((names[logits.argmax(1).numpy()] == data.test_labels).mean())


def _holds(figures: Figures) -> bool:
    plain, aggregated, one_pass = (
        fmean(figures[name]) for name in ("plain", "aggregated", "one_pass")
    )
    return aggregated > plain and one_pass >= aggregated - 0.01


recipe = Recipe(
    paper="Lee et al. 2020, arXiv:1910.05872",
    family="classify",
    modality="image",
    claim=Claim(
        "with ten labels a class, the four turns of a digit together name it more accurately on "
        "average than a plain classifier, and the classifier distilled from that, in one pass, is "
        "within a point of it",
        digits,
        trial,
        _holds,
    ),
    settings=Settings(),
    build=build,
    departures=(
        "8x8 grey digits and affine, erasing and noise views, for CIFAR and photographs",
        "AdamW at batch 50, for SGD at 128; quarter turns alone, no orders of colours",
    ),
)
