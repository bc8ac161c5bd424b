"""The proxy: calls of some services go on, unchanged, to the worker process that answers them."""

from collections.abc import Iterable
from functools import partial
from typing import Any, Final, NoReturn

import grpc

from .interceptor import PEER, Context

_OWN: Final = ("grpc-", "user-agent", ":", PEER)  # what gRPC and this write themselves


class Forward(grpc.GenericRpcHandler):
    """Unary calls of these services, byte for byte; the process that answers admits them, too."""

    def __init__(self, services: Iterable[str], owner: grpc.aio.Channel) -> None:
        """Forward the calls of `services`, by their full names, to `owner`."""
        self._services = frozenset(services)
        self._owner = owner

    def service(self, handler_call_details: Any) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """Take a call of the services, and no other."""
        method = handler_call_details.method
        if method.split("/")[1] not in self._services:
            return None
        return grpc.unary_unary_rpc_method_handler(partial(self.ask, method))

    async def ask(self, method: str, request: bytes, context: Context) -> bytes:
        """Give what the owner answers to a call of `method`, or abort `context` as it did."""
        metadata = context.invocation_metadata() or ()
        theirs = [pair for pair in metadata if not pair[0].startswith(_OWN)]
        ask: Any = self._owner.unary_unary(method)
        call = ask(
            request,
            timeout=context.time_remaining(),
            metadata=[*theirs, (PEER, context.peer())],
        )
        try:
            response: bytes = await call
        except grpc.aio.AioRpcError as error:
            await _pass_on(context, error)
        context.set_trailing_metadata(tuple(await call.trailing_metadata()))
        return response


async def _pass_on(context: Context, error: grpc.aio.AioRpcError) -> NoReturn:
    trailers = tuple(error.trailing_metadata())
    await context.abort(error.code(), error.details() or "", trailing_metadata=trailers)
    raise AssertionError  # abort raises
