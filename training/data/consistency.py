"""The consistency filter: made pairs stay where the base encoder confirms them, and not by copy."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attar.errors import InvalidInput, ShapeError

from .pairs import Pair
from .passages import CJK
from .similarity import cosine_blocks

FIRST = 10
COPIED = 1.0
TOKEN = re.compile(rf"[{CJK}]|[^\W{CJK}]+")


@dataclass(frozen=True, slots=True)
class Consistency:
    """Which of some pairs stay, and why the others do not: `rows` are those that stay."""

    rows: NDArray[np.int64]
    pairs: tuple[Pair, ...]
    not_retrieved: int
    copied: int

    def lines(self) -> Iterator[str]:
        """Give a line for each thing to know."""
        total = len(self.pairs) + self.not_retrieved + self.copied
        yield (
            f"consistency: {len(self.pairs):,} of {total:,} pairs stay; "
            f"{self.not_retrieved:,} are not retrieved, {self.copied:,} are copies"
        )


def consistent(
    pairs: Sequence[Pair],
    queries: NDArray[np.float32],
    passages: NDArray[np.float32],
    *,
    first: int = FIRST,
    copied: float = COPIED,
) -> Consistency:
    """Keep a pair where its passage is retrieved, and its query is not only copied from it.

    `queries` and `passages`, (n, d) unit vectors, are the base encoder's of the pairs. Pair i stays
    if both hold:

    1. Its passage is among the `first` by cosine to its query, of all passages; a tie counts
       against it.
    2. The share of its query that its passage has too is below `copied`. The share is
       sum(idf(w), w in both) / sum(idf(w), w in the query) over distinct words w, in small letters,
       with idf(w) = log(1 + n / df(w)) of the n passages, so that "the" counts little. At 1, the
       default, one word of the query must be missing from the passage.

    `copied` above 1 leaves the second out: keyword queries and two dropouts are copies by
    construction. A pair that fails both is counted as not retrieved.

    Source: round-trip consistency (Alberti et al. 2019, arXiv:1906.05416; Dai et al. 2022,
    arXiv:2209.11755, who keep the first by a retriever trained on the pairs themselves), as the
    filter of data that a model makes for itself (Self-Specialization, Kang et al. 2023,
    arXiv:2310.00160; SELF-GUIDE, Zhao et al. 2024, arXiv:2407.12874). Departures: rules make the
    pairs, no language model does; the retriever is the encoder before adaptation; the bound on
    copied words is attar's.

    Raises:
        ShapeError: there is not one vector a pair.
        InvalidInput: `first` or `copied` cannot be met by any pair.
    """
    if first < 1 or copied <= 0:
        raise InvalidInput(f"first must be at least 1 and copied above 0; got {first} and {copied}")
    if not len(pairs) == len(queries) == len(passages):
        raise ShapeError(
            f"each of {len(pairs)} pairs has a query and a passage; got {len(queries)} and "
            f"{len(passages)} vectors"
        )
    ranks = np.empty(len(pairs), np.int64)
    for block, cosines in cosine_blocks(queries, passages):
        own = np.take_along_axis(cosines, block[:, None], axis=1)
        ranks[block] = (cosines >= own).sum(axis=1)
    retrieved = ranks <= first
    original = copied_shares(pairs) < copied
    rows = np.flatnonzero(retrieved & original).astype(np.int64)
    return Consistency(
        rows=rows,
        pairs=tuple(pairs[row] for row in rows.tolist()),
        not_retrieved=int((~retrieved).sum()),
        copied=int((retrieved & ~original).sum()),
    )


def copied_shares(pairs: Sequence[Pair]) -> NDArray[np.float64]:
    """Give the share (n,) of each query that its own passage has too, in [0, 1].

    The words are weighted as `consistent` says; a query without words has share 1.
    """
    bodies = [_tokens(pair.body) for pair in pairs]
    frequency = Counter(word for body in bodies for word in body)
    shares = np.ones(len(pairs))
    for row, (pair, body) in enumerate(zip(pairs, bodies, strict=True)):
        query = _tokens(pair.summary)
        if total := _weight(query, frequency, len(pairs)):
            shares[row] = _weight(query & body, frequency, len(pairs)) / total
    return shares


def _tokens(text: str) -> frozenset[str]:
    return frozenset(TOKEN.findall(text.casefold()))


def _weight(words: frozenset[str], frequency: Mapping[str, int], passages: int) -> float:
    """Add up idf of words; one that no passage has counts as one that a single passage has."""
    # fsum: the order of a set must not change the sum.
    return math.fsum(math.log1p(passages / max(1, frequency[word])) for word in words)
