"""EcoFormer on a trained encoder: hash its attention, then distil it back to what it was.

Liu et al. 2022, arXiv:2209.09004. The softmax encoder is the teacher, so no label and no other
model is needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from ...data.text import pad
from ...encoders.text import TextEncoder
from ...hashed_layers import Binarized, Encoder, hash_layers
from ...hashing import Hashing
from ...loop import Training
from ...methods.distillation import DistillationBatch
from ...sampler import evenly
from ...text_data import TextData
from ...views.text import Tokens
from . import distil

HASH_BATCH = 32  # texts that anchors and hash functions are learned from
RECOVERY = distil.Settings(steps=40, rate=5e-4, warmup=5, contrast=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The recipe's numbers; `layers` None chooses them by damage."""

    layers: tuple[int, ...] | None = None
    hashing: Hashing = field(default_factory=Hashing)
    recovery: distil.Settings = RECOVERY


def convert(encoder: Encoder, inputs: Sequence[Tensor], settings: Settings) -> Binarized[Encoder]:
    """Hash the attention of a copy of `encoder`; see `hash_layers`, which names the errors too.

    `inputs` are what the encoder is called with, one batch.
    """
    return hash_layers(
        encoder,
        inputs,
        layers=settings.layers,
        hashing=settings.hashing,
        seed=settings.recovery.seed,
    )


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
