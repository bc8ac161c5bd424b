"""A ranking: documents by their scores for a query, best first."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .encodings import Vectors
from .errors import InvalidInput
from .manifest import Manifest

Scorer: TypeAlias = Literal["cross-encoder", "cosine"]
"""What a score is: a cross-encoder's, which reads both texts at once, or a cosine of embeddings."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Ranking:
    """Documents by their scores, best first; of equal scores the earlier document is first.

    `indices` (k,) are of the documents as they were given, `scores` (k,) float32 theirs. `tokens`
    and `truncated`, (n,), are of every document in the order given: what the model read of the pair
    for a cross-encoder, else of the document.
    """

    indices: NDArray[np.int64]
    scores: NDArray[np.float32]
    tokens: NDArray[np.int32]
    truncated: NDArray[np.bool_]
    scorer: Scorer
    fingerprint: str
    variant: str

    def __len__(self) -> int:
        """Count the documents that are ranked."""
        return len(self.indices)


def scorer_of(manifest: Manifest) -> Scorer:
    """Say what scores the model's documents."""
    return "cross-encoder" if manifest.scores_pairs else "cosine"


def activated(logits: NDArray[np.float32], activation: str | None) -> NDArray[np.float32]:
    """Give scores as the model's authors do: by the "sigmoid" of the graph's output, or as it is.

    Example:
        >>> activated(np.zeros(1, np.float32), "sigmoid").tolist()
        [0.5]
    """
    if activation != "sigmoid":
        return logits
    # Of the absolute value, which cannot overflow.
    low = np.exp(-np.abs(logits))
    scores: NDArray[np.float32] = np.where(logits >= 0, 1, low) / (1 + low)
    return scores.astype(np.float32)


def cosines(query: Vectors, documents: Vectors) -> NDArray[np.float32]:
    """Give the cosine of each of `documents`, (n, d), to `query`, (d,); 0 where a length is 0.

    Example:
        >>> cosines(np.array([1, 0], np.float32), np.eye(2, dtype=np.float32)).tolist()
        [1.0, 0.0]
    """
    lengths = np.linalg.norm(documents, axis=1) * np.linalg.norm(query)
    least = np.finfo(np.float32).tiny
    scores: NDArray[np.float32] = documents @ query / np.maximum(lengths, least)
    return scores.astype(np.float32)


def best(scores: NDArray[np.float32], top_n: int | None) -> NDArray[np.int64]:
    """Give the indices of the `top_n` highest of `scores` (n,), or of all, best first.

    Example:
        >>> best(np.array([0.1, 0.9, 0.5], np.float32), 2).tolist()
        [1, 2]
    """
    return np.argsort(-scores, kind="stable")[:top_n]


def check_top_n(top_n: object) -> int | None:
    """Give `top_n`, a whole number from 1, or None for all; InvalidInput for others."""
    if top_n is None:
        return None
    if isinstance(top_n, bool) or not isinstance(top_n, int | np.integer) or top_n < 1:
        raise InvalidInput(f"top_n is {top_n!r:.80}; give a whole number from 1, or None for all")
    return int(top_n)
