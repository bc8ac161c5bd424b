"""Calls of the service Reranking."""

from collections.abc import Iterable

import numpy as np

from attar import wire
from attar.errors import InvalidInput
from attar.inputs import Priority, Truncation, as_text
from attar.ranking import check_top_n
from attar.v1 import reranking_pb2
from attar.values import RankedDocument, Reranked

from .call import (
    DEADLINE_S,
    Call,
    enum_number,
    item_errors,
    make_call,
    row_of,
    truncated_flags,
)


def rerank(
    query: str,
    documents: Iterable[str],
    *,
    model: str = "",
    version: str = "",
    top_n: int | None = None,
    return_documents: bool = False,
    truncation: Truncation = "truncate",
    priority: Priority = "interactive",
    partial: bool = False,
    deadline_s: float = DEADLINE_S,
) -> Call[Reranked]:
    """The `documents` in the order of their scores for the `query`, the `top_n` best or all.

    A cross-encoder reads the query with each document; an encoder of texts compares embeddings by
    cosine, and the result's `scorer` says which it was. `return_documents` has the texts in the
    results too. With `priority` "bulk" the documents let interactive ones pass.
    """
    if not isinstance(query, str):
        raise InvalidInput(f"query is {query!r:.80}, a {type(query).__name__}; give a text")
    as_text(query, 0)
    texts = [as_text(text, i) for i, text in enumerate(row_of("documents", documents))]
    request = wire.message(
        reranking_pb2.RerankRequest,
        model=model,
        version=version,
        query=query,
        documents=texts,
        top_n=check_top_n(top_n),
        return_documents=return_documents,
        truncation=enum_number("truncation", truncation, wire.TRUNCATIONS),
        priority=enum_number("priority", priority, wire.PRIORITIES),
    )

    def decode(response: reranking_pb2.RerankResponse) -> Reranked:
        return _reranked(response, partial=partial, texts=return_documents)

    return make_call("Reranking/Rerank", request, reranking_pb2.RerankResponse, decode, deadline_s)


def _reranked(response: reranking_pb2.RerankResponse, *, partial: bool, texts: bool) -> Reranked:
    names = {number: name for name, number in wire.SCORERS.items()}
    return Reranked(
        results=tuple(
            RankedDocument(
                index=result.index,
                score=result.score,
                raw_score=result.raw_score,
                document=result.document if texts else None,
            )
            for result in response.results
        ),
        tokens=np.array([item.tokens for item in response.items], np.int32),
        truncated=truncated_flags(response.items),
        errors=item_errors(response.items, partial=partial),
        scorer=names[response.scorer],
        fingerprint=response.fingerprint,
        model=response.model,
        variant=response.variant,
        queue_s=response.timings.queue_us / 1e6,
        tokenize_s=response.timings.tokenize_us / 1e6,
        infer_s=response.timings.infer_us / 1e6,
    )
