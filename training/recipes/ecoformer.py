"""EcoFormer on a trained text encoder: hash its attention, then distil it back to what it was.

Liu et al. 2022, arXiv:2209.09004.  The softmax encoder is the teacher, so no label and no other model
is needed.  Layers are chosen by the damage that binarizing each alone does, because this attention is
soft by design (with 16 bits the largest weight is 33 times the smallest) and hurts sharp layers.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from attar.errors import InvalidInput

from ..data.text import Row, embed, pad
from ..encoders.text import TextEncoder
from ..hashing import HashReport, binarize
from ..loop import Training
from ..distillation import Lesson
from . import distil
from .text_pairs import TextData

HASH_BATCH = 32  # texts that anchors and hash functions are learned from
MIN_COSINE = 0.9  # a layer that alone moves embeddings further than this keeps its softmax


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The recipe's numbers; `layers` None chooses them by damage."""

    layers: tuple[int, ...] | None = None
    recovery: distil.Settings = distil.Settings(steps=40, rate=5e-4, warmup=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Binarized:
    """An encoder with hashed layers, not yet recovered, and how they were learned and chosen."""

    encoder: TextEncoder
    layers: tuple[int, ...]
    damage: Mapping[int, float]  # mean cosine to the softmax encoder when that layer alone is hashed
    hashes: Mapping[int, HashReport]


def convert(encoder: TextEncoder, data: TextData, settings: Settings) -> Binarized:
    """Hash the attention of a copy of `encoder`, learned on the first training texts.

    Raises InvalidInput when every layer's damage is beyond `MIN_COSINE`; name layers to do it anyway.
    """
    batch = data.pairs.second[:HASH_BATCH]
    damage = {
        layer: _cosine(encoder, _hashed(encoder, batch, (layer,), settings.recovery.seed)[0], batch)
        for layer in range(len(encoder.transformer.blocks))
    }
    layers = settings.layers
    if layers is None:
        layers = tuple(layer for layer, cosine in damage.items() if cosine >= MIN_COSINE)
    if not layers:
        raise InvalidInput(
            f"binarizing any one layer moves embeddings to a cosine of {max(damage.values()):.3f} or less "
            f"(below {MIN_COSINE}); name the layers to do it anyway"
        )
    hashed, reports = _hashed(encoder, batch, layers, settings.recovery.seed)
    return Binarized(encoder=hashed, layers=layers, damage=damage, hashes=reports)


def build(data: TextData, goals: distil.Targets, student: TextEncoder, settings: Settings) -> Training[Lesson]:
    """Compose the distillation that recovers a converted encoder; `goals` are the softmax encoder's."""
    return distil.build(data, goals, student, settings.recovery)


def _hashed(
    encoder: TextEncoder, batch: tuple[Row, ...], layers: tuple[int, ...], seed: int
) -> tuple[TextEncoder, dict[int, HashReport]]:
    hashed = copy.deepcopy(encoder).eval()
    generator = torch.Generator().manual_seed(seed)
    reports = binarize(hashed, *pad(batch), layers=layers, generator=generator)
    return hashed, reports


def _cosine(encoder: TextEncoder, other: TextEncoder, batch: tuple[Row, ...]) -> float:
    return float((embed(encoder, batch) * embed(other, batch)).sum(axis=1).mean())
