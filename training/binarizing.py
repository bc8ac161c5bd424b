"""Binarizing: a trained encoder's attention is hashed (EcoFormer), then distilled back.

Liu et al. 2022, arXiv:2209.09004. The softmax encoder is the teacher, so no label and no other
model is needed.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

from torch import Tensor

from .data.text import pad
from .encoders.text import TextEncoder
from .hashed_layers import Binarized, Encoder, hash_layers
from .hashing import Hashing, refuse_few_tokens
from .loop import Training, fit
from .methods.distillation import DistillationBatch
from .precision import best_precision
from .probes.text_retrieval import Retrieval
from .recipes.text import distil
from .resizing import resized
from .sampler import evenly
from .text_data import TextData
from .views.text import Tokens

HASH_BATCH = 32  # texts that anchors and hash functions are learned from
RECOVERY: Final = distil.Settings(steps=40, rate=5e-4, warmup=5, contrast=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """How attention is hashed and distilled back; `layers` None chooses them by damage."""

    layers: tuple[int, ...] | None = None
    hashing: Hashing = field(default_factory=Hashing)
    recovery: distil.Settings = RECOVERY


def convert(
    encoder: Encoder, inputs: Sequence[Tensor], conversion: Conversion
) -> Binarized[Encoder]:
    """Hash the attention of a copy of `encoder`; see `hash_layers`, which names the errors too.

    `inputs` are what the encoder is called with, one batch.
    """
    return hash_layers(
        encoder,
        inputs,
        layers=conversion.layers,
        hashing=conversion.hashing,
        seed=conversion.recovery.seed,
    )


def sample(texts: TextData, conversion: Conversion) -> Tokens:
    """Give the texts that a text encoder's hashes are learned from: bodies from all over.

    Raises InvalidInput where they have fewer tokens than there are anchors to draw.
    """
    tokens = pad(evenly(texts.pairs.second, HASH_BATCH))
    refuse_few_tokens(int(tokens.mask.sum()), anchors=conversion.hashing.anchors)
    return tokens


def recover(
    texts: TextData, teacher: TextEncoder, student: TextEncoder, conversion: Conversion
) -> Training[DistillationBatch]:
    """Compose the distillation that recovers a converted text encoder from what it was."""
    recovery, items = conversion.recovery, len(texts.pairs.first)
    settings = resized(recovery, steps=recovery.steps, seed=recovery.seed, items=items)
    return distil.build(texts, distil.targets(teacher, texts), student, settings)


def recover_binarized(
    encoder: TextEncoder, texts: TextData, exam: Retrieval, conversion: Conversion
) -> tuple[TextEncoder, dict[str, object]]:
    """Binarize an encoder's attention and distil it back; give it with notes for the report.

    `exam` is what the notes say of it before distillation; raises InvalidInput as `convert` does.
    """
    converted = convert(encoder, sample(texts, conversion), conversion)
    before = exam(converted.encoder)
    fit(recover(texts, encoder, converted.encoder, conversion), precision=best_precision())
    converted.encoder.eval()
    return converted.encoder, {
        "layers": list(converted.layers),
        "hashing": asdict(conversion.hashing),
        "damage": {str(layer): cosine for layer, cosine in converted.damage.items()},
        "before_distillation": before,
        "steps": conversion.recovery.steps,
    }
