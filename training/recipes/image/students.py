"""Students: from a pretrained network to a small one, which SimCLRv2 and SSLD share."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

from torch import Tensor, nn

from ...backbones.network import PRETRAINED
from ...composing import step_views
from ...data.source import Labels, Source
from ...encoders.classifier import Classifier
from ...encoders.encoder import TensorEncoder
from ...encoders.image import EncoderName
from ...loop import Training
from ...methods.label_distillation import LabelDistillation
from ...methods.siamese import Siamese
from ...probes.finetune import FineTuned, fine_tune, labels_to_learn
from ...recipe import Stage
from ...samplers.labels import label_lists
from .common import image_run
from .settings import ProjectorSettings
from .views import view_of


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentSettings(ProjectorSettings):
    """The numbers of fine-tuning a teacher and of distilling it."""

    share: float = 0.01  # of the labels, which the teacher sees
    layers: int = 1  # of the projector, which fine-tuning keeps
    tuning_steps: int = 100
    tuning_rate: float = 1e-3
    student: EncoderName = "tiny"
    distil_steps: int = 600


Settings = TypeVar("Settings", bound=StudentSettings)


def taught(
    data: Source,
    settings: Settings,
    first: Training[Any],
    student: Callable[[Source, Classifier, Settings], Training[Tensor]],
) -> Iterator[Stage]:
    """Give the runs: `first`, which pretrains, and the student's, with fine-tuning between them.

    Raises InvalidInput for a source without labels, before the first run.
    """
    labels = label_lists(labels_to_learn(data), settings.share, settings.seed)
    yield Stage("pretrain", first)
    teacher = fine_tuned(data, cast("Siamese", first.method), labels.rows, settings).classifier
    yield Stage("distil", student(data, teacher, settings))


def fine_tuned(
    data: Source, pretrained: Siamese, rows: Labels, settings: StudentSettings
) -> FineTuned:
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
        view=view_of(data, settings),
    )


def distil(
    data: Source,
    teacher: Classifier,
    settings: StudentSettings,
    objective: Callable[[Tensor, Tensor], Tensor],
    *,
    batch_statistics: bool = False,
) -> Training[Tensor]:
    """Compose a run in which a student learns the teacher's classes on all images, unlabelled."""
    steps = settings.distil_steps
    small = replace(settings, encoder=settings.student, weights=PRETRAINED, steps=steps)
    view, classes = view_of(data, settings), teacher.head.out_features

    def method(encoder: TensorEncoder) -> LabelDistillation:
        student = Classifier(encoder, nn.Identity(), width=encoder.dim, classes=classes)
        return LabelDistillation(student, teacher, objective, batch_statistics=batch_statistics)

    views = step_views(lambda images, draw: view(images, draw).data, settings)
    return image_run(data, small, method, views)
