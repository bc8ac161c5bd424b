"""SimCLRv2 whole: pretrain without labels, fine-tune on a few, distil into a small student.

Chen et al., NeurIPS 2020, arXiv:2006.10029, with small convolutional encoders.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean
from typing import cast

from torch import Tensor, nn

from attar.errors import InvalidInput

from ...data.source import Labels, Source
from ...datasets.digits import digits
from ...distributed import step_generator
from ...encoders.mlp import mlp
from ...loop import Training, fit
from ...methods.label_distillation import LabelDistillation
from ...methods.siamese import Inputs, Siamese
from ...objectives.nt_xent import nt_xent
from ...objectives.soft_labels import soft_labels
from ...probes.finetune import Classifier, FineTuned, accuracy, fine_tune
from ...recipe import Claim, Figures, Recipe, Stage
from ...samplers.labels import label_lists
from .common import ImageSettings, image_run, image_view, new_encoder, side_of, two_views
from .encoders import EncoderName

FEW, MORE = 0.01, 0.1  # shares of the labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ImageSettings):
    """The recipe's numbers."""

    projector: int = 256  # width of the projector's hidden layers
    projection: int = 64
    temperature: float = 0.2
    share: float = FEW  # of the labels, which fine-tuning sees
    layers: int = 1  # of the projector, which fine-tuning keeps
    tuning_steps: int = 100
    tuning_rate: float = 1e-3
    student: EncoderName = "tiny"
    distil_steps: int = 600
    distil_temperature: float = 1.0


def build(data: Source, settings: Settings) -> Training[tuple[Inputs, Inputs]]:
    """Compose the first run: SimCLR with a projector of three layers."""
    wide = settings.projector
    return two_views(
        data,
        settings,
        lambda encoder: Siamese(
            encoder,
            mlp(settings.dim, wide, wide, settings.projection),
            partial(nt_xent, temperature=settings.temperature),
        ),
    )


def refuse_unlabelled(data: Source) -> None:
    """Raise InvalidInput where there are no labels to fine-tune on, before what comes first."""
    if data.train_labels is None:
        raise InvalidInput("fine-tuning needs the labels of some training images; there are none")
    if data.test is None:
        raise InvalidInput(
            "fine-tuning needs labels of a test part; no class has two images, of which one could "
            "be held out: give more images, or a test part"
        )


def taught(data: Source, pretrained: Siamese, settings: Settings) -> FineTuned:
    """Make the teacher, on the settings' share of the labels; raises InvalidInput without any."""
    refuse_unlabelled(data)
    assert data.train_labels is not None
    rows = label_lists(data.train_labels, settings.share, settings.seed).rows
    return tuned(data, pretrained, rows, settings)


def tuned(data: Source, pretrained: Siamese, rows: Labels, settings: Settings) -> FineTuned:
    """Fine-tune the pretrained encoder, from a layer of its projector, on the labels of `rows`."""
    return fine_tune(
        pretrained.encoder,
        data,
        rows,
        projector=cast("nn.Sequential", pretrained.projector),
        layers=settings.layers,
        steps=settings.tuning_steps,
        rate=settings.tuning_rate,
        seed=settings.seed,
        view=image_view(settings.views, side_of(data)),
    )


def distil(
    data: Source,
    teacher: Classifier,
    settings: Settings,
    objective: Callable[[Tensor, Tensor], Tensor],
    *,
    batch_statistics: bool = False,
) -> Training[Tensor]:
    """Compose a run in which a student learns the teacher's classes on all images, unlabelled."""
    small = replace(settings, encoder=settings.student, steps=settings.distil_steps)
    view = image_view(settings.views, side_of(data))
    classes = teacher.head.out_features

    def method(encoder: nn.Module) -> LabelDistillation:
        student = Classifier(encoder, nn.Identity(), width=settings.dim, classes=classes)
        return LabelDistillation(student, teacher, objective, batch_statistics=batch_statistics)

    return image_run(
        data,
        small,
        method,
        lambda images, step: view(images, step_generator(settings.seed, step)).data,
    )


def stages(data: Source, settings: Settings) -> Iterator[Stage]:
    """Give the runs, with fine-tuning between them."""
    refuse_unlabelled(data)
    first = build(data, settings)
    yield Stage("pretrain", first)
    teacher = taught(data, cast("Siamese", first.method), settings)
    yield Stage("distil", distil(data, teacher.classifier, settings, soft(settings)))


def soft(settings: Settings) -> Callable[[Tensor, Tensor], Tensor]:
    """Give the objective of distillation."""
    return partial(soft_labels, temperature=settings.distil_temperature)


def trial(data: Source, seed: int) -> dict[str, float]:
    """Give test accuracies of the runs, and of the student's network trained on labels alone."""
    settings = replace(Settings(), seed=seed)
    assert data.train_labels is not None
    few, more = (label_lists(data.train_labels, share, seed).rows for share in (FEW, MORE))
    pretraining = replace(build(data, settings), probe=None)
    fit(pretraining, accelerator="cpu", progress=False)
    pretrained = cast("Siamese", pretraining.method)
    from_first = tuned(data, pretrained, few, settings)
    from_encoder = tuned(data, pretrained, few, replace(settings, layers=0))
    training = replace(distil(data, from_first.classifier, settings, soft(settings)), probe=None)
    fit(training, accelerator="cpu", progress=False)
    student = accuracy(training.method.encoder.eval(), data)

    def supervised(rows: Labels) -> float:
        encoder = new_encoder(data, replace(settings, encoder=settings.student))
        view = image_view(settings.views, side_of(data))
        return fine_tune(encoder, data, rows, steps=400, seed=seed, view=view).accuracy

    return {
        "teacher_from_layer_1": from_first.accuracy,
        "teacher_from_encoder": from_encoder.accuracy,
        "student": student,
        "supervised": supervised(few),
        "supervised_10_percent": supervised(more),
    }


def _holds(figures: Figures) -> bool:
    means = {name: fmean(values) for name, values in figures.items()}
    return (
        means["teacher_from_layer_1"] >= means["teacher_from_encoder"]
        and means["student"] >= means["teacher_from_layer_1"] - 0.02
        and means["student"] > means["supervised"]
    )


recipe = Recipe(
    paper="Chen et al. 2020, arXiv:2006.10029",
    family="contrast",
    modality="image",
    claim=Claim(
        "with 1 % of the labels of digits, fine-tuning from the projector's first layer is on "
        "average at least as accurate as from the encoder, and a student distilled from it without "
        "labels is within two points of it and above the same network trained on those labels",
        digits,
        trial,
        _holds,
    ),
    settings=Settings(),
    build=build,
    stages=stages,
    departures=(
        "8x8 grey digits and affine, erasing and noise views, for ImageNet and its colour views",
        "three convolutions, a quarter as wide in the student, for ResNets with selective kernels",
        "AdamW at batch 128, for LARS at 4096; no distillation of the teacher into itself first",
    ),
)
