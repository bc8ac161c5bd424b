"""The client whose methods wait for the response."""

import functools
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from attar.errors import InvalidInput
from attar.target import Target
from attar.v1 import embedding_pb2
from attar.values import Embedded

from .call import Call, among, row_of
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


class Client(Methods):
    """A server at `target`, host:port; use it in a `with` block, from any thread."""

    def __init__(self, target: str, *, key: str | None = None, tls: Tls | None = None) -> None:
        """Connect at the first call, by TLS where `tls` is given.

        `key` is the key that the server asks for. Raises InvalidInput for a target that is no
        host:port, or a file that cannot be read.
        """
        self._target = Target(target, tls=tls is not None)
        self._recreate = functools.partial(type(self), target, key=key, tls=tls)
        self._metadata = credentials(self._target, key)
        self._closed = threading.Event()
        options = (*OPTIONS, *self._target.options)
        self._channel = (
            grpc.insecure_channel(target, options=options)
            if tls is None
            else grpc.secure_channel(target, channel_credentials(tls), options=options)
        )

    def __reduce__(self) -> tuple[Callable[[], object], tuple[()]]:
        """Pickle the arguments, the key too; an unpickled client connects again."""
        return self._recreate, ()

    def __enter__(self) -> Self:
        """The client itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection; calls in flight are cancelled."""
        self._closed.set()
        self._channel.close()

    def _opened(self) -> grpc.Channel:
        if self._closed.is_set():
            raise InvalidInput(CLOSED)
        return self._channel

    @staticmethod
    def _unary(make: Callable[..., Call[R]]) -> Callable[..., R]:
        def method(self: "Client", /, *args: Any, **kwargs: Any) -> R:
            return self._send(make(*args, **kwargs))

        return method

    @staticmethod
    def _series(make: Callable[..., Iterator[Part]]) -> Callable[..., int]:
        def method(self: "Client", /, *args: Any, **kwargs: Any) -> int:
            written = 0
            for size, call in make(*args, **kwargs):
                with among(written, size):
                    self._send(call)
                written += size
            return written

        return method

    @staticmethod
    def _stream(make: Callable[..., EmbedStream]) -> Callable[..., Iterator[Embedded]]:
        def method(self: "Client", /, *args: Any, **kwargs: Any) -> Iterator[Embedded]:
            return self._receive(make(*args, **kwargs))

        return method

    def _receive(self, stream: EmbedStream) -> Iterator[Embedded]:
        def requests() -> Iterator[embedding_pb2.EmbedRequest]:
            with stream.holding_errors():
                for batch in row_of("batches", stream.batches):
                    yield stream.request(batch)

        with call_metadata(STREAM, self._metadata) as metadata:
            responses = self._opened().stream_stream(
                STREAM, serialize, embedding_pb2.EmbedResponse.FromString
            )(requests(), timeout=stream.timeout_s, metadata=metadata)
            try:
                for response in responses:
                    yield stream.decode(response)
            except grpc.RpcError as error:
                raise explain(error, self._target, metadata)[0] from None
            finally:
                responses.cancel()
        stream.raise_held()

    def _send(self, call: Call[R]) -> R:
        attempts = Attempts(call)
        invoke = self._opened().unary_unary(call.rpc, serialize, call.response.FromString)
        with call_metadata(call.rpc, self._metadata) as metadata:
            while True:
                try:
                    response = invoke(call.request, timeout=attempts.left_s, metadata=metadata)
                    return call.decode(response)
                except grpc.RpcError as failure:
                    error, delay = explain(failure, self._target, metadata, hint=call.hint)
                    pause = attempts.pause(error, delay)
                    if pause is None:
                        raise error from None
                if self._closed.wait(pause):
                    raise InvalidInput(CLOSED)
