"""Rerank: a query and documents in, the documents' scores and one status for each out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from attar.errors import NotSupported
from attar.inputs import Priority, TextPair, Truncation
from attar.manifest import Manifest
from attar.ranking import Scorer, activated, best, cosines, scorer_of

from ..cooperative import off_the_loop
from ..engine.models import Model, Models
from ..limits.fair_shares import room
from .embed import Embedded, Item, refuse_large_response, run

_RESULT_BYTES: Final = 64  # of a document in an answer, its text left out


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reranked:
    """Documents by their scores, best first, without those that failed.

    `indices` (k,) are of the documents of the request; `scores` (k,) theirs as the model's authors
    give them, and `raw_scores` (k,) before the activation. `items` are of every document.
    """

    indices: NDArray[np.int64]
    scores: NDArray[np.float32]
    raw_scores: NDArray[np.float32]
    items: tuple[Item, ...]
    scorer: Scorer
    model: Model
    queue_s: float
    tokenize_s: float
    infer_s: float

    @property
    def tokens(self) -> int:
        """The tokens of all documents, as the model read them."""
        return sum(item.tokens for item in self.items)


async def rerank(
    models: Models,
    *,
    query: str,
    documents: Sequence[str],
    model: str = "",
    version: str = "",
    top_n: int | None = None,
    truncation: Truncation = "truncate",
    priority: Priority = "interactive",
    deadline: float | None = None,
    all_or_nothing: bool = False,
    return_documents: bool = False,
) -> Reranked:
    """Score `documents` for a `query`, and give the `top_n` best of them, or all.

    A cross-encoder reads the query with each document; another model of texts embeds both and
    compares by cosine. The arguments that `embed` has mean the same here. With `return_documents`
    the answer repeats the texts, of which `max_answer_bytes` takes so many. Raises what is wrong
    with the call or the query; what is wrong with one document stands in its `Item`, or with
    `all_or_nothing` fails the call. Raises NotSupported for a model that takes no texts.
    """
    chosen = models.get(model, version)
    manifest = chosen.encoder.manifest
    require_texts(manifest)
    size = len(documents) * _RESULT_BYTES
    if return_documents:
        size += sum(len(document.encode("utf-8", "surrogatepass")) for document in documents)
    refuse_large_response(size, limit=chosen.max_answer_bytes)
    await room().take(size)
    if manifest.scores_pairs:
        pairs = [TextPair(query, document) for document in documents]
        scored = await run(
            chosen,
            items=pairs,
            truncation=truncation,
            priority=priority,
            deadline=deadline,
            all_or_nothing=all_or_nothing,
        )
        raw = scored.vectors[:, 0]
        return _ranked(scored, raw, activated(raw, manifest.output.activation), top_n)
    asked = await run(
        chosen,
        items=[query],
        role="query",
        truncation=truncation,
        priority=priority,
        deadline=deadline,
        all_or_nothing=True,
    )
    embedded = await run(
        chosen,
        items=documents,
        truncation=truncation,
        priority=priority,
        deadline=deadline,
        all_or_nothing=all_or_nothing,
    )
    similarities = await off_the_loop(
        embedded.vectors.nbytes, lambda: cosines(asked.vectors[0], embedded.vectors)
    )
    return _ranked(embedded, similarities, similarities, top_n)


def require_texts(manifest: Manifest) -> None:
    """Raise NotSupported for a model that takes no texts."""
    if manifest.preprocessing.tokenizer is None:
        raise NotSupported(
            f"{manifest.name} takes {manifest.modality}, and documents are ranked by texts; name a "
            "cross-encoder or a text encoder"
        )


def _ranked(
    done: Embedded, raw: NDArray[np.float32], scores: NDArray[np.float32], top_n: int | None
) -> Reranked:
    good = np.array(done.good, np.int64)
    # By the number before the activation, which rounds great ones to 1.
    order = good[best(raw[good], top_n)]
    return Reranked(
        indices=order,
        scores=scores[order],
        raw_scores=raw[order],
        items=done.items,
        scorer=scorer_of(done.model.encoder.manifest),
        model=done.model,
        queue_s=done.queue_s,
        tokenize_s=done.tokenize_s,
        infer_s=done.infer_s,
    )
