"""SiT on digits: a small vision transformer rebuilds corrupted images and knows them again.

Atito et al. 2021, arXiv:2104.03602.
"""

from dataclasses import dataclass, replace
from statistics import fmean

import torch
from torch import Tensor

from attar.errors import InvalidInput

from ...data.source import Source
from ...datasets.digits import digits
from ...distributed import step_generator
from ...encoders.encoder import TensorEncoder
from ...encoders.mlp import mlp
from ...encoders.vit import VitEncoder
from ...loop import Training, fit
from ...methods.group_masked import GroupMasked, GroupMaskedBatch
from ...recipe import Claim, Figures, Recipe
from ...schedules import cosine_ramp
from ...views.masks import corrupt
from .common import ImageSettings, image_run, image_view, side_of
from .encoders import EncoderName

PARTS = {"both": (5.0, 1.0), "rebuild": (5.0, 0.0), "contrast": (0.0, 1.0)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ImageSettings):
    """The recipe's numbers."""

    encoder: EncoderName = "vit"
    rate: float = 3e-3
    steps: int = 300
    hidden: int = 256  # width inside the projector
    projection: int = 64
    momentum: float = 0.98  # of the slow copy at the first step; 1 at the last
    temperature: float = 0.2
    rebuild: float = 5.0  # as the paper has it for small sets
    contrast: float = 1.0
    drop: float = 0.5  # share of an image that noise hides
    foreign: float = 0.3  # most of an image that another replaces


def build(data: Source, settings: Settings) -> Training[tuple[GroupMaskedBatch, GroupMaskedBatch]]:
    """Compose the run; raises InvalidInput for an encoder that has no patches."""
    distort = image_view(settings.views, side_of(data))

    def method(encoder: TensorEncoder) -> GroupMasked:
        if not isinstance(encoder, VitEncoder):
            raise InvalidInput(
                f"this recipe hides patches, so encoder must be vit or vit_small; "
                f"got {settings.encoder}"
            )
        return GroupMasked(
            encoder,
            mlp(settings.dim, settings.hidden, settings.projection),
            momentum=cosine_ramp(settings.momentum, 1.0, settings.steps),
            temperature=settings.temperature,
            rebuild=settings.rebuild,
            contrast=settings.contrast,
        )

    def view(images: Tensor, generator: torch.Generator) -> GroupMaskedBatch:
        clean = distort(images, generator).data
        cell = max(1, images.shape[-1] // 8)
        harmed = corrupt(clean, generator, cell=cell, drop=settings.drop, replace=settings.foreign)
        return GroupMaskedBatch(clean, harmed.data, harmed.params["hidden"])

    def views(images: Tensor, step: int) -> tuple[GroupMaskedBatch, GroupMaskedBatch]:
        generator = step_generator(settings.seed, step)
        return view(images, generator), view(images, generator)

    return image_run(data, settings, method, views)


def trial(data: Source, seed: int) -> dict[str, float]:
    """Pretrain with both parts of the loss, and with either alone."""
    figures: dict[str, float] = {}
    for name, (rebuild, contrast) in PARTS.items():
        settings = replace(Settings(), seed=seed, rebuild=rebuild, contrast=contrast)
        rows = fit(build(data, settings), accelerator="cpu", progress=False).rows
        figures[f"{name}/scarce"] = rows[-1]["scarce"]
        figures["untrained/scarce"] = next(row["scarce"] for row in rows if "scarce" in row)
    return figures


def _holds(figures: Figures) -> bool:
    both, rebuild, contrast = (fmean(figures[f"{name}/scarce"]) for name in PARTS)
    return both > max(rebuild, contrast, fmean(figures["untrained/scarce"]))


recipe = Recipe(
    paper="Atito et al. 2021, arXiv:2104.03602",
    family="align",
    modality="image",
    claim=Claim(
        "with five labels a class, 1-NN accuracy on held-out digits is on average higher after "
        "both parts of the loss than after either alone",
        digits,
        trial,
        _holds,
    ),
    settings=Settings(),
    build=build,
    departures=(
        "8x8 grey digits, sixteen patches and three layers, for photographs and ViT-S",
        "affine, erasing and noise views; AdamW at one weight decay, without clipping",
    ),
)
