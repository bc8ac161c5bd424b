"""The process: load the bundles, answer on a port, and leave without losing anything."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc
from grpc_health.v1 import health_pb2_grpc
from tritonclient.grpc import service_pb2_grpc

from attar.errors import InvalidInput
from attar.v1 import (
    anomaly_pb2_grpc,
    classification_pb2_grpc,
    collections_pb2_grpc,
    embedding_pb2_grpc,
    info_pb2,
    info_pb2_grpc,
    models_pb2_grpc,
)

from . import model_factory
from .admission import Admission
from .collections.factory import open_store
from .engine.models import Models
from .limits import file_descriptors, malloc_trim
from .limits.usage import Ledger
from .limits.working_memory import WorkingMemory
from .observability import logs
from .observability.metrics import Metrics
from .observability.metrics_server import MetricsServer
from .processes.pool import Workers, part_of_the_cores
from .rest.server import HTTP_ROUTES, RestServer, site
from .rpc import health, incremental_protobuf, kserve_grpc, reflection
from .rpc.anomaly import AnomalyService
from .rpc.call_timeout import note_tasks
from .rpc.classification import ClassificationService
from .rpc.collections import CollectionsService
from .rpc.embedding import EmbeddingService
from .rpc.info import InfoService
from .rpc.interceptor import AdmissionInterceptor, CallTimeouts
from .rpc.methods import OWNER_SERVICES, RPCS, SERVICE_NAMES
from .rpc.models import ModelsService
from .rpc.proxy import Forward
from .security.access import Access, parse_keys
from .security.tls import Certificate, certificate
from .settings import Settings, describe, service_links
from .usecases.anomaly import Anomaly
from .usecases.classification import Classification
from .usecases.collections import Collections
from .usecases.embedding_space import Orphans
from .usecases.fit_queue import FitQueue
from .usecases.head_store import Capacity

if TYPE_CHECKING:
    from .observability.tracing import Tracing

log = logging.getLogger("attar.server")

_UNASKED_BYTES: Final = 2**14
_MAX_PENDING: Final = 8192  # calls; some 1.5 kB each, with a short text
_MAX_PENDING_S: Final = 600  # their own deadlines come first
_ENDED: Final = 2  # times the calls of a connection: with as many as those, honest bursts fail
_PING_EVERY_S: Final = 60  # where nothing came for so long
_UNLIMITED: Final = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)


async def serve(
    settings: Settings,
    *,
    ready: Callable[[int], None] | None = None,
    owner: Path | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then finish what was accepted; a second signal kills.

    `ready` is called with the gRPC port once calls are answered. A worker has an `owner`, the
    socket of the process that keeps what is on disk. Raises BundleRefused for a bad bundle,
    InvalidInput for a port that is taken, before anything is served.
    """
    logs.configure(settings.log_format, settings.log_level)
    file_descriptors.take_all()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(logs.wordless)

    starting = asyncio.current_task()

    def once() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
        stop.set()
        if starting is not None:  # nothing was accepted yet, and what loads may take long
            starting.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, once)
    try:
        async with running(settings, owner=owner) as port:
            starting = None
            if ready is not None:
                ready(port)
            await stop.wait()
    except asyncio.CancelledError:
        if starting is None or not stop.is_set():
            raise
        starting.uncancel()
        log.info("stopped before it served anything")


@asynccontextmanager
async def running(settings: Settings, *, owner: Path | None = None) -> AsyncIterator[int]:
    """A server that answers on the port given; leaving the block drains it and closes it."""
    settings = part_of_the_cores(settings)
    first, shared = owner is None, owner is not None or settings.workers > 1
    if first:
        _look_over(settings)
    metrics = Metrics((*RPCS, *HTTP_ROUTES) if settings.http_port is not None else RPCS)
    async with AsyncExitStack() as stack:
        # What is cheap and may fail comes first: a taken port is refused before a bundle is read.
        admission = Admission(
            _access(settings, stack),
            metrics,
            max_concurrent_requests=settings.max_concurrent_requests,
            working=WorkingMemory(settings.max_working_bytes),
            max_streams=settings.max_streams,
            max_untaken_bytes=settings.max_untaken_bytes,
            tracing=_traces(stack),
        )
        if first and shared:
            _refuse_taken(settings)
        server = _server(admission, settings, shared=shared)
        stack.push_async_callback(server.stop, None)  # where the start fails halfway
        shown = certificate(settings)
        port = _bind(server, settings, shown)
        workers = Workers(settings)
        stack.callback(workers.close)
        if workers.address is not None:
            server.add_insecure_port(workers.address)
        web = RestServer(settings, shared=shared)
        stack.callback(web.close)
        models = model_factory.models(
            settings, metrics, shared=shared, ledger=owner.parent if owner else workers.folder
        )
        await _tell_vitals(metrics, models, admission, settings, stack)
        await models.start()
        stack.push_async_callback(models.close, drain=True)
        if first:  # after what may have been mistyped: a mistake is one line
            log.info("settings\n%s", describe(settings))
        orphans = await _add_kept(models, settings, server, stack, owner)
        _add_models(models, settings, server, admission, orphans)
        healthy = health.HealthService(models, SERVICE_NAMES, max_streams=settings.max_streams)
        health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
        if settings.reflection:
            reflection.add_to(server, (*SERVICE_NAMES, health.SERVICE.full_name))
        healthy.look()
        await server.start()
        await web.start(models, admission, shown)
        stack.push_async_callback(workers.stop, 0.0)
        await workers.start(port, web.port)
        watcher = asyncio.create_task(healthy.keep())
        stack.callback(asyncio.create_task(malloc_trim.keep_small(admission)).cancel)
        _write_ready(settings.ready_file, port, stack)
        log.info("serving %s on %s:%d", ", ".join(m.name for m in models), settings.host, port)
        try:
            yield port
        finally:
            watcher.cancel()
            healthy.drain()
            await _leave(admission, server, web, workers, settings.grace_s)
    log.info("stopped; everything that was acknowledged is on disk")


def _access(settings: Settings, stack: AsyncExitStack) -> Access:
    """The keys of a server, and what they have used before, which all of its workers count in."""
    access = Access(
        parse_keys(settings.keys.get_secret_value()) if settings.keys else (),
        file=settings.keys_file,
        admin=settings.admin,
        ledger=Ledger(settings.data_dir / "usage"),
    )
    stack.callback(access.close)
    return access


def _look_over(settings: Settings) -> None:
    """Warn of what an operator may not have meant, and refuse what cannot be written."""
    if settings.exposure is not None:
        log.warning("LISTENING ON %s: %s", settings.host, settings.exposure)
    if links := service_links(os.environ):
        log.warning(
            "%s: from a service called attar, and no settings; enableServiceLinks: false keeps "
            "Kubernetes from setting them",
            ", ".join(links),
        )
    folder, ready = settings.data_dir, settings.ready_file
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        what = "may not be written" if existing.is_dir() else "is no folder"
        raise InvalidInput(f"data_dir {folder}: {existing} {what}; choose another --data-dir")
    if ready is not None and (ready.is_dir() or not ready.parent.is_dir()):
        raise InvalidInput(
            f"ready_file {ready} is a folder, or in none that is there; choose another --ready-file"
        )


async def _leave(
    admission: Admission, server: grpc.aio.Server, web: RestServer, workers: Workers, grace_s: float
) -> None:
    """Refuse new calls in words while accepted ones end, and only then close the ports."""
    log.info("draining: calls that were accepted have %g s", grace_s)
    ends = asyncio.get_running_loop().time() + grace_s
    admission.drain()
    await workers.stop(grace_s)  # the calls that they forward end here
    left = await admission.quiet(max(0.0, ends - asyncio.get_running_loop().time()))
    await asyncio.gather(server.stop(left), web.stop(left))


def _traces(stack: AsyncExitStack) -> "Tracing | None":
    """OpenTelemetry, imported only where its own variable says where to send traces."""
    if not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return None
    from .observability.tracing import Tracing

    tracing = Tracing()
    stack.push_async_callback(asyncio.to_thread, tracing.close)
    return tracing


def _server(admission: Admission, settings: Settings, *, shared: bool) -> grpc.aio.Server:
    note_tasks(asyncio.get_running_loop())
    patience = CallTimeouts(
        read_timeout_s=settings.grpc_read_timeout_s,
        stream_idle_timeout_s=settings.stream_idle_timeout_s,
    )
    return grpc.aio.server(
        interceptors=(
            AdmissionInterceptor(
                admission,
                patience,
                None if settings.has_keys else site(settings),
                max_items=settings.max_items,
                max_payload_values=settings.max_payload_values,
                limits={
                    name: getattr(settings, name) for name in incremental_protobuf.LIMITS.values()
                },
            ),
        ),
        options=(
            ("grpc.max_concurrent_streams", settings.max_connection_streams),
            # Of calls that have ended and that we have still to look at, or to forget: who resets
            # calls gets no further ahead, and who makes many keeps within the first bound.
            ("grpc.http2.max_deallocating_streams", _ENDED * settings.max_connection_streams),
            ("grpc.max_allowed_incoming_connections", file_descriptors.for_connections()),
            ("grpc.server_handshake_timeout_ms", round(settings.grpc_read_timeout_s * 1000)),
            # Those on which no call is made would keep others out.
            # gRPC takes a call whose answer is still being taken for ended, so it comes after that.
            ("grpc.max_connection_idle_ms", round(_idle_s(settings) * 1000)),
            # A connection whose other end is gone answers no ping.
            ("grpc.keepalive_time_ms", _PING_EVERY_S * 1000),
            ("grpc.keepalive_timeout_ms", round(settings.grpc_read_timeout_s * 1000)),
            ("grpc.max_receive_message_length", settings.max_message_bytes),
            # What comes of each message before it is requested; gRPC's own is 64 KiB.
            ("grpc.http2.lookahead_bytes", _UNASKED_BYTES),
            # Else a stream's next messages are kept here by the megabyte before it takes them.
            ("grpc.http2.bdp_probe", 0),
            ("grpc.max_send_message_length", -1),  # bounded by the limits on requests
            # gRPC drops what no handler has taken, in no words of ours, by default from 1,000
            # calls on and after 30 s: a burst that admission would have refused, or answered.
            ("grpc.server.max_pending_requests", _MAX_PENDING),
            ("grpc.server.max_pending_requests_hard_limit", _MAX_PENDING),
            ("grpc.server_max_unrequested_time_in_server", _MAX_PENDING_S),
            # A taken port is an error, and not a second server behind it.
            ("grpc.so_reuseport", int(shared)),
        ),
    )


def _idle_s(settings: Settings) -> float:
    """How long a connection without a call stays open, seconds."""
    return settings.stream_idle_timeout_s + 4 * settings.grpc_read_timeout_s


def _refuse_taken(settings: Settings) -> None:
    """Refuse a port that another server shares with nobody, or with workers of its own."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise _taken(settings) from error


def _bind(server: grpc.aio.Server, settings: Settings, shown: Certificate | None) -> int:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"{host}:{settings.port}"
    try:
        if shown is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, shown.for_grpc())
    except RuntimeError as error:
        raise _taken(settings) from error


def _taken(settings: Settings) -> InvalidInput:
    return InvalidInput(
        f"cannot listen on {settings.host}:{settings.port}: the port is taken, or the address "
        "is not this machine's; choose another --port (0 takes a free one) or --host"
    )


async def _tell_vitals(
    metrics: Metrics,
    models: Models,
    admission: Admission,
    settings: Settings,
    stack: AsyncExitStack,
) -> None:
    """Answer probes and scrapes, while models load too."""
    if settings.metrics_port is None:
        return
    host, port = settings.metrics_host, settings.metrics_port
    try:
        metrics_server = MetricsServer(host, port, registry=metrics.registry, site=site(settings))
    except OSError as error:
        raise InvalidInput(
            f"cannot listen on {host}:{port} for metrics: {error.strerror or error}; choose "
            "another --metrics-port (0 takes a free one, off none) or --metrics-host"
        ) from error
    stack.callback(metrics_server.close)
    if port == 0:
        log.info("metrics on %s:%d", host, metrics_server.port)
    await metrics_server.start(partial(_why_not_ready, models, admission))


def _why_not_ready(models: Models, admission: Admission) -> str:
    return "the server is shutting down" if admission.draining.is_set() else models.why_not_ready


async def _add_kept(
    models: Models,
    settings: Settings,
    server: grpc.aio.Server,
    stack: AsyncExitStack,
    owner: Path | None,
) -> Orphans | None:
    """Add the services of what is kept on disk, or forward them to the process that owns it."""
    if owner is not None:
        channel = grpc.aio.insecure_channel(f"unix:{owner}", options=_UNLIMITED)
        stack.push_async_callback(channel.close)
        server.add_generic_rpc_handlers((Forward(OWNER_SERVICES, channel),))
        return None
    collections = Collections(
        await open_store(settings),
        models,
        max_collections=settings.max_collections,
        max_search_hits=settings.max_search_hits,
        max_answer_bytes=settings.max_answer_bytes,
        max_fit_bytes=settings.max_fit_bytes,
    )
    stack.push_async_callback(collections.close)
    collections_pb2_grpc.add_CollectionsServicer_to_server(
        CollectionsService(collections, _limits(settings)), server
    )
    free, fits, most = settings.min_free_bytes, FitQueue(), settings.max_heads
    capacity = Capacity(settings.max_heads_bytes)
    anomaly = await asyncio.to_thread(
        Anomaly,
        settings.data_dir,
        models,
        collections,
        fits=fits,
        max_heads=most,
        capacity=capacity,
        min_free_bytes=free,
    )
    anomaly_pb2_grpc.add_AnomalyServicer_to_server(
        AnomalyService(anomaly, max_items=settings.max_items), server
    )
    classification = await asyncio.to_thread(
        Classification,
        settings.data_dir,
        models,
        fits=fits,
        max_heads=most,
        capacity=capacity,
        min_free_bytes=free,
    )
    classification_pb2_grpc.add_ClassificationServicer_to_server(
        ClassificationService(
            classification,
            max_items=settings.max_items,
            max_labels=settings.max_labels,
            max_name_characters=settings.max_name_characters,
        ),
        server,
    )
    orphans = Orphans(
        models, collections=collections, anomaly=anomaly, classification=classification
    )
    stack.callback(asyncio.create_task(orphans.keep(), name="look for orphans").cancel)
    return orphans


def _add_models(
    models: Models,
    settings: Settings,
    server: grpc.aio.Server,
    admission: Admission,
    orphans: Orphans | None,
) -> None:
    """Add the services that need models alone."""
    info_pb2_grpc.add_InfoServicer_to_server(InfoService(models, _limits(settings)), server)
    models_pb2_grpc.add_ModelsServicer_to_server(ModelsService(models, orphans), server)
    embedding_pb2_grpc.add_EmbeddingServicer_to_server(
        EmbeddingService(
            models,
            max_items=settings.max_items,
            max_name_characters=settings.max_name_characters,
            max_stream_requests=settings.max_stream_requests,
            draining=admission.draining,
        ),
        server,
    )
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(
        kserve_grpc.KServeService(
            models,
            max_items=settings.max_items,
            max_name_characters=settings.max_name_characters,
            max_stream_requests=settings.max_stream_requests,
            draining=admission.draining,
        ),
        server,
    )


def _limits(settings: Settings) -> info_pb2.Limits:
    """Every limit, by its setting's name."""
    names = [field.name for field in info_pb2.Limits.DESCRIPTOR.fields]
    return info_pb2.Limits(**{name: getattr(settings, name) for name in names})


def _write_ready(path: Path | None, port: int, stack: AsyncExitStack) -> None:
    """Write the file by renaming: a reader never meets an empty one."""
    if path is None:
        return
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(f"{port}\n", "utf-8")
    partial.replace(path)
    stack.callback(path.unlink, missing_ok=True)
