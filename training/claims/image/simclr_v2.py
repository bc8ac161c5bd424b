"""SimCLRv2 makes few labels go further, in a small student too, on digits."""

from dataclasses import replace
from functools import partial
from typing import Final, cast

from ...claim import Claim, difference
from ...data.source import Labels, Source
from ...data.square import side_of
from ...datasets.digits import digits
from ...loop import fit
from ...methods.siamese import Siamese
from ...objectives.soft_labels import soft_labels
from ...probes.finetune import accuracy, fine_tune
from ...recipes.image.settings import new_encoder
from ...recipes.image.simclr_v2 import SMALL, build
from ...recipes.image.students import distil, fine_tuned
from ...samplers.labels import label_lists
from ...views.image import named_view

FEW, MORE = 0.01, 0.1  # shares of the labels


def trial(data: Source, seed: int) -> dict[str, float]:
    """Give test accuracies of the runs, and of the student's network trained on labels alone."""
    settings = replace(SMALL, seed=seed)
    assert data.train_labels is not None
    few, more = (label_lists(data.train_labels, share, seed).rows for share in (FEW, MORE))
    pretraining = replace(build(data, settings), probe=None)
    fit(pretraining, accelerator="cpu", progress=False)
    pretrained = cast("Siamese", pretraining.method)
    from_first = fine_tuned(data, pretrained, few, settings)
    from_encoder = fine_tuned(data, pretrained, few, replace(settings, layers=0))
    objective = partial(soft_labels, temperature=settings.distil_temperature)
    training = replace(distil(data, from_first.classifier, settings, objective), probe=None)
    fit(training, accelerator="cpu", progress=False)
    student = accuracy(training.method.encoder.eval(), data)

    def supervised(rows: Labels) -> float:
        encoder = new_encoder(data, replace(settings, encoder=settings.student))
        view = named_view(settings.views, side_of(data))
        return fine_tune(encoder, data, rows, steps=400, seed=seed, view=view).accuracy

    return {
        "teacher_from_layer_1": from_first.accuracy,
        "teacher_from_encoder": from_encoder.accuracy,
        "student": student,
        "supervised": supervised(few),
        "supervised_10_percent": supervised(more),
    }


claim: Final = Claim(
    "with 1 % of the labels of digits, fine-tuning from the projector's first layer is on "
    "average at least as accurate as from the encoder, and a student distilled from it without "
    "labels is within two points of it and above the same network trained on those labels",
    digits,
    trial,
    effects=(
        difference("teacher_from_layer_1", "teacher_from_encoder"),
        difference("student", "teacher_from_layer_1", above=-0.02),
        difference("student", "supervised"),
    ),
)
