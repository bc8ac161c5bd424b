"""Random field augmentations: SimCLR on images bent by smooth fields, mildly or too strongly.

Mansfield et al. 2023, arXiv:2311.03629, with a small convolutional encoder.
"""

from dataclasses import dataclass, replace
from statistics import fmean

import torch
from torch import Tensor

from ...data.source import Source
from ...datasets.digits import digits
from ...loop import Training, fit
from ...methods.siamese import Inputs
from ...recipe import Claim, Figures, Recipe
from ...views.fields import random_fields
from ...views.view import View
from . import simclr
from .common import two_views

STRENGTHS = {"none": 0.0, "mild": 1.0, "strong": 6.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(simclr.Settings):
    """The recipe's numbers, beside SimCLR's; `strength` multiplies the deviations of all fields."""

    noise: float = 0.1  # of pixels, in every view
    strength: float = 1.0
    gamma: float = 4.0  # of the fields' spectrum |k|^-gamma
    displacement: float = 0.06  # of the image's side
    degrees: float = 10.0
    scale: float = 0.1


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


def trial(data: Source, seed: int) -> dict[str, float]:
    """Pretrain with fields of three strengths."""
    figures: dict[str, float] = {}
    for name, strength in STRENGTHS.items():
        settings = replace(Settings(), seed=seed, strength=strength)
        row = fit(build(data, settings), accelerator="cpu", progress=False).rows[-1]
        figures |= {f"{name}/scarce": row["scarce"], f"{name}/knn": row["knn"]}
    return figures


def _holds(figures: Figures) -> bool:
    none, mild, strong = (fmean(figures[f"{name}/scarce"]) for name in STRENGTHS)
    return mild > none and mild > strong


recipe = Recipe(
    paper="Mansfield et al. 2023, arXiv:2311.03629",
    family="contrast",
    modality="image",
    claim=Claim(
        "with five labels a class, 1-NN accuracy on held-out digits after mild fields is on "
        "average above that after none and after fields six times as strong",
        digits,
        trial,
        _holds,
    ),
    settings=Settings(),
    build=build,
    departures=(
        "8x8 grey digits, on which fields bend but do not recolour, for ImageNet",
        "noise is the only other change between two views",
    ),
)
