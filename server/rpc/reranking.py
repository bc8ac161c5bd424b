"""Reranking over gRPC: one query, and the documents in the order of their scores."""

from attar import wire
from attar.errors import InvalidInput
from attar.v1 import embedding_pb2, reranking_pb2, reranking_pb2_grpc

from ..cooperative import off_the_loop, request_bytes
from ..engine.models import Models
from ..errors import about
from ..usecases.rerank import Reranked, rerank
from . import messages
from .interceptor import Context


class RerankingService(reranking_pb2_grpc.RerankingServicer):
    """attar.v1.Reranking."""

    def __init__(self, models: Models, *, max_items: int, max_name_characters: int) -> None:
        """Serve these models; a request has up to `max_items` documents."""
        self._models = models
        self._max_items = max_items
        self._max_name = max_name_characters

    async def Rerank(
        self, request: reranking_pb2.RerankRequest, context: Context
    ) -> reranking_pb2.RerankResponse:
        name = messages.short("id", request.id, limit=self._max_name)
        self._models.get(request.model, request.version).refuse_if_full()
        documents = messages.documents(request.documents, limit=self._max_items)
        reranked = await rerank(
            self._models,
            query=request.query,
            documents=documents,
            model=request.model,
            version=request.version,
            top_n=_top_n(request),
            truncation=messages.truncation(request.truncation),
            priority=messages.priority(request.priority),
            deadline=messages.deadline(context),
            return_documents=request.return_documents,
        )
        return await off_the_loop(
            request_bytes(),
            lambda: _response(name, reranked, documents if request.return_documents else None),
        )


def _top_n(request: reranking_pb2.RerankRequest) -> int | None:
    if not request.HasField("top_n"):
        return None
    if request.top_n == 0:
        with about("top_n"):
            raise InvalidInput("top_n is 0; give 1 or more, or leave it out for all")
    return request.top_n


def _response(
    id_: str, reranked: Reranked, documents: list[str] | None
) -> reranking_pb2.RerankResponse:
    encoder = reranked.model.encoder
    rows = zip(
        reranked.indices.tolist(),
        reranked.scores.tolist(),
        reranked.raw_scores.tolist(),
        strict=True,
    )
    return reranking_pb2.RerankResponse(
        id=id_,
        results=[
            reranking_pb2.RankedDocument(
                index=index,
                score=score,
                raw_score=raw,
                document="" if documents is None else documents[index],
            )
            for index, score, raw in rows
        ],
        items=messages.statuses(reranked.items),
        scorer=wire.SCORERS[reranked.scorer],
        fingerprint=encoder.fingerprint,
        model=reranked.model.name,
        version=reranked.model.version,
        variant=encoder.variant.name,
        timings=embedding_pb2.Timings(
            queue_us=round(reranked.queue_s * 1e6),
            tokenize_us=round(reranked.tokenize_s * 1e6),
            infer_us=round(reranked.infer_s * 1e6),
        ),
    )
