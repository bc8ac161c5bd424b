"""Batch styles standardisation: contrast within one style, so that style does not tell apart.

Scalbert et al., ICLR 2024, arXiv:2303.06088.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from ...data.source import Source
from ...loop import Training
from ...methods.siamese import Inputs
from ...recipe import Recipe
from ...views.fourier import batch_style
from ...views.view import View
from . import simclr
from .common import two_views
from .views import view_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(simclr.Settings):
    """The recipe's numbers, in addition to SimCLR's."""

    standardise: bool = True  # without, this is SimCLR
    least: float = 0.02  # share of the spectrum whose amplitudes are shared
    most: float = 0.2


SMALL: Final = Settings()
PAPER: Final = Settings(views="natural")  # all other numbers are not given for sure


def build(data: Source, settings: Settings) -> Training[tuple[Inputs, Inputs]]:
    """Compose the run; either view of a batch has a style of its own."""
    distort = view_of(data, settings)

    def view(images: Tensor, generator: torch.Generator) -> View[Tensor]:
        if settings.standardise:
            area = settings.least, settings.most
            images = batch_style(images, generator, area=area).data
        return distort(images, generator)

    return two_views(data, settings, simclr.contrast(settings), view=view)


recipe = Recipe(
    paper="Scalbert et al. 2024, arXiv:2303.06088",
    family="contrast",
    modality="image",
    settings=SMALL,
    published=PAPER,
    build=build,
    differences=(
        "digits painted in synthetic styles instead of photographs, sketches and paintings",
        "with SimCLR alone, and without colour changes common to a batch",
    ),
)
