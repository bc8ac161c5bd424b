"""A static encoder starts from its teacher: each token embedded alone, PCA, weights by frequency.

The table of model2vec (Tulkens and van Dongen 2024, github.com/MinishLab/model2vec): no text is
needed for the rows. Their weights are those of Arora et al., ICLR 2017
(openreview.net/forum?id=SyK00v5xx), with the frequencies of the corpus, where model2vec has none
and takes Zipf's law for the order of the vocabulary.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from tokenizers import Tokenizer

from attar.errors import InvalidInput
from attar.token_ids import special_tokens_around

from .data.text import Row, special_tokens
from .encoders.static import MAX_LENGTH, START_STD, StaticConfig, StaticEncoder
from .encoders.text import TextNetwork
from .probes.text_retrieval import embed

SIF = 1e-3  # the a of a / (a + frequency), as in the paper


def static_shape(tokenizer: bytes, *, dim: int, max_length: int = MAX_LENGTH) -> StaticConfig:
    """Give the sizes of a static encoder of a tokenizer's vocabulary."""
    ids = Tokenizer.from_str(tokenizer.decode()).get_vocab(with_added_tokens=True).values()
    return StaticConfig(
        vocabulary=1 + max(ids),
        dim=dim,
        max_length=max_length,
        special=special_tokens(tokenizer),
    )


def static_from_teacher(
    teacher: TextNetwork, tokenizer: bytes, corpus: Sequence[Row], *, shape: StaticConfig
) -> StaticEncoder:
    """Give the static encoder of a teacher, of a `static_shape` of the teacher's tokenizer.

    Row t is the teacher's embedding of the text that is token t alone, projected onto the first
    principal components of all tokens and multiplied by a / (a + p), with p the share of t among
    the tokens of `corpus`, one added to each count. Special tokens have rows of zeros.

    Raises InvalidInput where the table would be wider than the teacher.
    """
    if shape.dim > teacher.dim:
        raise InvalidInput(
            f"a static encoder is at most as wide as its teacher, {teacher.dim}; got {shape.dim}"
        )
    front, back = special_tokens_around(Tokenizer.from_str(tokenizer.decode()))
    alone = [np.array([*front, token, *back], np.int64) for token in range(shape.vocabulary)]
    counted = np.ones(shape.vocabulary, bool)
    counted[list(shape.special)] = False
    rows = _principal(embed(teacher, alone, progress="embedding"), counted, shape.dim)
    rows *= (_sif(corpus, counted) * counted)[:, None]
    rows *= START_STD / np.sqrt(np.square(rows[counted]).mean())
    encoder = StaticEncoder(shape)
    with torch.no_grad():
        encoder.table.weight.copy_(torch.from_numpy(rows))
    return encoder.eval()


def _principal(
    rows: Float[np.ndarray, "vocabulary width"], counted: NDArray[np.bool_], dim: int
) -> Float[np.ndarray, "vocabulary dim"]:
    """Centre rows and project them onto the principal components of those that are counted."""
    centred = rows.astype(np.float64) - rows[counted].mean(axis=0, dtype=np.float64)
    _, directions = np.linalg.eigh(centred[counted].T @ centred[counted])  # rising
    projected: NDArray[np.float64] = centred @ directions[:, ::-1][:, :dim]
    return projected


def _sif(corpus: Sequence[Row], counted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Give each token's weight, a / (a + p), by its share p of a corpus."""
    ids = np.concatenate([np.zeros(0, np.int64), *corpus])
    counts = np.where(counted, np.bincount(ids, minlength=len(counted)) + 1.0, 0.0)
    weights: NDArray[np.float64] = SIF / (SIF + counts / counts.sum())
    return weights
