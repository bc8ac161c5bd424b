"""EcoFormer on a trained encoder: hash its attention, then distil it back to what it was.

Liu et al. 2022, arXiv:2209.09004. The softmax encoder is the teacher, so no label and no other
model is needed. Layers are chosen by the damage that binarizing each alone does, because this
attention is soft by design (with 16 bits the largest weight is 33 times the smallest) and hurts
sharp layers.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attar.errors import InvalidInput

from ...data.text import pad
from ...encoders.text import TextEncoder
from ...hashing import Hashing, HashReport, binarize, transformer_of
from ...loop import Training
from ...methods.distillation import DistillationBatch
from ...sampler import evenly
from ...text_data import TextData
from ...views.text import Tokens
from . import distil

HASH_BATCH = 32  # texts that anchors and hash functions are learned from
MIN_COSINE = 0.9  # a layer that alone moves embeddings further than this keeps its softmax
RECOVERY = distil.Settings(steps=40, rate=5e-4, warmup=5)

Encoder = TypeVar("Encoder", bound=nn.Module)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The recipe's numbers; `layers` None chooses them by damage."""

    layers: tuple[int, ...] | None = None
    hashing: Hashing = field(default_factory=Hashing)
    recovery: distil.Settings = RECOVERY


@dataclass(frozen=True, slots=True, kw_only=True)
class Binarized(Generic[Encoder]):
    """An encoder with hashed layers, not yet recovered, and how they were chosen and learned.

    `damage` is, for every layer, the mean cosine to the softmax encoder when it alone is hashed; it
    is empty when the layers were named.
    """

    encoder: Encoder
    layers: tuple[int, ...]
    damage: Mapping[int, float]
    hashes: Mapping[int, HashReport]


def convert(encoder: Encoder, inputs: Sequence[Tensor], settings: Settings) -> Binarized[Encoder]:
    """Hash the attention of a copy of `encoder`, learned on one batch of what it is called with.

    `encoder` is any module whose `transformer` is the token transformer: of text, series or images.
    Raises InvalidInput as `binarize` does, and when no layer is named and every layer's damage is
    beyond `MIN_COSINE`.
    """
    seed = settings.recovery.seed

    def hashed(*layers: int) -> tuple[Encoder, dict[int, HashReport]]:
        made = copy.deepcopy(encoder).eval()
        generator = torch.Generator().manual_seed(seed)
        reports = binarize(
            made, inputs, layers=layers, hashing=settings.hashing, generator=generator
        )
        return made, reports

    if settings.layers is not None:
        made, reports = hashed(*settings.layers)
        return Binarized(encoder=made, layers=settings.layers, damage={}, hashes=reports)
    softmax = _embed(copy.deepcopy(encoder), inputs)
    alone = {layer: hashed(layer) for layer in range(len(transformer_of(encoder).blocks))}
    damage = {
        layer: float(F.cosine_similarity(softmax, _embed(made, inputs)).mean())
        for layer, (made, _) in alone.items()
    }
    layers = tuple(layer for layer, cosine in damage.items() if cosine >= MIN_COSINE)
    if not layers:
        raise InvalidInput(
            "binarizing any one layer moves embeddings to a mean cosine of at most "
            f"{max(damage.values()):.3f}, below {MIN_COSINE}; name layers to do it anyway"
        )
    made, reports = alone[layers[0]] if len(layers) == 1 else hashed(*layers)
    return Binarized(encoder=made, layers=layers, damage=damage, hashes=reports)


def sample(data: TextData) -> Tokens:
    """Give the texts that a text encoder's hashes are learned from: bodies from all over."""
    return pad(evenly(data.pairs.second, HASH_BATCH))


def build(
    data: TextData, goals: distil.Targets, student: TextEncoder, settings: Settings
) -> Training[DistillationBatch]:
    """Compose the distillation that recovers a converted text encoder.

    `goals` are the softmax encoder's embeddings.
    """
    return distil.build(data, goals, student, settings.recovery)


@torch.no_grad()
def _embed(encoder: nn.Module, inputs: Sequence[Tensor]) -> Tensor:
    device = next(encoder.parameters()).device
    embeddings: Tensor = encoder.eval()(*(tensor.to(device) for tensor in inputs))
    return embeddings
