"""The gRPC server: its options, its interceptor and its port."""

import asyncio
import socket
from typing import Final

import grpc

from attar.errors import InvalidInput

from ..admission import Admission
from ..limits import file_descriptors
from ..rest.server import site
from ..security.tls import Certificate
from ..settings import Settings
from . import incremental_protobuf
from .call_timeout import note_tasks
from .interceptor import AdmissionInterceptor, CallTimeouts

_UNASKED_BYTES: Final = 2**14
_MAX_PENDING: Final = 8192  # calls; some 1.5 kB each, with a short text
_MAX_PENDING_S: Final = 600  # their own deadlines come first
_ENDED: Final = 2  # times the calls of a connection: with as many as those, honest bursts fail
_PING_EVERY_S: Final = 60  # where nothing came for so long


def grpc_server(admission: Admission, settings: Settings, *, shared: bool) -> grpc.aio.Server:
    """A server without services or a port; with `shared`, other processes may take its port."""
    note_tasks(asyncio.get_running_loop())
    timeouts = CallTimeouts(
        read_timeout_s=settings.grpc_read_timeout_s,
        stream_idle_timeout_s=settings.stream_idle_timeout_s,
    )
    return grpc.aio.server(
        interceptors=(
            AdmissionInterceptor(
                admission,
                timeouts,
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


def refuse_taken(settings: Settings) -> None:
    """Refuse a port that another server shares with nobody, or with workers of its own."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise _taken(settings) from error


def bind(server: grpc.aio.Server, settings: Settings, shown: Certificate | None) -> int:
    """Take the port of the settings, by TLS with a certificate; raises InvalidInput."""
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
