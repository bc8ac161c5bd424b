"""The data of a text recipe: tokenised pairs to train on, and a retrieval that probes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .data.pairs import Pair, Split, split
from .data.text import Row, TextPairs, tokenize
from .encoders.students import MAX_LENGTH
from .probes.text_retrieval import Retrieval

VALIDATION = 200  # pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class TextData:
    """What a text recipe trains on, and the retrieval task that probes it."""

    pairs: TextPairs
    probe: Retrieval


def text_data(corpus: Split, tokenizer: bytes, *, max_length: int = MAX_LENGTH) -> TextData:
    """Tokenise a corpus: train on its training pairs, search all bodies for held-out summaries."""
    summaries, bodies = _views(corpus.train, tokenizer, max_length)
    queries, answers = _views(corpus.held_out, tokenizer, max_length)
    return TextData(
        pairs=TextPairs(first=summaries, second=bodies),
        probe=Retrieval(
            queries=queries,
            documents=answers + bodies,
            relevant=np.arange(len(answers), dtype=np.int64),
        ),
    )


def validated(
    corpus: Split, tokenizer: bytes, *, max_length: int, seed: int = 1
) -> tuple[TextData, Retrieval]:
    """Tokenise a corpus that is held out twice; give what trains and validates, and the test.

    Some of the training pairs validate: 200, or an eighth of a corpus smaller than eight times
    that. The test searches the bodies of all pairs: of the held-out ones, of those that validate,
    and of those to train on, in this order. Raises InvalidInput for fewer than two training pairs.
    """
    count = min(VALIDATION, max(1, len(corpus.train) // 8))
    texts = text_data(
        split(corpus.train, held_out=count, seed=seed), tokenizer, max_length=max_length
    )
    queries, bodies = _views(corpus.held_out, tokenizer, max_length)
    test = Retrieval(
        queries=queries,
        documents=bodies + texts.probe.documents,
        relevant=np.arange(len(bodies), dtype=np.int64),
    )
    return texts, test


def _views(
    pairs: Sequence[Pair], tokenizer: bytes, max_length: int
) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    return (
        tokenize([pair.summary for pair in pairs], tokenizer, max_length=max_length),
        tokenize([pair.body for pair in pairs], tokenizer, max_length=max_length),
    )
