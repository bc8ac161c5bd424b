"""Choose the layers of an encoder whose attention is hashed, and hash them.

Layers are chosen by the damage that binarizing each alone does, because this attention is soft by
design (with 16 bits the largest weight is 33 times the smallest) and hurts sharp layers.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attar.errors import InvalidInput

from .hashing import Hashing, HashReport, binarize, transformer_of

MIN_COSINE = 0.9  # a layer that alone moves embeddings further than this keeps its softmax

Encoder = TypeVar("Encoder", bound=nn.Module)


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


def hash_layers(
    encoder: Encoder,
    inputs: Sequence[Tensor],
    *,
    layers: tuple[int, ...] | None,
    hashing: Hashing,
    seed: int,
) -> Binarized[Encoder]:
    """Hash the attention of a copy of `encoder`, learned on one batch of what it is called with.

    `encoder` is any module whose `transformer` is the token transformer: of text, series or images.
    `layers` None takes those whose damage is at least `MIN_COSINE`. `seed` is of the anchors and
    the start of the hash functions.

    Raises InvalidInput as `binarize` does, and when no layer is named and every layer's damage is
    beyond `MIN_COSINE`.
    """

    def hashed(*chosen: int) -> tuple[Encoder, dict[int, HashReport]]:
        binarized = copy.deepcopy(encoder).eval()
        generator = torch.Generator().manual_seed(seed)
        reports = binarize(binarized, inputs, layers=chosen, hashing=hashing, generator=generator)
        return binarized, reports

    if layers is not None:
        hashed_encoder, reports = hashed(*layers)
        return Binarized(encoder=hashed_encoder, layers=layers, damage={}, hashes=reports)
    softmax = _embed(copy.deepcopy(encoder), inputs)
    alone = {layer: hashed(layer) for layer in range(len(transformer_of(encoder).blocks))}
    damage = {
        layer: float(F.cosine_similarity(softmax, _embed(alone_hashed, inputs)).mean())
        for layer, (alone_hashed, _) in alone.items()
    }
    layers = tuple(layer for layer, cosine in damage.items() if cosine >= MIN_COSINE)
    if not layers:
        raise InvalidInput(
            "binarizing any one layer moves embeddings to a mean cosine of at most "
            f"{max(damage.values()):.3f}, below {MIN_COSINE}; name layers to do it anyway"
        )
    hashed_encoder, reports = alone[layers[0]] if len(layers) == 1 else hashed(*layers)
    return Binarized(encoder=hashed_encoder, layers=layers, damage=damage, hashes=reports)


@torch.no_grad()
def _embed(encoder: nn.Module, inputs: Sequence[Tensor]) -> Tensor:
    device = next(encoder.parameters()).device
    embeddings: Tensor = encoder.eval()(*(tensor.to(device) for tensor in inputs))
    return embeddings
