"""The interceptor: what happens around every gRPC call, whatever its service.

A call comes in through admission and ends with its answer or with the one status that its exception
maps to. The services behind it only decode, ask a use case, and encode.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import AbstractContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NoReturn, TypeAlias

import grpc
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status

from attar.errors import AttarError, DeadlineExceeded, InvalidInput

from ..admission import REQUEST_ID, Admission
from ..cooperative import came, off_the_loop
from ..errors import to_status
from ..limits.fair_shares import SLOWEST_BYTES_PER_S, ResponseRoom
from ..limits.receive_slots import CALLS_AT_ONCE, PROBES_AT_ONCE, ReceiveSlots
from ..request_context import RequestContext, answering
from ..security.browser import Site
from . import field_counts, incremental_protobuf
from .call_timeout import Ending
from .methods import scope_of

CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"

PEER: Final = "attar-peer"
"""The metadata in which a worker that forwards a call names its caller."""
_WORKER: Final = "unix:"  # only workers come by a socket, which is in a folder of their own
HEALTH: Final = "/grpc.health.v1.Health/"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTimeouts:
    """How long a caller may leave a call as it is."""

    read_timeout_s: float  # for a message to come whole, and an answer to be taken
    stream_idle_timeout_s: float

    def to_take(self, size: int) -> float:
        """Seconds in which an answer of so many bytes must be taken."""
        return self.read_timeout_s + size / SLOWEST_BYTES_PER_S


class AdmissionInterceptor(grpc.aio.ServerInterceptor):
    """Admission of every gRPC call, and the mapping of its errors."""

    def __init__(
        self,
        admission: Admission,
        timeouts: CallTimeouts,
        site: Site | None = None,
        *,
        max_items: int,
        max_payload_values: int,
        limits: Mapping[str, int],
    ) -> None:
        """Let calls in by `admission`, whose messages have fields for so many items and values.

        `limits` are of the settings in messages.LIMITS.

        With a `site`, none of other sites' pages: no page speaks gRPC, but one may come by a proxy
        that translates gRPC-web.
        """
        self._admission = admission
        self._timeouts = timeouts
        self._site = site
        self._max_items = max_items
        self._max_payload_values = max_payload_values
        self._limits = limits
        read_s = timeouts.read_timeout_s
        self._calls = ReceiveSlots(CALLS_AT_ONCE, max_hold_s=read_s, wait_s=read_s)
        self._probes = ReceiveSlots(
            PROBES_AT_ONCE, max_hold_s=read_s, wait_s=read_s
        )  # without keys

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Wrap every handler; the process that answers a forwarded call has an interceptor, too.

        gRPC would receive a unary call's message before its handler, and read it on the loop. So to
        gRPC each takes a stream, which looks the same to the caller, and asks for what it takes.
        """
        handler = await continuation(handler_call_details)
        method = str(handler_call_details.method)
        if handler is None:
            return handler
        rpc = method.removeprefix("/")
        ending = Ending()
        if method.startswith(HEALTH):  # it needs no key, and answers to the end
            return self._probe(handler, ending)
        if handler.request_deserializer is None:
            return grpc.stream_unary_rpc_method_handler(
                self._forwarded(handler.unary_unary, ending)
            )
        # A generated handler has its message's own FromString.
        kind = handler.request_deserializer.__self__  # type: ignore[attr-defined]
        encode = partial(_encoded, handler.response_serializer)
        if handler.unary_unary is not None:
            handle: Any = handler.unary_unary

            async def encoded(request: Message, context: Context) -> bytes:
                return encode(await handle(request, context))

            return grpc.stream_unary_rpc_method_handler(self._unary(rpc, kind, encoded, ending))
        stream = self._stream(rpc, kind, handler.stream_stream, ending)
        return grpc.stream_stream_rpc_method_handler(stream, response_serializer=encode)

    def _unary(
        self,
        rpc: str,
        kind: type[Message],
        handler: Callable[[Message, Context], Awaitable[bytes]],
        ending: Ending,
    ) -> Callable[[object, Context], Awaitable[bytes]]:
        receiving = self._probes if scope_of(rpc) is None else self._calls

        async def call(_: object, context: Context) -> bytes:
            headers = _headers(context)
            with answering(self._admission.open(rpc, headers)) as request_context:
                request_context.fields = kind.DESCRIPTOR.fields_by_name
                data = b""
                try:
                    with self._admitted(request_context, headers, context) as room:
                        self._refuse_pages(headers)
                        async with self._received(
                            context, receiving, request_context.caller
                        ) as data:
                            request_context.hold(await self._weighed(kind, data))
                        encoded = await handler(await self._read(kind, data), context)
                        room.settle(len(encoded))
                except Exception as error:
                    status = to_status(error, fields=request_context.fields)
                else:
                    self._keep(room, ending, len(encoded))
                    return encoded
                del data  # gRPC keeps the frames of the last aborted call until another comes
                return await self._abort(context, request_context, status, ending)

        return call

    @asynccontextmanager
    async def _received(
        self, context: Context, receiving: ReceiveSlots, caller: str
    ) -> AsyncIterator[bytes]:
        """Receive the one message of a call, in its turn, which lasts until the block ends.

        Raises Overloaded, DeadlineExceeded and InvalidInput where there is none.
        """
        read_s = self._timeouts.read_timeout_s
        async with receiving.slot(caller):
            try:
                async with asyncio.timeout(read_s):
                    data: Any = await context.read()
            except TimeoutError:
                raise DeadlineExceeded(
                    f"the message did not come whole in grpc_read_timeout_s, {read_s:g} s; "
                    "send less at a time"
                ) from None
            if data is grpc.aio.EOF:
                raise InvalidInput("the call has no message; send the one that it takes")
            try:
                yield data
            finally:
                del data  # or an error's traceback would keep it

    def _probe(self, handler: Any, ending: Ending) -> Handler:
        """Receive the message of a call of health in its turn, too."""
        kind = handler.request_deserializer.__self__

        async def received(context: Context) -> Message:
            peer = context.peer()
            try:
                async with self._received(context, self._probes, peer) as data:
                    return await self._read(kind, data)
            except AttarError as error:
                request_context = self._admission.open("health", _headers(context))
                await self._abort(context, request_context, to_status(error), ending)

        if handler.unary_unary is not None:

            async def check(_: object, context: Context) -> Any:
                request = await received(context)
                ending.expect(self._timeouts.read_timeout_s)
                return await handler.unary_unary(request, context)

            return grpc.stream_unary_rpc_method_handler(
                check, response_serializer=handler.response_serializer
            )

        async def watch(_: object, context: Context) -> None:
            request = await received(context)
            async with aclosing(handler.unary_stream(request, context)) as states:
                async for state in states:
                    await context.write(state)

        return grpc.stream_stream_rpc_method_handler(
            watch, response_serializer=handler.response_serializer
        )

    def _forwarded(
        self, forward: Any, ending: Ending
    ) -> Callable[[object, Context], Awaitable[bytes]]:
        async def call(_: object, context: Context) -> bytes:
            peer = context.peer()
            room = self._admission.room(peer)
            try:
                async with self._received(context, self._calls, peer) as received:
                    data = received
                with self._admission.passing(len(data), peer):
                    encoded: bytes = await forward(data, context)
                room.settle(len(encoded))
            except AttarError as error:
                request_context = self._admission.open("forward", _headers(context))
                await self._abort(context, request_context, to_status(error), ending)
            self._keep(room, ending, len(encoded))
            return encoded

        return call

    def _keep(self, room: ResponseRoom, ending: Ending, size: int) -> None:
        """Hold the room of an answer until it is taken, which is when its task ends."""
        ending.expect(self._timeouts.to_take(size))
        ending.then(room.leave)

    def _stream(
        self, rpc: str, kind: type[Message], handler: Any, ending: Ending
    ) -> Callable[[AsyncIterator[bytes], Context], Awaitable[None]]:
        async def call(requests: AsyncIterator[bytes], context: Context) -> None:
            headers = _headers(context)
            weights = deque[int]()  # of the requests that have no answer yet, in their order

            async def read() -> AsyncIterator[Message]:
                while (data := await self._came(requests, unanswered=weights)) is not None:
                    request_context.heard()
                    weight = await self._weighed(kind, data)
                    await request_context.wait_to_hold(weight, received=len(data))
                    weights.append(weight)
                    yield await self._read(kind, data)
                    del data  # or it would stay until the next one is there

            with answering(self._admission.open(rpc, headers)) as request_context:
                try:
                    with self._admitted(request_context, headers, context, stream=True):
                        self._refuse_pages(headers)
                        async with aclosing(handler(read(), context)) as responses:
                            async for message in responses:
                                request_context.let_go(weights.popleft() if weights else 0)
                                ending.expect(self._timeouts.to_take(_size(message)))
                                await context.write(message)
                                request_context.heard()
                                ending.stop()
                                del message  # the next may be long in coming
                except Exception as error:
                    await self._abort(context, request_context, to_status(error), ending)

        return call

    async def _weighed(self, kind: type[Message], data: bytes) -> int:
        """The memory that a message is made into, bytes; InvalidInput where it has too many parts.

        What is no message weighs what it has, and is refused when it is read.
        """
        limit = field_counts.most(self._max_items)
        try:
            counts = await off_the_loop(
                len(data),
                lambda: field_counts.count(
                    kind,
                    data,
                    limit=limit,
                    max_payload_values=self._max_payload_values,
                    limits=self._limits,
                ),
            )
        except field_counts.Malformed:
            raise InvalidInput(
                "the message is not the protobuf that this call takes; check the client's .proto"
            ) from None
        return field_counts.weight(data, counts)

    async def _came(
        self, requests: AsyncIterator[bytes], *, unanswered: Collection[int]
    ) -> bytes | None:
        """What comes next on a stream; DeadlineExceeded once nothing has come for too long.

        A caller who waits for an answer is not idle.
        """
        idle_s = self._timeouts.stream_idle_timeout_s
        coming = asyncio.ensure_future(anext(requests))
        try:
            while not (await asyncio.wait((coming,), timeout=idle_s))[0]:
                if not unanswered:
                    raise DeadlineExceeded(
                        f"nothing came on the stream for stream_idle_timeout_s, {idle_s:g} s; "
                        "open another when there is something to send"
                    )
            return coming.result()
        except StopAsyncIteration:
            return None
        finally:
            coming.cancel()

    async def _read(self, kind: type[Message], data: bytes) -> Message:
        came(len(data))
        return await off_the_loop(
            len(data), partial(incremental_protobuf.read, kind, data, limits=self._limits)
        )

    def _admitted(
        self,
        call: RequestContext,
        headers: Mapping[str, str],
        context: Context,
        *,
        stream: bool = False,
    ) -> AbstractContextManager[ResponseRoom]:
        context.set_trailing_metadata(((REQUEST_ID, call.request_id),))
        scope = scope_of(call.rpc)
        peer = context.peer()
        if peer.startswith(_WORKER):
            peer = headers.get(PEER, peer)
        return self._admission.admitted(
            call, scope=scope, headers=headers, peer=peer, stream=stream
        )

    def _refuse_pages(self, headers: Mapping[str, str]) -> None:
        if self._site is not None:
            self._site.refuse_pages(headers)

    async def _abort(
        self, context: Context, call: RequestContext, status: Status, ending: Ending
    ) -> NoReturn:
        """End a call with its status; the caller may be slow to take that, too."""
        ending.expect(self._timeouts.read_timeout_s)
        trailers = (
            (REQUEST_ID, call.request_id),
            ("grpc-status-details-bin", status.SerializeToString()),
        )
        await context.abort(CODES[status.code], status.message, trailing_metadata=trailers)
        raise AssertionError  # abort raises


def _headers(context: Context) -> dict[str, str]:
    metadata = context.invocation_metadata() or ()
    return {name: value for name, value in metadata if isinstance(value, str)}


def _encoded(encode: Any, response: Any) -> bytes:
    """Write what is not written yet: short answers, for long ones are written in a thread."""
    written: bytes = response if isinstance(response, bytes) else encode(response)
    return written


def _size(response: Any) -> int:
    size: int = len(response) if isinstance(response, bytes) else response.ByteSize()
    return size
