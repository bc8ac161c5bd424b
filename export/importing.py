"""A sentence-transformers folder becomes a bundle, held to the torch encoder at every length."""

from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from attar.training.encoders import huggingface

from .bundling import Exported, refuse_taken
from .text import export_text

PARITY_TEXTS = 64


def import_folder(
    folder: Path, path: Path, *, name: str | None = None, overwrite: bool = False
) -> Exported:
    """Write the encoder in `folder` to the bundle `path`, as the variant fp32.

    Parity is checked on texts made of the tokenizer's own words, from empty to longer than the
    encoder takes. Raises InvalidInput that names what is missing or not supported, before anything
    is written, and AlreadyExists when `path` is taken and `overwrite` is false.
    """
    refuse_taken(path, overwrite=overwrite)
    model = huggingface.read(folder)
    return export_text(
        path,
        model,
        name=name or path.name.removesuffix(".attar"),
        texts=words_of_every_length(model.tokenizer, longest=model.encoder.max_length + 8),
        probe=None,
        metric=None,
        variants=(),
        overwrite=overwrite,
    )


def words_of_every_length(tokenizer: bytes, *, longest: int, seed: int = 0) -> list[str]:
    """Make texts of 0 to about `longest` tokens from the vocabulary, always the same."""
    vocabulary = Tokenizer.from_str(tokenizer.decode()).get_vocab()
    words = sorted(word for word in vocabulary if word.isalnum())
    draw = np.random.default_rng(seed)
    lengths = np.linspace(0, longest, PARITY_TEXTS).round().astype(int)
    return [
        " ".join(words[i] for i in draw.integers(len(words), size=length)) for length in lengths
    ]
