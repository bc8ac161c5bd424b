"""Random field augmentations: SimCLR on images bent by smooth fields, mildly or too strongly.

Mansfield et al. 2023, arXiv:2311.03629, with a small convolutional encoder.
"""

from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean

import torch
from torch import Tensor

from ...data.images import digits
from ...data.source import Source
from ...encoders.mlp import mlp
from ...loop import Training, fit
from ...methods.twins import Inputs, Twins
from ...objectives.nt_xent import nt_xent
from ...recipe import Claim, Figures, Recipe
from ...views.fields import random_fields
from .run import ImageSettings, image_run, seeded

STRENGTHS = {"none": 0.0, "mild": 1.0, "strong": 6.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ImageSettings):
    """The recipe's numbers; `strength` multiplies the deviations of all fields."""

    hidden: int = 256  # width inside the projector
    projection: int = 64
    temperature: float = 0.2
    noise: float = 0.1  # of pixels, in every view
    strength: float = 1.0
    gamma: float = 4.0  # of the fields' spectrum |k|^-gamma
    displacement: float = 0.06  # of the image's side
    degrees: float = 10.0
    scale: float = 0.1


def build(data: Source, settings: Settings) -> Training[tuple[Inputs, Inputs]]:
    """Compose the run."""

    def view(images: Tensor, generator: torch.Generator) -> Inputs:
        bent = random_fields(
            images,
            generator,
            gamma=settings.gamma,
            displacement=settings.strength * settings.displacement,
            degrees=settings.strength * settings.degrees,
            scale=settings.strength * settings.scale,
        ).data
        noise = torch.randn(bent.shape, generator=generator).to(bent.device)
        return (bent + settings.noise * noise,)

    def views(images: Tensor, step: int) -> tuple[Inputs, Inputs]:
        generator = seeded(settings, step)
        return view(images, generator), view(images, generator)

    return image_run(
        data,
        settings,
        lambda encoder: Twins(
            encoder,
            mlp(settings.dim, settings.hidden, settings.projection),
            partial(nt_xent, temperature=settings.temperature),
        ),
        views,
    )


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
