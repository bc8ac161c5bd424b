"""One style a batch helps to read digits of an unseen style."""

from dataclasses import replace
from typing import Final

import numpy as np

from ...claim import Claim, difference
from ...data.source import embed
from ...datasets.digits import Styled, styled_digits
from ...loop import fit
from ...probes.knn import knn_accuracy
from ...probes.linear import linear_accuracy
from ...recipes.image.batch_style_standardisation import SMALL, build


def trial(data: Styled, seed: int) -> dict[str, float]:
    """Pretrain on all styles but one; probe digits of that one, and which style the others have."""
    unseen = seed % len(data.styles)
    seen = data.without(unseen)
    figures: dict[str, float] = {}
    for name, standardise in (("simclr", False), ("styles", True)):
        training = build(seen.source, replace(SMALL, seed=seed, standardise=standardise))
        fit(replace(training, probe=None), accelerator="cpu", progress=False)
        encoder = training.method.encoder.eval()
        train, test = embed(encoder, seen.source.train), embed(encoder, data.test[unseen])
        half = np.arange(len(train)) % 2 == 0
        figures[f"{name}/digit"] = linear_accuracy(train, seen.labels, test, data.test_labels)
        figures[f"{name}/style"] = knn_accuracy(
            train[half], seen.styles[half], train[~half], seen.styles[~half]
        )
    return figures


claim: Final = Claim(
    "a linear probe that is trained on digits of two styles is on average more accurate on a "
    "third style than after SimCLR",
    styled_digits,
    trial,
    effects=(difference("styles/digit", "simclr/digit"),),
)
