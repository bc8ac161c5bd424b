"""Label augmentation names digits better than a plain classifier, and so does one pass."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final, cast

import numpy as np
import torch
from torch import Tensor

from ...claim import Claim, difference
from ...data.source import Source
from ...datasets.digits import digits
from ...loop import fit
from ...methods.label_augmentation import LabelAugmentation
from ...recipes.image.label_augmentation import SMALL, build
from ...views.puzzle import quarter_turns


def trial(data: Source, seed: int) -> dict[str, float]:
    """Give test accuracies of a plain classifier, of all forms together, and of one pass."""
    plain, turned = (_trained(data, seed, turns=turns) for turns in (False, True))
    return {
        "plain": _accuracy(plain.aggregated, data),
        "aggregated": _accuracy(
            lambda images: turned.aggregated(quarter_turns.all_classes(images).data), data
        ),
        "one_pass": _accuracy(turned.single, data),
    }


def _trained(data: Source, seed: int, *, turns: bool) -> LabelAugmentation:
    training = replace(build(data, replace(SMALL, seed=seed, turns=turns)), probe=None)
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


claim: Final = Claim(
    "with ten labels a class, predictions aggregated over the four rotations of a digit are "
    "on average more accurate than a plain classifier, and a classifier that is distilled "
    "from them and needs one pass is within a point of them",
    digits,
    trial,
    effects=(
        difference("aggregated", "plain"),
        difference("one_pass", "aggregated", above=-0.01),
    ),
)
