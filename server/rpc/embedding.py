"""Embedding over gRPC: one batch, or many on a stream."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from attar import wire
from attar.v1 import embedding_pb2, embedding_pb2_grpc, item_pb2

from ..cooperative import off_the_loop, request_bytes
from ..engine.models import Models
from ..errors import about
from ..request_context import current
from ..usecases import embed, embed_tokens
from . import incremental_protobuf, messages
from .interceptor import Context
from .stream import in_order


class EmbeddingService(embedding_pb2_grpc.EmbeddingServicer):
    """attar.v1.Embedding."""

    def __init__(
        self,
        models: Models,
        *,
        max_items: int,
        max_name_characters: int,
        max_stream_requests: int,
        draining: asyncio.Event,
    ) -> None:
        """Serve these models; a stream stops reading when `draining` is set."""
        self._models = models
        self._max_items = max_items
        self._max_name = max_name_characters
        self._max_stream_requests = max_stream_requests
        self._draining = draining

    async def Embed(
        self, request: embedding_pb2.EmbedRequest, context: Context
    ) -> embedding_pb2.EmbedResponse:
        return await self._embed(request, messages.deadline(context), wait=False)

    def EmbedStream(
        self, request_iterator: AsyncIterator[embedding_pb2.EmbedRequest], context: Context
    ) -> AsyncGenerator[embedding_pb2.EmbedResponse, None]:
        deadline = messages.deadline(context)
        return in_order(
            request_iterator,
            lambda request: self._respond(request, deadline),
            at_once=self._max_stream_requests,
            draining=self._draining,
        )

    async def EmbedTokens(
        self, request: embedding_pb2.EmbedTokensRequest, context: Context
    ) -> embedding_pb2.EmbedTokensResponse:
        name = messages.short("id", request.id, limit=self._max_name)
        model = self._models.get(request.model, request.version)
        model.refuse_if_full()  # before its items are looked at
        embedded = await embed_tokens.embed_tokens(
            self._models,
            model=request.model,
            version=request.version,
            items=await off_the_loop(
                request_bytes(), lambda: self._items(request, model.encoder.max_length)
            ),
            role=messages.role(request.role, default="passage"),
            pooling=messages.pooling(request.pooling),
            grid=((request.grid.rows, request.grid.columns) if request.HasField("grid") else None),
            encoding=messages.encoding(request.encoding),
            truncation=messages.truncation(request.truncation),
            priority=messages.priority(request.priority),
            deadline=messages.deadline(context),
        )
        return await incremental_protobuf.serialize(
            embedding_pb2.EmbedTokensResponse,
            embedded.vectors.nbytes,
            lambda: [_tokens_response(name, embedded)],
        )

    async def _respond(
        self, request: embedding_pb2.EmbedRequest, deadline: float | None
    ) -> embedding_pb2.EmbedResponse:
        try:
            current().message()
            return await self._embed(request, deadline, wait=True)
        except Exception as error:
            return messages.failed(request, error, limit=self._max_name)

    async def _embed(
        self, request: embedding_pb2.EmbedRequest, deadline: float | None, *, wait: bool
    ) -> embedding_pb2.EmbedResponse:
        name = messages.short("id", request.id, limit=self._max_name)
        model = self._models.get(request.model, request.version)
        if not wait:  # a call that finds no room costs least before its items are looked at
            model.refuse_if_full()
        role = messages.role_or_prompt(request, limit=self._max_name)
        with about("prompt" if request.prompt else "role"):
            model.encoder.prepare([], role=role)  # refuses a name that the model has no prompt of
        embedded = await embed.embed(
            self._models,
            model=request.model,
            version=request.version,
            items=await off_the_loop(
                request_bytes(), lambda: self._items(request, model.encoder.max_length)
            ),
            role=role,
            dims=request.dims if request.HasField("dims") else None,
            encoding=messages.encoding(request.encoding),
            truncation=messages.truncation(request.truncation),
            priority=messages.priority(request.priority),
            deadline=deadline,
            wait=wait,
            form="bytes",
        )
        return await incremental_protobuf.serialize(
            embedding_pb2.EmbedResponse,
            embedded.vectors.nbytes,
            lambda: [_response(name, embedded)],
        )

    def _items(
        self,
        request: embedding_pb2.EmbedRequest | embedding_pb2.EmbedTokensRequest,
        max_length: int | None,
    ) -> embed.Items:
        kind = request.WhichOneof("input")
        if kind == "tokens":
            return messages.tokens(request.tokens, limit=self._max_items, max_length=max_length)
        return messages.items(request, kind, limit=self._max_items)


def _tokens_response(
    id_: str, embedded: embed_tokens.EmbeddedTokens
) -> embedding_pb2.EmbedTokensResponse:
    encoder, grid = embedded.model.encoder, embedded.grid
    return embedding_pb2.EmbedTokensResponse(
        id=id_,
        vectors=wire.to_tensor(embedded.vectors) if len(embedded.vectors) else None,
        lengths=embedded.lengths,
        grid=None if grid is None else item_pb2.Grid(rows=grid[0], columns=grid[1]),
        items=messages.statuses(embedded.items),
        fingerprint=encoder.fingerprint,
        model=embedded.model.name,
        version=embedded.model.version,
        variant=encoder.variant.name,
        encoding=wire.ENCODINGS[embedded.encoding],
        dim=encoder.token_dim,
        timings=_timings(embedded),
    )


def _timings(embedded: embed.Embedded | embed_tokens.EmbeddedTokens) -> embedding_pb2.Timings:
    return embedding_pb2.Timings(
        queue_us=round(embedded.queue_s * 1e6),
        tokenize_us=round(embedded.tokenize_s * 1e6),
        infer_us=round(embedded.infer_s * 1e6),
    )


def _response(id_: str, embedded: embed.Embedded) -> embedding_pb2.EmbedResponse:
    return embedding_pb2.EmbedResponse(
        id=id_,
        embeddings=wire.to_tensor(embedded.vectors),
        items=messages.statuses(embedded.items),
        fingerprint=embedded.model.encoder.fingerprint,
        model=embedded.model.name,
        version=embedded.model.version,
        variant=embedded.model.encoder.variant.name,
        encoding=wire.ENCODINGS[embedded.encoding],
        dims=embedded.dims,
        timings=_timings(embedded),
    )
