"""The process: load the bundles, answer on a port, and leave without losing anything."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2_grpc

from attar.errors import InvalidInput

from . import admission_factory, model_factory
from .admission import Admission
from .engine.models import Models
from .limits import file_descriptors, malloc_trim
from .limits.head_capacity import Capacity
from .observability import logs
from .observability.metrics import Metrics
from .observability.metrics_server import MetricsServer
from .processes.pool import Workers, part_of_the_cores
from .rest.server import HTTP_ROUTES, RestServer, site
from .rpc import health, reflection
from .rpc.methods import JSON_ROUTES, RPCS, SERVICE_NAMES
from .rpc.server import bind, grpc_server, refuse_taken
from .rpc.services import Services
from .security.tls import certificate
from .settings import Settings, describe, service_links

log = logging.getLogger("attar.server")


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
    metrics = Metrics(
        (*RPCS, *HTTP_ROUTES, *JSON_ROUTES) if settings.http_port is not None else RPCS
    )
    async with AsyncExitStack() as stack:
        # What is cheap and may fail comes first: a taken port is refused before a bundle is read.
        admission = admission_factory.admission(settings, metrics, stack)
        if first and shared:
            refuse_taken(settings)
        server = grpc_server(admission, settings, shared=shared)
        stack.push_async_callback(server.stop, None)  # where the start fails halfway
        shown = certificate(settings)
        port = bind(server, settings, shown)
        workers = Workers(settings)
        stack.callback(workers.close)
        if workers.address is not None:
            server.add_insecure_port(workers.address)
        web = RestServer(settings, shared=shared)
        stack.callback(web.close)
        capacity = Capacity(settings.max_heads_bytes)
        models = model_factory.models(
            settings,
            metrics,
            capacity=capacity if first else None,
            shared=shared,
            ledger=owner.parent if owner else workers.folder,
        )
        await _tell_vitals(metrics, models, admission, settings, stack)
        await models.start()
        stack.push_async_callback(models.close, drain=True)
        if first:  # after what may have been mistyped: a mistake is one line
            log.info("settings\n%s", describe(settings))
        services = Services(server, models, settings)
        await services.add(admission.draining, stack, capacity=capacity, owner=owner)
        healthy = health.HealthService(models, SERVICE_NAMES, max_streams=settings.max_streams)
        health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
        if settings.reflection:
            reflection.add_to(server, (*SERVICE_NAMES, health.SERVICE.full_name))
        healthy.look()
        await server.start()
        await web.start(models, admission, shown, services.http_routes())
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


def _write_ready(path: Path | None, port: int, stack: AsyncExitStack) -> None:
    """Write the file by renaming: a reader never meets an empty one."""
    if path is None:
        return
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(f"{port}\n", "utf-8")
    partial.replace(path)
    stack.callback(path.unlink, missing_ok=True)
