"""Health over gRPC: of the whole, of each service and of each model, as they are now."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final, Never

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from attar.errors import Overloaded

from ..engine.models import Models
from ..limits.stream_slots import StreamSlots
from .interceptor import Context

SERVICE: Final = health_pb2.DESCRIPTOR.services_by_name["Health"]
EVERY_S: Final = 1.0
MAX_NAME: Final = 256  # characters; gRPC keeps a message as long as its call goes on

_STATE: Final = health_pb2.HealthCheckResponse


class HealthService(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """grpc.health.v1.Health; the servicer of grpcio forgets all who watch when one of them leaves.

    The empty name is the whole server: it and every service can answer when every model can.
    """

    def __init__(self, models: Models, services: Iterable[str], *, max_streams: int) -> None:
        """Begin as not serving; `keep` looks at the models. So many may watch."""
        self._models = models
        self._watching = StreamSlots("max_streams", max_streams, what="streams that watch")
        self._services = ("", *services)
        self._states = dict.fromkeys(self._services, _STATE.NOT_SERVING)
        self._draining = False
        self._changed = asyncio.Event()

    async def Check(self, request: Any, context: Context) -> Any:
        await _refuse_long(request, context)
        if request.service not in self._states:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no service or model has that name")
        return _STATE(status=self._states[request.service])

    async def Watch(
        self,
        request: Any,
        context: Context,
    ) -> AsyncIterator[Any]:
        await _refuse_long(request, context)
        try:
            with self._watching.held(context.peer()):
                reported = None
                while True:
                    changed = self._changed
                    state = self._states.get(request.service, _STATE.SERVICE_UNKNOWN)
                    if state != reported:
                        yield _STATE(status=state)
                        reported = state
                    if self._draining:  # a stream that stayed open would use up the grace
                        return
                    await changed.wait()
        except Overloaded as refusal:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(refusal))

    async def keep(self) -> Never:
        """Look at the models again and again, for as long as the server serves."""
        while True:
            self.look()
            await asyncio.sleep(EVERY_S)

    def look(self) -> None:
        """Report the models as they are now."""
        models = [(model.name, model.ready) for model in self._models]
        named: dict[str, bool] = {}
        for name, ready in models:  # one version that answers is enough
            named[name] = named.get(name, False) or ready
        all_ready = self._models.ready
        self._tell({**named, **dict.fromkeys(self._services, all_ready)})

    def drain(self) -> None:
        """Serve nothing from now on, and end the streams that watch."""
        self._draining = True
        self._tell(dict.fromkeys(self._states, False))

    def _tell(self, serving: dict[str, bool]) -> None:
        states = {
            name: _STATE.SERVING if good else _STATE.NOT_SERVING for name, good in serving.items()
        }
        if states != self._states or self._draining:
            self._states = states
            self._changed.set()
            self._changed = asyncio.Event()


async def _refuse_long(request: Any, context: Context) -> None:
    if (length := len(request.service)) > MAX_NAME:
        message = f"the name has {length} characters, more than {MAX_NAME}; give a service or model"
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, message)
