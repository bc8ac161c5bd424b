"""Binarizing: a trained encoder's attention is hashed (EcoFormer), then distilled back."""

from dataclasses import asdict, replace

from .encoders.text import TextEncoder
from .loop import fit
from .precision import best_precision
from .probes.text_retrieval import Retrieval
from .recipes.text import distil, ecoformer
from .resizing import resized
from .text_data import TextData


def recover_binarized(
    encoder: TextEncoder, texts: TextData, exam: Retrieval, settings: ecoformer.Settings
) -> tuple[TextEncoder, dict[str, object]]:
    """Binarize an encoder's attention and distil it back; give it with notes for the report.

    `exam` is what the notes say of it before distillation; raises InvalidInput as `convert` does.
    """
    items = len(texts.pairs.first)
    recovery = settings.recovery
    settings = replace(
        settings,
        recovery=resized(recovery, steps=recovery.steps, seed=recovery.seed, items=items),
    )
    converted = ecoformer.convert(encoder, ecoformer.sample(texts), settings)
    before = exam(converted.encoder)
    targets = distil.targets(encoder, texts)
    fit(ecoformer.build(texts, targets, converted.encoder, settings), precision=best_precision())
    converted.encoder.eval()
    return converted.encoder, {
        "layers": list(converted.layers),
        "hashing": asdict(settings.hashing),
        "damage": {str(layer): cosine for layer, cosine in converted.damage.items()},
        "before_distillation": before,
        "steps": settings.recovery.steps,
    }
