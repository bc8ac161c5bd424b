"""EcoFormer on a trained text encoder: hash its attention, then distil it back to what it was.

Liu et al. 2022, arXiv:2209.09004. The softmax encoder is the teacher, so no label and no other
model is needed. Layers are chosen by the damage that binarizing each alone does, because this
attention is soft by design (with 16 bits the largest weight is 33 times the smallest) and hurts
sharp layers.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from attar.errors import InvalidInput

from ..data.text import Row, embed, pad
from ..distillation import Lesson
from ..encoders.text import TextEncoder
from ..hashing import HashReport, binarize
from ..loop import Training
from ..sampler import evenly
from . import distil
from .text_pairs import TextData

HASH_BATCH = 32  # texts that anchors and hash functions are learned from
MIN_COSINE = 0.9  # a layer that alone moves embeddings further than this keeps its softmax
RECOVERY = distil.Settings(steps=40, rate=5e-4, warmup=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The recipe's numbers; `layers` None chooses them by damage."""

    layers: tuple[int, ...] | None = None
    recovery: distil.Settings = RECOVERY


@dataclass(frozen=True, slots=True, kw_only=True)
class Binarized:
    """An encoder with hashed layers, not yet recovered, and how they were chosen and learned.

    `damage` is, for every layer, the mean cosine to the softmax encoder when it alone is hashed.
    """

    encoder: TextEncoder
    layers: tuple[int, ...]
    damage: Mapping[int, float]
    hashes: Mapping[int, HashReport]


def convert(encoder: TextEncoder, data: TextData, settings: Settings) -> Binarized:
    """Hash the attention of a copy of `encoder`, learned on bodies from all over the corpus.

    Raises InvalidInput when a named layer does not exist, or none is named and every layer's damage
    is beyond `MIN_COSINE`.
    """
    batch = evenly(data.pairs.second, HASH_BATCH)
    seed = settings.recovery.seed
    softmax = embed(encoder, batch)
    alone = {
        layer: _hashed(encoder, batch, (layer,), seed)
        for layer in range(len(encoder.transformer.blocks))
    }
    damage = {
        layer: float((softmax * embed(hashed, batch)).sum(axis=1).mean())
        for layer, (hashed, _) in alone.items()
    }
    layers = settings.layers
    if layers is None:
        layers = tuple(layer for layer, cosine in damage.items() if cosine >= MIN_COSINE)
        if not layers:
            raise InvalidInput(
                "binarizing any one layer moves embeddings to a mean cosine of at most "
                f"{max(damage.values()):.3f}, below {MIN_COSINE}; name layers to do it anyway"
            )
    one = alone.get(layers[0]) if len(layers) == 1 else None
    hashed, reports = one or _hashed(encoder, batch, layers, seed)
    return Binarized(encoder=hashed, layers=layers, damage=damage, hashes=reports)


def build(
    data: TextData, goals: distil.Targets, student: TextEncoder, settings: Settings
) -> Training[Lesson]:
    """Compose the distillation that recovers a converted encoder.

    `goals` are the softmax encoder's embeddings.
    """
    return distil.build(data, goals, student, settings.recovery)


def _hashed(
    encoder: TextEncoder, batch: Sequence[Row], layers: Sequence[int], seed: int
) -> tuple[TextEncoder, dict[int, HashReport]]:
    hashed = copy.deepcopy(encoder).eval()
    generator = torch.Generator().manual_seed(seed)
    return hashed, binarize(hashed, *pad(batch), layers=layers, generator=generator)
