"""Tiny text encoders and rows of token ids: real parts, in milliseconds."""

from collections.abc import Sequence
from functools import partial
from typing import Literal

import numpy as np
import torch

from attar.training.data.text import Row, tokenize
from attar.training.encoders.attention import (
    BinarizedAttention,
    LinearAttention,
    SoftmaxAttention,
)
from attar.training.encoders.text import TextConfig, TextEncoder
from attar.training.encoders.transformer import Attention, TransformerConfig

from .bundles import VOCABULARY, WORDS, tokenizer_json

ATTENTIONS: dict[str, Attention] = {
    "softmax": SoftmaxAttention,
    "rotary": partial(SoftmaxAttention, rotary=True),
    "linear": LinearAttention,
    "binarized": partial(BinarizedAttention, anchors=8),
    "static": partial(BinarizedAttention, anchors=8, static_sigma=True),
    "own": partial(BinarizedAttention, anchors=8, bias="own"),
}


def tiny_shape(
    *,
    width: int = 16,
    depth: int = 2,
    heads: int = 4,
    hidden: int = 32,
    norm: Literal["pre", "post"] = "post",
    max_length: int = 16,
    rank: int | None = None,
    dim: int | None = None,
) -> TextConfig:
    """Give a shape for the vocabulary of `tokenizer_json`."""
    return TextConfig(
        vocabulary=len(VOCABULARY),
        max_length=max_length,
        rank=rank,
        dim=dim,
        transformer=TransformerConfig(
            width=width, depth=depth, heads=heads, hidden=hidden, norm=norm
        ),
    )


def tiny_encoder(
    shape: TextConfig | None = None, *, attention: Attention = SoftmaxAttention, seed: int = 0
) -> TextEncoder:
    """Make a seeded encoder in evaluation mode, its biases and gains as random as its matrices."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = TextEncoder(shape or tiny_shape(), attention=attention)
        for parameter in encoder.parameters():
            if parameter.ndim == 1:
                torch.nn.init.normal_(parameter, mean=parameter.mean().item(), std=0.2)
    return encoder.eval()


def random_texts(count: int, *, length: tuple[int, int] = (1, 12), seed: int = 0) -> list[str]:
    """Make texts of a number of known words between those two, inclusive."""
    draw = np.random.default_rng(seed)
    lengths = draw.integers(length[0], length[1] + 1, size=count)
    return [" ".join(draw.choice(WORDS, size=length)) for length in lengths]


def random_rows(count: int, *, length: tuple[int, int] = (1, 12), seed: int = 0) -> tuple[Row, ...]:
    """Tokenise `random_texts`, at most 16 tokens each."""
    return rows_of(random_texts(count, length=length, seed=seed))


def rows_of(texts: Sequence[str]) -> tuple[Row, ...]:
    """Tokenise texts, at most 16 tokens each."""
    return tokenize(texts, tokenizer_json(), max_length=16)
