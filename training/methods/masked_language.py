"""Masked language modelling: predict the masked tokens of a text.

Devlin et al. 2019 (BERT), arXiv:1810.04805, section 3.1.
"""

from collections.abc import Callable
from typing import NamedTuple

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
        ids, mask = batch.masked
        logits = self.head(self.encoder.transformer(self.encoder.tokens(ids), mask.bool()))
        correct = logits.detach().argmax(-1) == batch.ids
        named = correct[batch.hidden].float().mean()
        loss = masked_tokens(logits, batch.ids, batch.hidden) * weight(batch.hidden.sum())
        return loss, {"named": named}


def mask_batches(
    seed: int, *, blank: int, vocabulary: int, rate: float
) -> Callable[[Tokens, int], MaskedLanguageBatch]:
    """Give what masks the tokens of a step, as `mask_tokens` does: 80 % blank, 10 % random."""

    def views(tokens: Tokens, step: int) -> MaskedLanguageBatch:
        draw = step_generator(seed, step)
        view = mask_tokens(tokens, draw, blank=blank, vocabulary=vocabulary, rate=rate)
        return MaskedLanguageBatch(view.data, tokens.ids, view.params["hidden"])

    return views
