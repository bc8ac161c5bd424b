"""A Hugging Face folder becomes a bundle, held to the torch encoder at many lengths."""

from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from attar.errors import InvalidInput
from attar.training.encoders import huggingface
from attar.training.encoders.folder import Declared

from .bundling import Exported, refuse_taken
from .text import export_text

PARITY_TEXTS = 64
PARITY_TOKENS = 512  # a batch of 32 texts of 8,192 tokens would need 100 GB of attention


def import_folder(
    folder: Path,
    path: Path,
    *,
    name: str | None = None,
    declared: Declared = huggingface.SILENT,
    overwrite: bool = False,
) -> Exported:
    """Write the encoder in `folder` to the bundle `path`, as the variant fp32.

    `declared` is what the folder does not say of itself. Parity is checked on texts made of the
    tokenizer's own words, from empty to longer than the encoder takes, or than `PARITY_TOKENS`.
    Raises InvalidInput that names what is missing or not supported, and MissingExtra when the model
    needs `transformers`, before anything is written; AlreadyExists when `path` is taken and
    `overwrite` is false.
    """
    refuse_taken(path, overwrite=overwrite)
    model = huggingface.read(folder, declared)
    longest = min(model.encoder.max_length, PARITY_TOKENS) + 8
    return export_text(
        path,
        model,
        name=name or path.name.removesuffix(".attar"),
        texts=words_of_every_length(model.tokenizer, longest=longest),
        probe=None,
        metric=None,
        variants=(),
        overwrite=overwrite,
    )


def words_of_every_length(tokenizer: bytes, *, longest: int, seed: int = 0) -> list[str]:
    """Make texts of 0 to about `longest` tokens from the vocabulary, always the same.

    A tokenizer that adds no special tokens has none for an empty text, so the least is one word.
    """
    vocabulary = Tokenizer.from_str(tokenizer.decode())
    words = sorted(word for word in vocabulary.get_vocab() if word.isalnum())
    if not words:
        raise InvalidInput("the tokenizer has no token of letters and digits to make texts of")
    least = 0 if vocabulary.num_special_tokens_to_add(is_pair=False) else 1
    draw = np.random.default_rng(seed)
    lengths = np.linspace(least, longest, PARITY_TEXTS).round().astype(int)
    return [
        " ".join(words[i] for i in draw.integers(len(words), size=length)) for length in lengths
    ]
