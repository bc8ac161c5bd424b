"""Tracing: an OpenTelemetry span for each call and for each phase of it, under its caller's span.

Imported only where `OTEL_EXPORTER_OTLP_ENDPOINT` is set. OpenTelemetry's own variables say the
rest: sampling, headers, certificates, the service's name. Spans hold no payload.
"""

import os
import time
from collections.abc import Callable, Mapping
from typing import Final

from attar.errors import InvalidInput, MissingExtra

from ..request_context import Phase, RequestContext

try:
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    what = "OTEL_EXPORTER_OTLP_ENDPOINT is set, and tracing"
    raise MissingExtra(what, "telemetry") from error

_PROTOCOL: Final = "OTEL_EXPORTER_OTLP_PROTOCOL"


class Tracing:
    """The tracer of one server, which sends by OTLP over gRPC."""

    def __init__(self) -> None:
        """Read OpenTelemetry's environment; raises InvalidInput for what it cannot be."""
        if (protocol := os.environ.get(_PROTOCOL, "grpc")) != "grpc":
            raise InvalidInput(f"{_PROTOCOL} is {protocol!r}; attar sends traces by grpc only")
        named = "OTEL_SERVICE_NAME" in os.environ
        resource = Resource.create({} if named else {"service.name": "attar"})
        try:
            self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
            self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        except ValueError as error:
            raise InvalidInput(
                f"a variable of OpenTelemetry, OTEL_..., has no number that it takes: {error}"
            ) from error
        self._tracer = self._provider.get_tracer("attar.server")
        self._context = TraceContextTextMapPropagator()

    def begin(self, call: RequestContext, headers: Mapping[str, str]) -> Callable[[str], None]:
        """Open a call's span and take its phases; gives what closes it with the call's outcome."""
        span = self._tracer.start_span(
            call.rpc,
            context=self._context.extract(headers),
            kind=trace.SpanKind.SERVER,
            attributes={**_described(call.rpc), "attar.request_id": call.request_id},
        )
        if not span.is_recording():
            return lambda _: span.end()
        within = trace.set_span_in_context(span)
        offset = time.time() - time.perf_counter()

        def phase(one: Phase) -> None:
            part = self._tracer.start_span(one.name, within, start_time=_ns(one.start + offset))
            part.end(_ns(one.end + offset))

        def end(outcome: str) -> None:
            span.set_attributes(
                {"attar.outcome": outcome, "attar.items": call.items, "attar.tokens": call.tokens}
            )
            if outcome != "OK":
                span.set_status(trace.StatusCode.ERROR, outcome)
            span.end()

        call.trace = phase
        return end

    def close(self) -> None:
        """Send what is left; blocks for a few seconds where nobody takes it."""
        self._provider.shutdown()


def _described(rpc: str) -> dict[str, str]:
    """OpenTelemetry's words for a gRPC call or an HTTP route."""
    method, of_http, route = rpc.partition(" ")
    if of_http:
        return {"http.request.method": method, "http.route": route}
    service, _, method = rpc.rpartition("/")
    return {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
