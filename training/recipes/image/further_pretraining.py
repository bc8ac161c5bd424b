"""Self-distillation for further pretraining: go on from a base without leaving what one found.

Lee et al., ICLR 2023, arXiv:2210.02871, with a denoising autoencoder on digits.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from statistics import fmean
from typing import cast

import torch

from ...data.source import Source, subset
from ...datasets.digits import digits
from ...encoders.encoder import refuse_sizes_below_one
from ...encoders.mlp import mlp
from ...loop import Training, fit
from ...methods.reconstruction import Reconstruction, ReconstructionBatch
from ...methods.self_distilled import SelfDistilled
from ...probes.few_shot import few_rows
from ...probes.finetune import fine_tune
from ...recipe import Claim, Figures, Recipe, Stage
from .common import ImageSettings, image_run, image_view, noisy, side_of
from .infinite_schedule import sideways

SHORT, LONG = 100, 800  # steps of further pretraining in the trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ImageSettings):
    """The recipe's numbers; `steps` are those of each of the three runs."""

    hidden: int = 256  # width inside the decoder
    noise: float = 0.3  # of the images that are rebuilt
    weight: float = 1.0  # of keeping to the teacher
    target: int = 200  # training images of the target, the first ones on their side


def build(data: Source, settings: Settings) -> Training[ReconstructionBatch]:
    """Compose the first run: the base, a denoising autoencoder of all images."""
    numbers = data.train[torch.tensor([0])].numel()
    return image_run(
        data,
        settings,
        lambda encoder: Reconstruction(encoder, mlp(settings.dim, settings.hidden, numbers)),
        noisy(settings, settings.noise),
    )


def further(
    target: Source, base: Reconstruction, settings: Settings, teacher: Reconstruction | None = None
) -> Training[ReconstructionBatch]:
    """Compose a run on the target from the base, kept near a teacher's embeddings if there is one.

    The base and the teacher are not changed.
    """

    def method(_encoder: object) -> Reconstruction:
        start = deepcopy(base).requires_grad_()
        if teacher is None:
            return start
        return SelfDistilled(start, deepcopy(teacher), dim=settings.dim, weight=settings.weight)

    return image_run(target, settings, method, noisy(settings, settings.noise))


def stages(data: Source, settings: Settings) -> Iterator[Stage]:
    """Give the three runs: base, teacher on the target, and the student that begins again."""
    first = build(data, settings)
    yield Stage("base", first)
    target = target_of(data, settings)
    base = cast("Reconstruction", first.method)
    second = further(target, base, settings)
    yield Stage("teacher", second)
    teacher = cast("Reconstruction", second.method)
    yield Stage("student", further(target, base, settings, teacher))


def target_of(data: Source, settings: Settings) -> Source:
    """Give the target: some images on their side, as a small domain of its own."""
    refuse_sizes_below_one(settings.target, target=settings.target)
    turned = sideways(data)
    rows = torch.arange(min(settings.target, len(data.train)))
    labels = None if data.train_labels is None else data.train_labels[: len(rows)]
    return replace(turned, train=subset(turned.train, rows), train_labels=labels)


def trial(data: Source, seed: int) -> dict[str, float]:
    """Fine-tune on ten labels a class after few and many further steps, distilled and not."""
    settings = replace(Settings(), seed=seed)
    first = replace(build(data, settings), probe=None)
    fit(first, accelerator="cpu", progress=False)
    base, target = cast("Reconstruction", first.method), target_of(data, settings)
    assert target.train_labels is not None
    rows = few_rows(target.train_labels, 10, seed=seed)
    view = image_view(settings.views, side_of(data))

    def tuned(method: Reconstruction) -> float:
        return fine_tune(method.encoder, target, rows, seed=seed, view=view).accuracy

    def ran(training: Training[ReconstructionBatch]) -> Reconstruction:
        fit(replace(training, probe=None), accelerator="cpu", progress=False)
        return cast("Reconstruction", training.method)

    figures = {"base": tuned(base)}
    for name, steps in (("short", SHORT), ("long", LONG)):
        longer = replace(settings, steps=steps)
        plain = ran(further(target, base, longer))
        distilled = ran(further(target, base, longer, plain))
        figures |= {f"plain/{name}": tuned(plain), f"distilled/{name}": tuned(distilled)}
    return figures


def _holds(figures: Figures) -> bool:
    return fmean(figures["distilled/long"]) > fmean(figures["plain/long"])


recipe = Recipe(
    paper="Lee et al. 2023, arXiv:2210.02871",
    family="align",
    modality="image",
    claim=Claim(
        f"after {LONG} further steps on 200 unlabelled digits on their side, fine-tuning on ten "
        "labels a class is on average more accurate with self-distillation than without",
        digits,
        trial,
        _holds,
    ),
    settings=Settings(),
    build=build,
    stages=stages,
    departures=(
        "a denoising autoencoder of 8x8 digits, for masked autoencoders of photographs and text",
        "one round of self-distillation",
    ),
)
