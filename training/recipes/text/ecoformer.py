"""EcoFormer: attention at linear cost, by binary codes that are learned from trained attention.

Liu et al. 2022, arXiv:2209.09004.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final, cast

from ...binarizing import Conversion, convert, recover, sample
from ...encoders.text import TextEncoder
from ...loop import Training
from ...methods.siamese import TwoViews
from ...recipe import Recipe, Stage
from ...text_data import TextData
from . import simclr


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(simclr.Settings):
    """The recipe's numbers: those of SimCLR, which trains softmax attention, and the conversion."""

    conversion: Conversion = field(default_factory=Conversion)


SMALL: Final = Settings()
PAPER: Final = Settings()  # bits and anchors: the official code; others are of images


def build(data: TextData, settings: Settings) -> Training[TwoViews]:
    """Compose the first run, which trains the encoder with softmax attention."""
    return simclr.build(data, settings)


def stages(data: TextData, settings: Settings) -> Iterator[Stage]:
    """Give that run, and the distillation of the hashed encoder from it.

    Raises InvalidInput before the first run for too few tokens, and after it where no layer can be
    hashed (see `hash_layers`).
    """
    recovery = replace(settings.conversion.recovery, seed=settings.seed)
    conversion = replace(settings.conversion, recovery=recovery)
    tokens = sample(data, conversion)
    yield Stage("softmax", first := build(data, settings))
    softmax = cast("TextEncoder", first.method.encoder)
    hashed = convert(softmax, tokens, conversion).encoder
    yield Stage("recover", recover(data, softmax, hashed, conversion))


recipe = Recipe(
    paper="Liu et al. 2022, arXiv:2209.09004",
    family="align",
    modality="text",
    settings=SMALL,
    published=PAPER,
    build=build,
    stages=stages,
    differences=(
        "a small text encoder instead of vision transformers on ImageNet and long texts",
        "distillation from its own softmax attention instead of training on labels",
        "hash functions are learned once, from one batch, instead of again every few epochs",
        "layers whose codes change the embeddings too much keep softmax",
    ),
)
