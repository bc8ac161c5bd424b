"""Masked language modelling: predict the masked tokens of a text.

Devlin et al. 2019 (BERT), arXiv:1810.04805, section 3.1.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..distributed import step_generator, weight
from ..encoders.text import TextEncoder
from ..method import Method, Metrics
from ..objectives.masked import masked_tokens
from ..views.text import Tokens, mask_tokens


class MaskedLanguageBatch(NamedTuple):
    """Masked texts, their original token ids, and the positions to predict."""

    masked: Tokens
    ids: Tensor  # (n, length) int64
    hidden: Tensor  # (n, length) bool


class MaskedLanguage(Method[MaskedLanguageBatch]):
    """A text encoder, and a head of two layers from a token's state to the vocabulary.

    Logs `named`, the share of masked tokens that are predicted correctly.
    """

    encoder: TextEncoder

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        width = encoder.shape.transformer.width
        self.head = nn.Sequential(
            nn.Linear(width, width),
            nn.GELU(),
            nn.LayerNorm(width),
            nn.Linear(width, encoder.shape.vocabulary),
        )

    def loss(self, batch: MaskedLanguageBatch, step: int) -> tuple[Tensor, Metrics]:
        """Give the mean cross-entropy of the masked tokens."""
        logits = self.logits(batch.masked, batch.hidden)
        targets = batch.ids[batch.hidden]
        named = (logits.detach().argmax(-1) == targets).float().mean()
        return mean_cross_entropy(logits, targets), {"named": named}

    def logits(self, tokens: Tokens, at: Bool[Tensor, "n length"]) -> Float[Tensor, "m vocabulary"]:
        """Give the logits of the m tokens at the positions `at`, row by row.

        The head runs on these alone: a vocabulary is wide.
        """
        states = self.encoder.transformer(self.encoder.tokens(tokens.ids), tokens.mask.bool())
        logits: Tensor = self.head(states[at])
        return logits


def mean_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Give this process's part of the mean cross-entropy of (m,) targets over all processes."""
    every = torch.ones_like(targets, dtype=torch.bool)
    return masked_tokens(logits, targets, every) * weight(every.sum())


def mask_batches(
    seed: int, *, blank: int, vocabulary: int, rate: float
) -> Callable[[Tokens, int], MaskedLanguageBatch]:
    """Give what masks the tokens of a step, as `mask_tokens` does: 80 % blank, 10 % random."""

    def views(tokens: Tokens, step: int) -> MaskedLanguageBatch:
        draw = step_generator(seed, step)
        view = mask_tokens(tokens, draw, blank=blank, vocabulary=vocabulary, rate=rate)
        return MaskedLanguageBatch(view.data, tokens.ids, view.params["hidden"])

    return views
