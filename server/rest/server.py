"""The HTTP server: the port that the settings name, next to gRPC's."""

import logging
import socket
from collections.abc import Sequence
from typing import Final

from attar.errors import InvalidInput

from ..admission import Admission
from ..engine.models import Models
from ..security.browser import Site
from ..security.tls import Certificate
from ..settings import Settings
from .endpoint import Route
from .listener import ConnectionLimits, Listener
from .routes import ROUTES, Limits, application

log = logging.getLogger("attar.server")

HTTP_ROUTES: Final = tuple(route.name for route in ROUTES)


class RestServer:
    """HTTP from `start` to `stop`, or nothing where `http_port` is off."""

    def __init__(self, settings: Settings, *, shared: bool = False) -> None:
        """Take the port, which workers share; raises InvalidInput when it is taken already."""
        self._settings = settings
        self._socket = None if settings.http_port is None else _bind(settings, shared=shared)
        self._listener: Listener | None = None

    @property
    def port(self) -> int | None:
        """The port that is taken; None where there is none."""
        return None if self._socket is None else int(self._socket.getsockname()[1])

    async def start(
        self,
        models: Models,
        admission: Admission,
        shown: Certificate | None,
        more: Sequence[Route] = (),
    ) -> None:
        """Answer for these models, and `more` routes, by TLS with a certificate."""
        if self._socket is None:
            return
        chosen = self._settings
        limits = Limits(
            max_items=chosen.max_items,
            max_message_bytes=chosen.max_message_bytes,
            max_json_values=chosen.max_json_values,
            max_name_characters=chosen.max_name_characters,
            max_concurrent_requests=chosen.max_concurrent_requests,
            max_batch_tokens=chosen.max_batch_tokens,
            read_timeout_s=chosen.http_read_timeout_s,
            cors_allow_origin=chosen.cors_allow_origin,
            site=None if chosen.has_keys else site(chosen),
            truncate=chosen.openai_truncate,
        )
        connection_limits = ConnectionLimits(
            read_timeout_s=chosen.http_read_timeout_s,
            keep_alive_s=chosen.http_keep_alive_s,
            max_connections=chosen.max_http_connections,
        )
        self._listener = Listener(
            application(models, admission, limits, more), self._socket, connection_limits, shown
        )
        try:
            await self._listener.start()
        except OSError as error:  # another, that took it at the same time, listens already
            raise _taken(chosen, error) from error
        log.info("HTTP on %s:%d", chosen.host, self.port)

    async def stop(self, grace_s: float) -> None:
        """Let accepted requests end within the grace, and refuse new ones meanwhile."""
        if self._listener is not None:
            await self._listener.stop(grace_s)

    def close(self) -> None:
        """Give the port back."""
        if self._socket is not None:
            self._socket.close()


def site(settings: Settings) -> Site:
    """By which names these settings let the server be called, and which pages may call it."""
    names = (settings.host.lower(), *settings.allowed_hosts)
    return Site(names=names, origins=settings.cors_allow_origin)


def _bind(settings: Settings, *, shared: bool) -> socket.socket:
    """Take the port without listening yet: a caller that is too early is refused."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # Named TCP, so that asyncio sets TCP_NODELAY: else the end of an answer waits 40 ms for an ACK.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        bound.bind((settings.host, settings.http_port))
    except OSError as error:
        bound.close()
        raise _taken(settings, error) from error
    return bound


def _taken(settings: Settings, error: OSError) -> InvalidInput:
    return InvalidInput(
        f"cannot listen on {settings.host}:{settings.http_port} for HTTP: "
        f"{error.strerror or error}; choose another --http-port (0 takes a free one, off none)"
    )
