"""A hybrid search: a dense and a keyword ranking of the same points, fused into one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from attar.errors import InvalidInput
from attar.values import SearchMode

from ..collections.store import Hit

SIMILARITY: Final = "similarity"
KEYWORD: Final = "keyword"
FUSION: Final = "fusion"
SCORES: Final[Mapping[SearchMode, str]] = {
    "dense": SIMILARITY,
    "keyword": KEYWORD,
    "hybrid": FUSION,
}
"""What a hit's score is called in its `parts`, by the mode of the search."""

FUSED: Final = 100  # hits of each ranking, unless more are asked for
RRF_K: Final = 60  # Cormack, Clarke and Buettcher 2009


@dataclass(frozen=True, slots=True, kw_only=True)
class Fusion:
    """How two rankings become one: by ranks, or with `alpha` by scores.

    `alpha`, from 0 to 1, is the weight of the dense scores. `candidates` are the best of each
    ranking, which alone are fused.
    """

    alpha: float | None = None
    candidates: int = FUSED

    def __post_init__(self) -> None:
        """Refuse what is no weight."""
        if self.alpha is not None and not 0 <= self.alpha <= 1:
            raise InvalidInput(f"alpha is {self.alpha}; give a weight from 0 to 1")


def fuse(dense: Sequence[Hit], keyword: Sequence[Hit], fusion: Fusion) -> list[Hit]:
    """Give every hit of two rankings, best first, with the scores and ranks that it has in each.

    Without `alpha` a hit scores the sum of 1 / (60 + rank) over the rankings that it is in
    (reciprocal rank fusion, Cormack, Clarke and Buettcher 2009). With it, the convex combination of
    its scores, each scaled to [0, 1] among its ranking, and 0 where it is not in it (Bruch, Gai and
    Ingber 2023). Equal scores go by id.
    """
    weights = (1.0, 1.0) if fusion.alpha is None else (fusion.alpha, 1 - fusion.alpha)
    parts: dict[int | str, dict[str, float]] = {}
    scores: dict[int | str, float] = {}
    for name, hits, weight in zip((SIMILARITY, KEYWORD), (dense, keyword), weights, strict=True):
        ranks = [1 / (RRF_K + rank) for rank in range(1, len(hits) + 1)]
        terms = ranks if fusion.alpha is None else _scaled(hits)
        for rank, (hit, term) in enumerate(zip(hits, terms, strict=True), 1):
            scores[hit.id] = scores.get(hit.id, 0.0) + weight * term
            parts.setdefault(hit.id, {}).update({name: hit.score, f"{name}_rank": rank})
    best = sorted(scores, key=lambda point: (-scores[point], isinstance(point, str), point))
    return [Hit(point, scores[point], None, parts=parts[point]) for point in best]


def _scaled(hits: Sequence[Hit]) -> list[float]:
    """Give scores from 0, the lowest, to 1; all are 1 where they are the same."""
    if not hits:
        return []
    highest, lowest = max(hit.score for hit in hits), min(hit.score for hit in hits)
    span = highest - lowest
    return [(hit.score - lowest) / span if span else 1.0 for hit in hits]
