"""The metrics server: metrics, liveness and readiness, by a thread, a loop and a port of its own.

Whatever the server's loop does, or is kept from doing, these are answered: an orchestrator must not
kill a server because it is busy. A connection has one request and a few seconds for all of it, and
where there are too many the oldest one goes, so nobody can keep the others out.
"""

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final, Never

import h11
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from attar.errors import PermissionDenied

from ..security.browser import Site

log = logging.getLogger("attar.server")

MAX_CONNECTIONS: Final = 64
WHOLE_S: Final = 5.0
"""Of a connection: in this time its request must have come and its answer been taken."""
STUCK_S: Final = 30.0
"""The server's loop has not run for so long: no load does that, and only a restart helps."""
MAX_HEAD_BYTES: Final = 2**14
_BEAT_S: Final = 0.25
_REST: Final = 9  # times what writing the metrics took: scrapes take a tenth of a core at most
_MAX_REST_S: Final = 1.0
_PLAIN: Final = "text/plain; charset=utf-8"
ROUTES: Final = ("/metrics", "/livez", "/readyz")


class Heartbeat:
    """When the server's loop ran last; written there, and read by another thread."""

    def __init__(self) -> None:
        """Begin now."""
        self._last = time.monotonic()

    @property
    def age_s(self) -> float:
        """Seconds since it ran."""
        return time.monotonic() - self._last

    async def beat(self) -> Never:
        """Report that the loop runs, until cancelled."""
        while True:
            self._last = time.monotonic()
            await asyncio.sleep(_BEAT_S)


class MetricsServer:
    """The port, from `start` to `close`."""

    def __init__(self, host: str, port: int, *, registry: CollectorRegistry, site: Site) -> None:
        """Take the port, and answer no pages of another site than `site`; OSError if it is taken.

        `registry` holds what scrapes return.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
        except OSError:
            self._socket.close()
            raise
        self._scrapes = _Scrapes(registry)
        self._site = site
        self._pulse = Heartbeat()
        self._why_not: Callable[[], str] = lambda: "the server is starting"
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="attar-vitals", daemon=True)
        self._connections: dict[_Connection, None] = {}  # the oldest first
        self._beating: asyncio.Task[Never] | None = None

    @property
    def port(self) -> int:
        """The port that is taken."""
        return int(self._socket.getsockname()[1])

    async def start(self, why_not: Callable[[], str]) -> None:
        """Answer; `why_not` says why the server is not ready, or "" where it is.

        It is called by another thread.
        """
        self._why_not = why_not
        self._beating = asyncio.create_task(self._pulse.beat(), name="heartbeat of the loop")
        self._thread.start()
        await asyncio.to_thread(self._listening.wait)

    def close(self) -> None:
        """End the thread and give the port back."""
        if self._beating is not None:
            self._beating.cancel()
        if self._thread.is_alive():
            with suppress(RuntimeError):  # it has ended meanwhile
                self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._socket.close()
        self._loop.close()

    async def respond(self, target: str, headers: dict[str, str]) -> tuple[int, str, bytes]:
        """The status, type and body that a GET of `target` is answered with."""
        path = target.partition("?")[0]
        try:
            self._site.refuse_pages(headers)
        except PermissionDenied as refusal:
            return 403, _PLAIN, f"{refusal}\n".encode()
        stuck = self._pulse.age_s > STUCK_S
        if path == "/metrics":
            kind, body = await self._scrapes.get(headers.get("accept", ""))
            return 200, kind, body
        if path == "/livez":
            return (503, _PLAIN, b"the loop is stuck\n") if stuck else (200, _PLAIN, b"live\n")
        if path == "/readyz":
            why = "the loop is stuck" if stuck else self._why_not()
            return (503, _PLAIN, f"{why}\n".encode()) if why else (200, _PLAIN, b"ready\n")
        return 404, _PLAIN, f"no route there; there are {', '.join(ROUTES)}\n".encode()

    def opened(self, connection: "_Connection") -> None:
        """Count a connection; where there are too many the oldest one goes."""
        self._connections[connection] = None
        if len(self._connections) > MAX_CONNECTIONS:
            next(iter(self._connections)).abort()

    def closed(self, connection: "_Connection") -> None:
        """Forget a connection."""
        self._connections.pop(connection, None)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        opening = self._loop.create_server(lambda: _Connection(self), sock=self._socket)
        listening = self._loop.run_until_complete(opening)
        self._listening.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._end(listening))
        self._scrapes.close()

    async def _end(self, listening: asyncio.Server) -> None:
        listening.close()
        for connection in [*self._connections]:
            connection.abort()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0)  # in which the sockets are closed


class _Scrapes:
    """The metrics as they are written: by one thread, for all who wait when it begins."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="attar-scrape")
        self._cached: dict[str, tuple[float, bytes]] = {}  # by type: when it was begun, and what
        self._writing = asyncio.Lock()
        self._rested_s = 0.0  # when the next may be begun

    async def get(self, accept: str) -> tuple[str, bytes]:
        """Give the type that an Accept header asks for, and all metrics in it as they are now."""
        encode, kind = choose_encoder(accept)
        came_s = time.monotonic()
        async with self._writing:
            began_s, body = self._cached.get(kind, (float("-inf"), b""))
            if began_s < came_s:
                await asyncio.sleep(self._rested_s - time.monotonic())
                began_s = time.monotonic()
                loop = asyncio.get_running_loop()
                body = await loop.run_in_executor(self._thread, encode, self._registry)
                took_s = time.monotonic() - began_s
                self._rested_s = began_s + took_s + min(_MAX_REST_S, _REST * took_s)
                self._cached[kind] = (began_s, body)
        return kind, body

    def close(self) -> None:
        """End the thread, which may write still."""
        self._thread.shutdown(wait=False, cancel_futures=True)


class _Connection(asyncio.Protocol):
    """One connection: one request, one answer, and the end."""

    def __init__(self, metrics_server: MetricsServer) -> None:
        self._metrics_server = metrics_server
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._transport: asyncio.Transport
        self._answering: asyncio.Task[None] | None = None
        self._is_head = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Give it its time."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._timer = asyncio.get_running_loop().call_later(WHOLE_S, self.abort)
        self._metrics_server.opened(self)

    def data_received(self, data: bytes) -> None:
        """Answer once the head is whole; what comes after it is nobody's."""
        if self._answering is not None:
            return
        try:
            self._http.receive_data(data)
            request = self._http.next_event()
        except h11.RemoteProtocolError:
            self._write(400, _PLAIN, b"this is no request of HTTP/1.1\n")
            return
        if isinstance(request, h11.Request):
            self._answering = asyncio.get_running_loop().create_task(self._respond(request))

    def connection_lost(self, _error: Exception | None) -> None:
        """Let it go."""
        self._timer.cancel()
        self._metrics_server.closed(self)
        if self._answering is not None:
            self._answering.cancel()

    def abort(self) -> None:
        """End it now, whatever it owes or is owed."""
        self._metrics_server.closed(self)
        self._transport.abort()

    async def _respond(self, request: h11.Request) -> None:
        if request.method not in (b"GET", b"HEAD"):
            self._write(405, _PLAIN, b"GET it\n")
            return
        self._is_head = request.method == b"HEAD"
        headers = {name.decode(): value.decode("latin-1") for name, value in request.headers}
        target = request.target.decode("latin-1")
        self._write(*await self._metrics_server.respond(target, headers))

    def _write(self, status: int, kind: str, body: bytes) -> None:
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            head = h11.Response(
                status_code=status,
                headers=[
                    ("content-type", kind),
                    ("content-length", str(len(body))),
                    ("connection", "close"),
                ],
            )
            sent = self._http.send(head) or b""
            self._transport.write(sent if self._is_head else sent + body)
        self._transport.close()
