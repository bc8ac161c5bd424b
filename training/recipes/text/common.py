"""What the text recipes share: pairs of texts, a probe, and two views through one encoder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ...data.pairs import Pair, Split, split
from ...data.text import Row, TextPairs, tokenize
from ...datasets import docstrings
from ...distributed import shard
from ...encoders.text import TextConfig, TextEncoder
from ...encoders.transformer import TransformerConfig
from ...loop import Training, fit
from ...methods.siamese import Inputs, Siamese
from ...optimisers import parameter_groups
from ...probes.text_retrieval import Retrieval
from ...recipe import Claim, Figures
from ...schedules import warmup_cosine
from ...tokenizers.wordpiece import train_tokenizer

RANK = 128  # of a student's token table
MAX_LENGTH = 64  # tokens: a summary and the first sentences of a body
VOCABULARY = 30522  # BERT's word pieces, which all-MiniLM and many teachers share

STUDENT = TextConfig(
    vocabulary=VOCABULARY,
    max_length=MAX_LENGTH,
    rank=RANK,
    transformer=TransformerConfig(width=384, depth=2, heads=12, hidden=1024),
)
"""6.7 million parameters: two of all-MiniLM's layers, the table factorised, the middle thinner."""

CLAIMED_STEPS = 60
CLAIMED_GAIN = 0.05  # of recall@10


@dataclass(frozen=True, slots=True, kw_only=True)
class TextData:
    """What a text recipe trains on, and the retrieval task that probes it."""

    pairs: TextPairs
    probe: Retrieval


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainingSettings:
    """The numbers of every run of twins from scratch; a recipe adds those of its objective."""

    steps: int = 300
    seed: int = 0
    batch_size: int = 128
    rate: float = 1e-3
    warmup: int = 10  # steps
    weight_decay: float = 0.01
    shape: TextConfig = STUDENT


SettingsT = TypeVar("SettingsT", bound=PretrainingSettings)


def student_of(teacher: TextConfig, *, depth: int) -> TextConfig:
    """Give the student of a teacher's own width and vocabulary: `STUDENT` for all-MiniLM's."""
    theirs = teacher.transformer
    return replace(
        teacher,
        max_length=min(MAX_LENGTH, teacher.max_length),
        rank=RANK if theirs.width > RANK else None,
        transformer=replace(
            theirs, depth=depth, hidden=min(STUDENT.transformer.hidden, theirs.hidden)
        ),
    )


def text_data(parts: Split, tokenizer: bytes, *, max_length: int = MAX_LENGTH) -> TextData:
    """Tokenise a corpus: train on its training pairs, search all bodies for held-out summaries."""
    summaries, bodies = _views(parts.train, tokenizer, max_length)
    queries, answers = _views(parts.held_out, tokenizer, max_length)
    return TextData(
        pairs=TextPairs(first=summaries, second=bodies),
        probe=Retrieval(
            queries=queries,
            documents=answers + bodies,
            relevant=np.arange(len(answers), dtype=np.int64),
        ),
    )


def _views(
    pairs: Sequence[Pair], tokenizer: bytes, max_length: int
) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    return (
        tokenize([pair.summary for pair in pairs], tokenizer, max_length=max_length),
        tokenize([pair.body for pair in pairs], tokenizer, max_length=max_length),
    )


def two_text_views(
    data: TextData,
    settings: PretrainingSettings,
    *,
    projector: Callable[[int], nn.Module],
    objective: Callable[[Tensor, Tensor], Tensor],
) -> Training[tuple[Inputs, Inputs]]:
    """Compose a run in which summary and body are the two views of one encoder, made from scratch.

    `projector` makes the head in front of the objective for an embedding width.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(settings.seed)
        encoder = TextEncoder(settings.shape)
        method = Siamese(encoder, projector(encoder.dim), objective)
    sampler = data.pairs.sampler(batch_size=settings.batch_size, seed=settings.seed)
    return Training(
        method=method,
        batches=lambda step: data.pairs.batch(shard(sampler(step))),
        optimiser=torch.optim.AdamW(parameter_groups(method, weight_decay=settings.weight_decay)),
        rate=warmup_cosine(settings.rate, settings.warmup, settings.steps),
        steps=settings.steps,
        seed=settings.seed,
        probe=lambda _made: data.probe(encoder),
    )


def pretraining_claim(
    build: Callable[[TextData, SettingsT], Training[tuple[Inputs, Inputs]]], settings: SettingsT
) -> Claim[TextData]:
    """Claim that a text recipe learns to retrieve, on the standard library's docstrings."""

    def trial(data: TextData, seed: int) -> dict[str, float]:
        small = TextConfig(
            vocabulary=4096,
            max_length=32,
            transformer=TransformerConfig(width=128, depth=2, heads=4, hidden=256),
        )
        short = replace(settings, steps=CLAIMED_STEPS, shape=small, seed=seed)
        history = fit(build(data, short), accelerator="cpu", progress=False)
        (_, before), (_, after) = history.series("recall_at_10")
        return {"untrained/recall_at_10": before, "pretrained/recall_at_10": after}

    def holds(figures: Figures) -> bool:
        before, after = figures["untrained/recall_at_10"], figures["pretrained/recall_at_10"]
        gains = [last - first for first, last in zip(before, after, strict=True)]
        return min(gains) >= CLAIMED_GAIN

    return Claim(
        f"after {CLAIMED_STEPS} steps on the standard library's docstrings, recall@10 of held-out "
        f"summaries is at least {CLAIMED_GAIN * 100:.0f} points above the untrained encoder's at "
        "each seed",
        _documentation,
        trial,
        holds,
    )


def _documentation() -> TextData:
    """Give the standard library's docstrings, 200 held out."""
    parts = split(docstrings.read(("stdlib",)), held_out=200)
    tokenizer = train_tokenizer(
        (text for pair in parts.train for text in (pair.summary, pair.body)), vocabulary=4096
    )
    return text_data(parts, tokenizer, max_length=32)
