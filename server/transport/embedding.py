"""Embedding over gRPC: one batch, or many on a stream."""

import asyncio
from collections.abc import AsyncIterator

from attar import wire
from attar.errors import AttarError, Unavailable
from attar.server.engine.models import Models
from attar.server.usecases import embed
from attar.v1 import embedding_pb2, embedding_pb2_grpc

from . import convert
from .guard import Context


class EmbeddingService(embedding_pb2_grpc.EmbeddingServicer):
    """attar.v1.Embedding."""

    def __init__(
        self,
        models: Models,
        *,
        max_items: int,
        max_stream_requests: int,
        draining: asyncio.Event,
    ) -> None:
        """Serve these models; a stream stops reading when `draining` is set."""
        self._models = models
        self._max_items = max_items
        self._max_stream_requests = max_stream_requests
        self._draining = draining

    async def Embed(  # noqa: D102 (embedding.proto says it)
        self, request: embedding_pb2.EmbedRequest, context: Context
    ) -> embedding_pb2.EmbedResponse:
        return await self._embed(request, convert.deadline(context), wait=False)

    async def EmbedStream(  # noqa: D102 (embedding.proto says it)
        self, request_iterator: AsyncIterator[embedding_pb2.EmbedRequest], context: Context
    ) -> AsyncIterator[embedding_pb2.EmbedResponse]:
        deadline = convert.deadline(context)
        # In the order of the requests; as long as `room`, which is the back-pressure.
        answers: asyncio.Queue[asyncio.Task[embedding_pb2.EmbedResponse] | None] = asyncio.Queue()
        room = asyncio.Semaphore(self._max_stream_requests)

        async def read() -> None:
            await room.acquire()
            async for request in request_iterator:
                answers.put_nowait(tasks.create_task(self._answer(request, deadline)))
                await room.acquire()

        async def read_until_draining() -> None:
            reader = tasks.create_task(read())
            drain = tasks.create_task(self._draining.wait())
            await asyncio.wait((reader, drain), return_when=asyncio.FIRST_COMPLETED)
            reader.cancel()
            drain.cancel()
            answers.put_nowait(None)

        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(read_until_draining())
                while (answer := await answers.get()) is not None:
                    yield await answer
                    room.release()
        except* AttarError as group:  # only reading can raise one: _answer tells its own
            raise group.exceptions[0] from None
        if self._draining.is_set():
            raise Unavailable(
                "the server is shutting down; what it had accepted of this stream is answered"
            )

    async def _answer(
        self, request: embedding_pb2.EmbedRequest, deadline: float | None
    ) -> embedding_pb2.EmbedResponse:
        try:
            return await self._embed(request, deadline, wait=True)
        except Exception as error:  # noqa: BLE001 (a stream outlives any one request)
            return convert.failed(request, error)

    async def _embed(
        self, request: embedding_pb2.EmbedRequest, deadline: float | None, *, wait: bool
    ) -> embedding_pb2.EmbedResponse:
        found = await embed.embed(
            self._models,
            model=request.model,
            items=convert.items(request, request.WhichOneof("input"), limit=self._max_items),
            role=convert.role(request.role, default="passage"),
            dims=request.dims if request.HasField("dims") else None,
            encoding=convert.encoding(request.encoding),
            truncation=convert.truncation(request.truncation),
            deadline=deadline,
            wait=wait,
        )
        return embedding_pb2.EmbedResponse(
            id=request.id,
            embeddings=wire.to_tensor(found.vectors),
            items=convert.statuses(found.items),
            fingerprint=found.model.encoder.fingerprint,
            model=found.model.name,
            version=found.model.version,
            variant=found.model.encoder.variant.name,
            encoding=wire.ENCODINGS[found.encoding],
            dims=found.dims,
            timings=embedding_pb2.Timings(
                queue_us=round(found.queue_s * 1e6),
                tokenize_us=round(found.tokenize_s * 1e6),
                infer_us=round(found.infer_s * 1e6),
            ),
        )
