"""Random field augmentations: SimCLR on images bent by smooth fields, mildly or too strongly.

Mansfield et al. 2023, arXiv:2311.03629.
"""

from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from ...data.source import Source
from ...loop import Training
from ...methods.siamese import Inputs
from ...recipe import Recipe
from ...views.fields import random_fields
from ...views.view import View
from . import simclr
from .common import two_views


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(simclr.Settings):
    """The recipe's numbers, in addition to SimCLR's."""

    noise: float = 0.1  # of pixels, in every view
    strength: float = 1.0  # multiplies the deviations of all fields
    gamma: float = 4.0  # of the fields' spectrum |k|^-gamma
    displacement: float = 0.06  # of the image's side
    degrees: float = 10.0
    scale: float = 0.1


SMALL: Final = Settings()
PAPER: Final = Settings()  # its numbers are not given for sure


def build(data: Source, settings: Settings) -> Training[tuple[Inputs, Inputs]]:
    """Compose the run."""

    def view(images: Tensor, generator: torch.Generator) -> View[Tensor]:
        bent = random_fields(
            images,
            generator,
            gamma=settings.gamma,
            displacement=settings.strength * settings.displacement,
            degrees=settings.strength * settings.degrees,
            scale=settings.strength * settings.scale,
        )
        noise = torch.randn(images.shape, generator=generator).to(images.device)
        return replace(bent, data=bent.data + settings.noise * noise)

    return two_views(data, settings, simclr.contrast(settings), view=view)


recipe = Recipe(
    paper="Mansfield et al. 2023, arXiv:2311.03629",
    family="contrast",
    modality="image",
    settings=SMALL,
    published=PAPER,
    build=build,
    differences=(
        "small grey digits instead of ImageNet: fields bend them and do not recolour",
        "noise as the only other difference of views instead of crops, flips and colour changes",
    ),
)
