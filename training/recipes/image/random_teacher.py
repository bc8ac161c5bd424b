"""A random teacher on digits: distil a net that never learned anything, and probe better than it.

Sarnthein et al., ICML 2023, arXiv:2302.12091, with a small convolutional encoder.
"""

from dataclasses import dataclass, replace
from statistics import fmean

import torch
from torch import Tensor

from ...data.source import Source
from ...datasets.digits import digits
from ...distributed import step_generator
from ...encoders.prototype_head import PrototypeHead
from ...loop import Training, fit
from ...methods.random_teacher import RandomTeacher
from ...methods.siamese import Inputs
from ...recipe import Claim, Figures, Recipe
from .common import ImageSettings, image_run


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ImageSettings):
    """The recipe's numbers."""

    hidden: int = 256  # width inside the head
    bottleneck: int = 64
    outputs: int = 1024  # of the head, whose softmax is matched
    distance: float = 0.0  # of the student's start: 0 is the teacher, 1 another random net
    noise: bool = False  # learn from noise in the images' place


def build(data: Source, settings: Settings) -> Training[tuple[Inputs]]:
    """Compose the run; images are not changed."""

    def views(images: Tensor, step: int) -> tuple[Inputs]:
        if settings.noise:
            images = torch.rand(images.shape, generator=step_generator(settings.seed, step)).to(
                images.device
            )
        return ((images,),)

    return image_run(
        data,
        settings,
        lambda encoder: RandomTeacher(
            encoder,
            PrototypeHead(
                settings.dim,
                hidden=settings.hidden,
                bottleneck=settings.bottleneck,
                outputs=settings.outputs,
            ),
            distance=settings.distance,
            seed=settings.seed + 1,
        ),
        views,
    )


def trial(data: Source, seed: int) -> dict[str, float]:
    """Train from the teacher on digits, from it on noise, and from far away on digits."""
    default = replace(Settings(), seed=seed)
    runs = {
        "near": default,
        "noise": replace(default, noise=True),
        "far": replace(default, distance=1.0),
    }
    figures: dict[str, float] = {}
    for name, settings in runs.items():
        rows = fit(build(data, settings), accelerator="cpu", progress=False).rows
        before, after = (row["scarce"] for row in rows if "scarce" in row)
        figures |= {f"{name}/before": before, f"{name}/after": after}
    return figures


def _holds(figures: Figures) -> bool:
    near, noise, far = (
        fmean(figures[f"{name}/after"]) - fmean(figures[f"{name}/before"])
        for name in ("near", "noise", "far")
    )
    return near >= 0.05 and noise < near / 2 and far < near


recipe = Recipe(
    paper="Sarnthein et al. 2023, arXiv:2302.12091",
    family="distribute",
    modality="image",
    claim=Claim(
        "a student that begins as the random teacher gains at least five points of 1-NN accuracy "
        "on held-out digits from five labels a class, less than half of that from noise, and less "
        "when it begins far away",
        digits,
        trial,
        _holds,
    ),
    settings=Settings(),
    build=build,
    departures=(
        "8x8 grey digits and a small convolutional encoder, for CIFAR and ResNet-18",
        "a head of 1,024 outputs for 65,536; AdamW at batch 128",
    ),
)
