"""Guard: what happens around every call, whatever its service.

A call is admitted or refused, counted once, and ends with its answer or with the one status that
its exception maps to. The services behind it only decode, ask a use case, and encode.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, Final, NoReturn, TypeAlias

import grpc
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status

from attar.errors import AttarError, InvalidInput, Overloaded, Unavailable
from attar.server.errors import code_of, to_status
from attar.server.metrics import Metrics

from . import convert

PACKAGES: Final = ("/attar.v1.", "/inference.")
CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"


class Undecodable:
    """Stands for a message that is not the protobuf it should be."""


class Guard(grpc.aio.ServerInterceptor):
    """Admission, counting and error mapping for the services of attar.v1 and of KServe."""

    def __init__(self, metrics: Metrics, *, max_concurrent_requests: int) -> None:
        """Admit up to `max_concurrent_requests` calls at a time, until `drain`."""
        self._metrics = metrics
        self._limit = max_concurrent_requests
        self._in_flight = 0
        self.draining = asyncio.Event()

    def drain(self) -> None:
        """Refuse every new call from now on; those that were admitted go on."""
        self.draining.set()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Wrap the handlers of our services; health and reflection pass as they are."""
        handler = await continuation(handler_call_details)
        method = str(handler_call_details.method)
        if handler is None or not method.startswith(PACKAGES):
            return handler
        rpc = method.removeprefix("/")
        decode, encode = _forgiving(handler.request_deserializer), handler.response_serializer
        if handler.unary_unary is not None:
            call = self._unary(rpc, handler.unary_unary)
            return grpc.unary_unary_rpc_method_handler(call, decode, encode)
        stream = self._stream(rpc, handler.stream_stream)
        return grpc.stream_stream_rpc_method_handler(stream, decode, encode)

    def _unary(self, rpc: str, answer: Any) -> Callable[[Any, Context], Awaitable[Any]]:
        async def call(request: Any, context: Context) -> Any:
            try:
                with self.admitted(rpc):
                    return await answer(_decoded(request), context)
            except Exception as error:  # noqa: BLE001 (the edge: every caller is answered)
                await _abort(context, to_status(error, fields=convert.fields(request)))

        return call

    def _stream(self, rpc: str, answer: Any) -> Callable[[Any, Context], Awaitable[None]]:
        async def call(requests: AsyncIterator[Any], context: Context) -> None:
            try:
                with self.admitted(rpc):
                    decoded = (_decoded(request) async for request in requests)
                    async with aclosing(answer(decoded, context)) as answers:
                        async for message in answers:
                            await context.write(message)
            except Exception as error:  # noqa: BLE001 (the edge: every caller is answered)
                await _abort(context, to_status(error))

        return call

    @contextmanager
    def admitted(self, rpc: str) -> Iterator[None]:
        """Admit one call, whatever carries it, and count its end under the status it will have."""
        outcome = "OK"
        self._metrics.started()
        try:
            self._admit()
            self._in_flight += 1
            try:
                yield
            finally:
                self._in_flight -= 1
        except asyncio.CancelledError:
            outcome = grpc.StatusCode.CANCELLED.name
            raise
        except Exception as error:
            outcome = code_of(error).name
            raise
        finally:
            self._metrics.ended(rpc, outcome)

    def _admit(self) -> None:
        refusal: AttarError | None = None
        if self.draining.is_set():
            refusal = Unavailable("the server is shutting down; ask another, or retry later")
        elif self._in_flight >= self._limit:
            refusal = Overloaded(f"{self._in_flight} calls are in flight, the limit; retry later")
        if refusal is not None:
            self._metrics.rejected(refusal.reason)
            raise refusal


async def _abort(context: Context, status: Status) -> NoReturn:
    trailer = ("grpc-status-details-bin", status.SerializeToString())
    await context.abort(CODES[status.code], status.message, trailing_metadata=(trailer,))
    raise AssertionError  # abort raises


def _forgiving(decode: Any) -> Callable[[bytes], Any]:
    """Let a malformed message reach the handler: raised in here, gRPC would call it INTERNAL."""

    def attempt(message: bytes) -> Any:
        try:
            return decode(message)
        except DecodeError:
            return Undecodable()

    return attempt


def _decoded(request: Any) -> Any:
    if isinstance(request, Undecodable):
        raise InvalidInput(
            "the message is not the protobuf that this call takes; check the client's .proto"
        )
    return request
