"""Reranking over HTTP: the shapes of Cohere and Jina, and of Text Embeddings Inference."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from starlette.responses import Response

from attar.ranking import activated

from ..cooperative import STEP, off_the_loop, steps
from ..engine.models import Models
from ..errors import about
from ..request_context import current
from ..usecases.rerank import Reranked, rerank
from .endpoint import HttpRequest, document
from .inference import refuse_other_end
from .rerank_schemas import RerankRequest, TextsRequest
from .schemas import validated

_RESULT_BYTES: Final = 96  # of JSON, the text left out


class Rerank:
    """`/v1/rerank`, `/v2/rerank` and `/rerank` over the models of one server."""

    def __init__(self, models: Models, *, max_items: int) -> None:
        """Serve these models; a request takes up to `max_items` documents."""
        self._models = models
        self._max_items = max_items

    async def documents(self, http_request: HttpRequest) -> Response:
        """Rank the documents of a request; one bad document fails it."""
        body = await document(http_request)
        request = await off_the_loop(
            len(http_request.body),
            lambda: validated(RerankRequest, body, max_items=self._max_items),
        )
        self._models.get(request.model)
        with about("documents"):
            reranked = await rerank(
                self._models,
                query=request.query,
                documents=request.documents,
                model=request.model,
                top_n=request.top_n,
                truncation="truncate" if request.truncate else "error",
                priority=request.priority,
                all_or_nothing=True,
                return_documents=request.return_documents,
            )
        texts = request.documents if request.return_documents else None
        rest = {
            "id": current().request_id,
            "model": reranked.model.name,
            "scorer": reranked.scorer,
            "usage": {"total_tokens": reranked.tokens},
            "meta": {"api_version": {"version": "2"}},
        }

        def write() -> bytes:
            rows = _rows(reranked, _bounded(reranked), lambda row: _result(row, reranked, texts))
            return f'{{"results":[{",".join(rows)}],{_dump(rest)[1:]}'.encode()

        return await _written(reranked, texts, write)

    async def texts(self, http_request: HttpRequest) -> Response:
        """Rank the texts of a request; one bad text fails it."""
        body = await document(http_request)
        request = await off_the_loop(
            len(http_request.body),
            lambda: validated(TextsRequest, body, max_items=self._max_items),
        )
        model = self._models.get(request.model)
        refuse_other_end(model, request.truncation_direction)
        with about("texts"):
            reranked = await rerank(
                self._models,
                query=request.query,
                documents=request.texts,
                model=request.model,
                truncation="truncate" if request.truncate else "error",
                all_or_nothing=True,
                return_documents=request.return_text,
            )
        texts = request.texts if request.return_text else None
        scores = reranked.raw_scores if request.raw_scores else _bounded(reranked)

        def write() -> bytes:
            rows = _rows(reranked, scores, lambda row: _rank(row, texts))
            return f"[{','.join(rows)}]".encode()

        return await _written(reranked, texts, write)


def _bounded(reranked: Reranked) -> NDArray[np.float32]:
    """Give what these APIs call a relevance: from 0 to 1 for a cross-encoder, else the cosine."""
    sigmoid = reranked.scorer == "cross-encoder"
    return activated(reranked.raw_scores, "sigmoid" if sigmoid else "identity")


def _rows(
    reranked: Reranked,
    scores: NDArray[np.float32],
    shape: Callable[[tuple[int, float]], dict[str, Any]],
) -> Iterator[str]:
    """Give each result as JSON, best first, with a pause for others now and then."""
    indices = reranked.indices.tolist()
    for part in steps(len(indices), STEP):
        for row in zip(indices[part], scores[part].tolist(), strict=True):
            yield _dump(shape(row))


def _result(
    row: tuple[int, float], reranked: Reranked, texts: Sequence[str] | None
) -> dict[str, Any]:
    index, score = row
    text = {} if texts is None else {"document": {"text": texts[index]}}
    truncated = reranked.items[index].truncated
    return {"index": index, "relevance_score": score, **text, "truncated": truncated}


def _rank(row: tuple[int, float], texts: Sequence[str] | None) -> dict[str, Any]:
    index, score = row
    return {"index": index, "score": score, **({} if texts is None else {"text": texts[index]})}


async def _written(
    reranked: Reranked, texts: Sequence[str] | None, write: Callable[[], bytes]
) -> Response:
    size = _RESULT_BYTES * len(reranked.indices) + sum(map(len, texts or ()))
    written = await off_the_loop(size, write)
    return Response(written, media_type="application/json")


def _dump(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
