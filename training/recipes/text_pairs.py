"""What the text recipes share: pairs of texts, a probe, and two views through one encoder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ..data.docstrings import Pair, Split
from ..data.text import Retrieval, TextPairs, tokenize
from ..encoders.text import TextEncoder, TextShape
from ..encoders.transformer import TransformerShape
from ..loop import Training
from ..optimisers import parameter_groups
from ..schedules import warmup_cosine
from ..twins import Inputs, Twins

MAX_LENGTH = 64  # tokens: a summary and the first sentences of a body
VOCABULARY = 30522  # BERT's word pieces, which all-MiniLM and many teachers share

STUDENT = TextShape(
    vocabulary=VOCABULARY,
    max_length=MAX_LENGTH,
    rank=128,
    transformer=TransformerShape(width=384, depth=2, heads=12, hidden=1024),
)
"""6.7 million parameters: two layers of all-MiniLM's width, a factorised table, a thinner middle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextData:
    """What a text recipe trains on, and the retrieval task that probes it."""

    pairs: TextPairs
    probe: Retrieval


def text_data(split: Split, tokenizer: bytes, *, max_length: int = MAX_LENGTH) -> TextData:
    """Tokenise a corpus: train on its training pairs, search all bodies for the held-out summaries."""
    summaries, bodies = _views(split.train, tokenizer, max_length)
    queries, answers = _views(split.held_out, tokenizer, max_length)
    return TextData(
        pairs=TextPairs(first=summaries, second=bodies),
        probe=Retrieval(
            queries=queries, documents=answers + bodies, relevant=np.arange(len(answers), dtype=np.int64)
        ),
    )


def _views(pairs: Sequence[Pair], tokenizer: bytes, max_length: int) -> tuple[tuple[np.ndarray, ...], ...]:
    return (
        tokenize([pair.summary for pair in pairs], tokenizer, max_length=max_length),
        tokenize([pair.body for pair in pairs], tokenizer, max_length=max_length),
    )


class TextSettings(Protocol):
    """What building a run of twins reads of a recipe's settings."""

    @property
    def shape(self) -> TextShape: ...
    @property
    def steps(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def rate(self) -> float: ...
    @property
    def warmup(self) -> int: ...
    @property
    def weight_decay(self) -> float: ...


def twins(
    data: TextData,
    settings: TextSettings,
    *,
    projector: Callable[[int], nn.Module],
    objective: Callable[[Tensor, Tensor], Tensor],
) -> Training[tuple[Inputs, Inputs]]:
    """Compose a run in which summary and body are the two views of one encoder, made from scratch."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(settings.seed)
        encoder = TextEncoder(settings.shape)
        method = Twins(encoder, projector(encoder.dim), objective)
    sampler = data.pairs.sampler(batch_size=settings.batch_size, seed=settings.seed)
    return Training(
        method=method,
        batches=lambda step: data.pairs.batch(sampler(step)),
        optimiser=torch.optim.AdamW(parameter_groups(method, weight_decay=settings.weight_decay)),
        rate=warmup_cosine(settings.rate, settings.warmup, settings.steps),
        steps=settings.steps,
        seed=settings.seed,
        probe=lambda _made: data.probe(encoder),
    )
