"""A reranked search: what is most similar to a query, ranked anew by the texts that points keep."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from attar.errors import AttarError, InvalidInput

from ..collections.store import Hit
from ..engine.models import Models
from .embed import Item, Truncation
from .rerank import rerank

RERANK: Final = "rerank"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reranker:
    """What ranks anew: a model, and how many of the most similar points it sees.

    `field` is the payload key that has a point's text.
    """

    model: str
    version: str
    field: str
    candidates: int


def texts_of(hits: Sequence[Hit], field: str) -> list[str]:
    """Give the text of each hit; InvalidInput names the first point that has none."""
    texts = []
    for hit in hits:
        text = None if hit.payload is None else hit.payload.get(field)
        if not isinstance(text, str):
            raise InvalidInput(
                f"point {hit.id} has no text at {field!r:.80} of its payload, by which it would be"
                " ranked; name the key that has it, or leave such points out by a filter"
            )
        texts.append(text)
    return texts


async def reranked(
    models: Models,
    reranker: Reranker,
    queries: Sequence[str],
    hits: Sequence[Sequence[Hit]],
    items: Sequence[Item],
    *,
    page: slice,
    score: str,
    with_payload: bool,
    truncation: Truncation,
    deadline: float | None,
) -> tuple[list[tuple[Hit, ...]], tuple[Item, ...]]:
    """Rank each query's `hits` anew and give a `page` of them, best first, and the statuses.

    `score` is what the score that they had is called from now on, among their parts.

    A query whose hits cannot be ranked fails alone, like one that could not be embedded, for which
    `items` has the error. Raises what `rerank` raises of the call itself, as of its model.
    """
    pages: list[tuple[Hit, ...]] = []
    statuses = list(items)
    for index, (query, found) in enumerate(zip(queries, hits, strict=True)):
        try:
            texts = texts_of(found, reranker.field)
        except AttarError as error:
            statuses[index] = dataclasses.replace(items[index], error=error)
            pages.append(())
            continue
        if not texts:
            pages.append(())
            continue
        ranked = await rerank(
            models,
            query=query,
            documents=texts,
            model=reranker.model,
            version=reranker.version,
            truncation=truncation,
            deadline=deadline,
            all_or_nothing=True,
        )
        rows = zip(ranked.indices.tolist(), ranked.scores.tolist(), strict=True)
        best = [_ranked(found[at], by, score, with_payload=with_payload) for at, by in rows]
        pages.append(tuple(best[page]))
    return pages, tuple(statuses)


def _ranked(hit: Hit, by_text: float, score: str, *, with_payload: bool) -> Hit:
    return Hit(
        hit.id,
        by_text,
        hit.payload if with_payload else None,
        hit.payload_bytes if with_payload else 0,
        {**hit.parts, score: hit.score, RERANK: by_text},
    )
