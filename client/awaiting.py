"""The client whose methods are awaited."""

import asyncio
import functools
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from attar.errors import InvalidInput
from attar.target import Target
from attar.v1 import embedding_pb2
from attar.values import Embedded

from .call import Call, Items, TokenIds, among, row_of
from .collections import Part
from .connection import (
    CLOSED,
    OPTIONS,
    Tls,
    call_metadata,
    channel_credentials,
    credentials,
    serialize,
)
from .embedding import STREAM, EmbedStream
from .methods import Methods
from .retries import Attempts, explain

R = TypeVar("R")


class AsyncClient(Methods):
    """A server at `target`, host:port; use it in an `async with` block, in one event loop."""

    def __init__(self, target: str, *, key: str | None = None, tls: Tls | None = None) -> None:
        """Connect at the first call, by TLS where `tls` is given.

        `key` is the key that the server asks for. Raises InvalidInput for a target that is no
        host:port, or a file that cannot be read.
        """
        self._target = Target(target, tls=tls is not None)
        self._recreate = functools.partial(type(self), target, key=key, tls=tls)
        self._metadata = credentials(self._target, key)
        options = (*OPTIONS, *self._target.options)
        # Made at the first call: a channel belongs to the event loop that it is made in.
        self._connect = (
            functools.partial(grpc.aio.insecure_channel, target, options=options)
            if tls is None
            else functools.partial(
                grpc.aio.secure_channel, target, channel_credentials(tls), options=options
            )
        )
        self._channel: grpc.aio.Channel | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def __reduce__(self) -> tuple[Callable[[], object], tuple[()]]:
        """Pickle the arguments, the key too; an unpickled client connects again."""
        return self._recreate, ()

    async def __aenter__(self) -> Self:
        """The client itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls in flight are cancelled."""
        self._closed = True
        if self._channel is not None:
            await self._channel.close()

    def _opened(self) -> grpc.aio.Channel:
        if self._closed:
            raise InvalidInput(CLOSED)
        if self._channel is None:
            self._channel, self._loop = self._connect(), asyncio.get_running_loop()
        elif self._loop is not asyncio.get_running_loop():
            raise InvalidInput("this client was used in another event loop; make one in each loop")
        return self._channel

    @staticmethod
    def _unary(make: Callable[..., Call[R]]) -> Callable[..., Awaitable[R]]:
        async def method(self: "AsyncClient", /, *args: Any, **kwargs: Any) -> R:
            return await self._send(make(*args, **kwargs))

        return method

    @staticmethod
    def _series(make: Callable[..., Iterator[Part]]) -> Callable[..., Awaitable[int]]:
        async def method(self: "AsyncClient", /, *args: Any, **kwargs: Any) -> int:
            written = 0
            for size, call in make(*args, **kwargs):
                with among(written, size):
                    await self._send(call)
                written += size
            return written

        return method

    @staticmethod
    def _stream(make: Callable[..., EmbedStream]) -> Callable[..., AsyncIterator[Embedded]]:
        def method(self: "AsyncClient", /, *args: Any, **kwargs: Any) -> AsyncIterator[Embedded]:
            return self._receive(make(*args, **kwargs))

        return method

    async def _receive(self, stream: EmbedStream) -> AsyncIterator[Embedded]:
        async def requests() -> AsyncIterator[embedding_pb2.EmbedRequest]:
            with stream.holding_errors():
                async for batch in _each(stream.batches):
                    yield stream.request(batch)

        with call_metadata(STREAM, self._metadata) as metadata:
            responses = self._opened().stream_stream(
                STREAM, serialize, embedding_pb2.EmbedResponse.FromString
            )(requests(), timeout=stream.timeout_s, metadata=metadata)
            try:
                async for response in responses:
                    yield stream.decode(response)
            except grpc.RpcError as error:
                raise explain(error, self._target, metadata)[0] from None
            finally:
                responses.cancel()
        stream.raise_held()

    async def _send(self, call: Call[R]) -> R:
        attempts = Attempts(call)
        with call_metadata(call.rpc, self._metadata) as metadata:
            while True:
                invoke = self._opened().unary_unary(call.rpc, serialize, call.response.FromString)
                try:
                    response = await invoke(
                        call.request, timeout=attempts.left_s, metadata=metadata
                    )
                    return call.decode(response)
                except grpc.RpcError as failure:
                    error, delay = explain(failure, self._target, metadata, hint=call.hint)
                    pause = attempts.pause(error, delay)
                    if pause is None:
                        raise error from None
                await asyncio.sleep(pause)


async def _each(
    batches: Iterable[Items | TokenIds] | AsyncIterable[Items | TokenIds],
) -> AsyncIterator[Items | TokenIds]:
    if isinstance(batches, AsyncIterable):
        async for batch in batches:
            yield batch
    else:
        for batch in row_of("batches", batches):
            yield batch
