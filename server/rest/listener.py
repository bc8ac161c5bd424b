"""The listener of the HTTP port: uvicorn's server inside our own loop.

A connection is closed when a request's head is not whole in time, however busily its bytes drip;
a body has a time of its own at the edge. A caller who takes nothing of an answer is closed by the
kernel, and one who takes it byte by byte is closed here. What answers still owes them is written
before the server stops.
"""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..limits.fair_shares import SLOWEST_BYTES_PER_S, FairShares
from ..security.tls import Certificate

BUSY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\n"
    b"content-length: 0\r\n\r\n"
)
MAX_HEAD_BYTES: Final = 64 * 1024
MAX_HEAD_LINES: Final = 256
"""10,000 lines, which have room in a head, take the loop 45 ms."""
FEW_CHUNKS: Final = 256
CHUNK_BYTES: Final = 256
"""A body has FEW_CHUNKS, and one more for so many bytes: each takes the loop 14 us."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """The limits of the listener's connections."""

    read_timeout_s: float
    keep_alive_s: int
    max_connections: int


class Listener:
    """One HTTP port; it answers from `start` to the end of `stop`."""

    def __init__(
        self,
        app: ASGIApp,
        bound: socket.socket,
        limits: ConnectionLimits,
        certificate: Certificate | None = None,
    ) -> None:
        """Serve `app` on a bound socket, by TLS with a certificate."""
        self._socket = bound
        context = None if certificate is None else lambda _config, _default: certificate.for_http()
        shares = FairShares("max_http_connections", limits.max_connections, what="connections open")
        self._server = _Server(
            uvicorn.Config(
                app,
                http=partial(_Connection, limits=limits, shares=shares),  # type: ignore[arg-type]
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                log_level="error",  # callers learn what they sent wrongly; the log need not
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=limits.keep_alive_s,
                h11_max_incomplete_event_size=MAX_HEAD_BYTES,
                ssl_context_factory=context,
            )
        )
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to listen; connections that come later are answered."""
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        listening = asyncio.create_task(self._server.listening.wait())
        await asyncio.wait((self._serving, listening), return_when=asyncio.FIRST_COMPLETED)
        if not listening.done():
            listening.cancel()
            await self._serving  # raises why

    async def stop(self, grace_s: float) -> None:
        """Let requests in flight end, within so many seconds, and close every connection.

        New ones are accepted until then, so that they get an answer that refuses them.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + grace_s
        tasks = self._server.server_state.tasks
        while tasks and loop.time() < end:
            await asyncio.wait(set(tasks), timeout=end - loop.time())
        self._server.config.timeout_graceful_shutdown = max(0, round(end - loop.time()))
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving


class _Server(uvicorn.Server):
    """uvicorn's server, which leaves the process's signals alone."""

    def __init__(self, config: uvicorn.Config) -> None:
        """Set `listening` once connections are taken."""
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say so."""
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing: server/app.py knows what a signal means."""
        yield


class _Connection(H11Protocol):
    """uvicorn's connection, which waits for no head and no taker of an answer forever."""

    def __init__(
        self, *arguments: Any, limits: ConnectionLimits, shares: FairShares, **options: Any
    ) -> None:
        """Take uvicorn's arguments, our limits, and the shares of all connections."""
        super().__init__(*arguments, **options)
        self._limits = limits
        self._shares = shares
        self._peer: str | None = None  # the address that holds our place
        self._timer: asyncio.TimerHandle | None = None
        self._taking: asyncio.TimerHandle | None = None
        self._chunks: int | None = None  # of the body that comes, None for one with a length
        self._size = 0
        self._h11_event = self.conn.next_event
        self.conn.next_event = self._next_event  # type: ignore[method-assign]  # uvicorn's only door

    def _next_event(self) -> Any:
        """Read what comes next of what has come; refuse many lines of a head, and short chunks.

        uvicorn reads all that has come at one time, 256 KiB, and each part costs more than it has.
        """
        if self.conn.their_state is h11.IDLE:
            came, _ = self.conn.trailing_data
            if came.partition(b"\r\n\r\n")[0].count(b"\n") >= MAX_HEAD_LINES:
                raise h11.RemoteProtocolError("a head of too many lines", error_status_hint=431)
        event = self._h11_event()
        if isinstance(event, h11.Request):
            chunked = any(name == b"transfer-encoding" for name, _ in event.headers)
            self._chunks, self._size = 0 if chunked else None, 0
        elif isinstance(event, h11.Data) and self._chunks is not None:
            self._chunks += event.chunk_end
            self._size += len(event.data)
            if self._chunks > FEW_CHUNKS + self._size // CHUNK_BYTES:
                raise h11.RemoteProtocolError("chunks that are too short")
        return event

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Give the first request its time, unless there are too many connections."""
        super().connection_made(transport)
        peer = str((transport.get_extra_info("peername") or ("",))[0])
        if not self._shares.take(peer):
            transport.write(BUSY)
            transport.close()
            return
        self._peer = peer
        _drop_when_stalled(transport.get_extra_info("socket"), self._limits.read_timeout_s)
        self._expect()

    def data_received(self, data: bytes) -> None:
        """Count the time of a head from its first byte, not from its last."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        begun = self.cycle is not None  # uvicorn's annotation forgets the None before the first
        if begun and not self.cycle.response_complete:
            self._forget()
        elif self._timer is None:
            self._expect()

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are no request, where the answer to them has not begun.

        What comes behind a head may be wrong after its answer was sent: nothing may follow then.
        """
        if self.conn.our_state is h11.SEND_BODY:  # h11 lets the answer end, and the connection
            self.flow.pause_reading()
            return
        if self.cycle is not None:
            self.cycle.disconnected = True  # it must not answer too
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks and give the place back."""
        self._forget()
        self._taken()
        if self._peer is not None:
            self._shares.give(self._peer)
            self._peer = None
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Give the caller time to take what waits to be written."""
        super().pause_writing()
        waits = self.transport.get_write_buffer_size()
        timeout_s = self._limits.read_timeout_s + waits / SLOWEST_BYTES_PER_S
        self._taking = self.loop.call_later(timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Most of it was taken."""
        self._taken()
        super().resume_writing()

    def _taken(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None

    def _expect(self) -> None:
        self._timer = self.loop.call_later(self._limits.read_timeout_s, self.transport.abort)

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _drop_when_stalled(connection: socket.socket, seconds: float) -> None:
    """Let the kernel close a connection whose peer takes nothing for so long; Linux knows how."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        milliseconds = int(seconds * 1000)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
