"""SSLD's student keeps its teacher's accuracy, on digits."""

from dataclasses import replace
from typing import Final, cast

from ...claim import Claim, Effect, difference
from ...data.source import Source
from ...datasets.digits import digits
from ...loop import fit
from ...methods.siamese import Siamese
from ...probes.finetune import accuracy, labels_to_learn
from ...recipes.image.ssld import SMALL, build, distil
from ...recipes.image.students import fine_tuned
from ...samplers.labels import label_lists


def trial(data: Source, seed: int) -> dict[str, float]:
    """Give test accuracies of the teacher, and of students taught in three ways."""
    default = replace(SMALL, seed=seed)
    rows = label_lists(labels_to_learn(data), default.share, seed).rows
    pretraining = replace(build(data, default), probe=None)
    fit(pretraining, accelerator="cpu", progress=False)
    teacher = fine_tuned(data, cast("Siamese", pretraining.method), rows, default)
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


claim: Final = Claim(
    "a student with a sixteenth of the teacher's convolutions, distilled without labels by "
    "Jensen-Shannon, has on average at least 97 % of the teacher's accuracy and at most half "
    "a point less than a student distilled by cross-entropy",
    digits,
    trial,
    effects=(
        difference("jensen_shannon", "cross_entropy", above=-0.005),
        Effect(
            "jensen_shannon - 0.97 teacher", lambda f: f["jensen_shannon"] - 0.97 * f["teacher"]
        ),
    ),
)
