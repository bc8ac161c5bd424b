"""Batch styles standardisation: contrast within one style, so that style does not tell apart.

Scalbert et al., ICLR 2024, arXiv:2303.06088, with a small convolutional encoder.
"""

from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from ...data.source import Source, embed
from ...datasets.digits import Styled, styled_digits
from ...loop import Training, fit
from ...methods.siamese import Inputs
from ...probes.knn import knn_accuracy
from ...probes.linear import linear_accuracy
from ...recipe import Claim, Figures, Recipe
from ...views.fourier import batch_style
from ...views.view import View
from . import simclr
from .common import image_view, side_of, two_views


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(simclr.Settings):
    """The recipe's numbers, beside SimCLR's."""

    standardise: bool = True  # without, this is SimCLR
    least: float = 0.02  # share of the spectrum whose amplitudes are shared
    most: float = 0.2


def build(data: Source, settings: Settings) -> Training[tuple[Inputs, Inputs]]:
    """Compose the run; either view of a batch has a style of its own."""
    distort = image_view(settings.views, side_of(data))

    def view(images: Tensor, generator: torch.Generator) -> View[Tensor]:
        if settings.standardise:
            area = settings.least, settings.most
            images = batch_style(images, generator, area=area).data
        return distort(images, generator)

    return two_views(data, settings, simclr.contrast(settings), view=view)


def trial(data: Styled, seed: int) -> dict[str, float]:
    """Pretrain on all styles but one; probe digits of that one, and which style the others have."""
    unseen = seed % len(data.styles)
    seen = data.without(unseen)
    figures: dict[str, float] = {}
    for name, standardise in (("simclr", False), ("styles", True)):
        training = build(seen.source, replace(Settings(), seed=seed, standardise=standardise))
        fit(replace(training, probe=None), accelerator="cpu", progress=False)
        encoder = training.method.encoder.eval()
        train, test = embed(encoder, seen.source.train), embed(encoder, data.test[unseen])
        half = np.arange(len(train)) % 2 == 0
        figures[f"{name}/digit"] = linear_accuracy(train, seen.labels, test, data.test_labels)
        figures[f"{name}/style"] = knn_accuracy(
            train[half], seen.styles[half], train[~half], seen.styles[~half]
        )
    return figures


def _holds(figures: Figures) -> bool:
    return fmean(figures["styles/digit"]) > fmean(figures["simclr/digit"])


recipe = Recipe(
    paper="Scalbert et al. 2024, arXiv:2303.06088",
    family="contrast",
    modality="image",
    claim=Claim(
        "a linear probe that learned digits of two styles reads those of a third more accurately "
        "on average than after SimCLR",
        styled_digits,
        trial,
        _holds,
    ),
    settings=Settings(),
    build=build,
    departures=(
        "16x16 digits painted in three synthetic styles, for photographs, sketches and paintings",
        "with SimCLR alone, and without colour changes common to a batch",
    ),
)
