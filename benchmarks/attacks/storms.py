"""Attacks by storms: requests that end early, come all at once, or never quite end."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

import grpc
from grpc_reflection.v1alpha import reflection_pb2

from .ground import HONEST, Attack, Outcome, attacked
from .h2 import Connection
from .held import EMBED, EMBED_STREAM, REFLECT, embed_request, until

CALLS: Final = 1000
CONNECTIONS: Final = 4
AT_ONCE: Final = 100  # calls of a connection, before it is waited for them
GROWTH_MB: Final = 150.0
DEADLINE_S: Final = 60.0
MANY: Final = 2000  # requests on one connection
LARGE: Final = 2**23  # bytes
PART: Final = 2**16


def cancelled_streams(folder: Path) -> Outcome:
    """Open streams, ask once on each, and reset it before or after its answer."""
    request = embed_request([HONEST])
    with attacked(folder) as server, ExitStack() as stack:
        conns = [stack.enter_context(Connection(server.server.port)) for _ in range(CONNECTIONS)]
        before = server.server.rss_mb
        for number in range(CALLS):
            connection = conns[number % CONNECTIONS]
            opened = connection.open(EMBED_STREAM) + connection.data(request, end=False)
            connection.send(opened + (connection.reset() if number % 2 else b""))
            if number % AT_ONCE == 0:
                time.sleep(0.2)
            if not number % 2:
                connection.send(connection.reset())
        ended = until(lambda: server.server.metrics()["attar_streams"] == 0)
        growth = server.peak_mb - before
        return server.outcome(
            held=ended and growth < GROWTH_MB,
            note=f"{CALLS} streams; none is left: {ended}; +{growth:.0f} MB",
        )


def spent_deadlines(folder: Path) -> Outcome:
    """Make calls whose deadline is a nanosecond, and others whose deadline is in years."""
    request = embed_request([HONEST])
    with attacked(folder) as server, ExitStack() as stack:
        conns = [stack.enter_context(Connection(server.server.port)) for _ in range(CONNECTIONS)]
        before = server.server.rss_mb
        for number in range(CALLS):
            connection = conns[number % CONNECTIONS]
            timeout = {"grpc-timeout": "99999999H" if number % 10 == 0 else "1n"}
            connection.send(connection.open(EMBED, timeout) + connection.data(request))
            if number % AT_ONCE == 0:
                time.sleep(0.2)
        ended = until(lambda: server.server.metrics()["attar_in_flight"] <= 1)
        growth = server.peak_mb - before
        return server.outcome(
            held=ended and growth < GROWTH_MB,
            note=f"{CALLS} calls; all have ended: {ended}; +{growth:.0f} MB",
        )


def names_without_number(folder: Path) -> Outcome:
    """Ask one reflection stream for thousands of names that nothing has, each of a kilobyte."""
    with attacked(folder) as server, grpc.insecure_channel(server.server.target) as channel:
        before = server.server.rss_mb
        kind = reflection_pb2.ServerReflectionRequest
        requests = (kind(file_containing_symbol=f"{i}." + "a" * 1000) for i in range(MANY))
        stream = channel.stream_stream(
            REFLECT,
            request_serializer=kind.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        codes = {answer.error_response.error_code for answer in stream(requests, timeout=120)}
        growth = server.peak_mb - before
        return server.outcome(
            held=codes == {grpc.StatusCode.NOT_FOUND.value[0]} and growth < GROWTH_MB,
            note=f"{MANY} names; codes {sorted(codes)}; +{growth:.0f} MB",
        )


def pipelined_requests(folder: Path) -> Outcome:
    """Send thousands of requests at once on each connection, and read what comes."""
    paths = ("/v2/models/tiny", "/openapi.json", "/v1/models", "/nowhere")
    sent = b"".join(
        f"GET {paths[i % len(paths)]} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()
        for i in range(MANY - 1)
    )
    sent += b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    with attacked(folder) as server:
        before = server.server.rss_mb
        came = [_came(server.server.http_port, iter([sent])) for _ in range(2)]
        answered = [each.count(b"HTTP/1.1 200") + each.count(b"HTTP/1.1 404") for each in came]
        growth = server.peak_mb - before
        return server.outcome(
            held=max(answered) <= MANY and min(answered) > 0 and growth < GROWTH_MB,
            note=f"{answered} of {MANY} each were answered; +{growth:.0f} MB",
        )


def endless_framing(folder: Path) -> Outcome:
    """Send bodies whose chunks have extensions, trailers or no end, and heads without end."""
    start = b"POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\n"
    start += b"content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    part = b"a" * PART
    many = LARGE // PART
    endless = {
        "an extension": (start + b"1;", part, many),
        "trailers": (start + b"0\r\n", b"x: " + part[:1000] + b"\r\n", LARGE // 1000),
        "the size of a chunk": (start, b"0" * PART, many),
        "chunks of one byte": (start, b"1\r\n \r\n" * 1000, LARGE // 6000),
        "a name": (b"GET / HTTP/1.1\r\n", part, many),
        "names": (b"GET / HTTP/1.1\r\n", b"x: y\r\n" * 1000, LARGE // 6000),
        "a path": (b"GET /", part, many),
        "empty lines": (b"", b"\r\n" * 1000, LARGE // 2000),
    }
    with attacked(folder, "--http-read-timeout-s", 10) as server:
        before, answers = server.server.rss_mb, dict[str, str]()
        for name, (first, then, times) in endless.items():
            came = _came(server.server.http_port, _repeated(first, then, times))
            answers[name] = came[9:12].decode() or "closed"
        growth = server.peak_mb - before
        wrong = {name: code for name, code in answers.items() if code not in ("400", "closed")}
        return server.outcome(
            held=not wrong and growth < GROWTH_MB,
            note=f"{len(answers)} without an end: {answers}; +{growth:.0f} MB",
        )


def _repeated(first: bytes, then: bytes, times: int) -> Iterator[bytes]:
    yield first
    for _ in range(times):
        yield then


def _came(port: int, parts: Iterator[bytes]) -> bytes:
    """Send until the server closes, and give what it sends until it says no more for a while."""
    came = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as connection:
        with suppress(OSError):
            for part in parts:
                connection.sendall(part)
        connection.settimeout(15.0)
        with suppress(OSError):
            while part := connection.recv(PART):
                came += part
    return bytes(came)


ATTACKS: Final = (
    Attack("1,000 streams that are reset", cancelled_streams),
    Attack("1,000 calls whose deadline is a nanosecond", spent_deadlines),
    Attack("2,000 names that reflection does not know", names_without_number),
    Attack("2,000 requests at once on a connection", pipelined_requests),
    Attack("HTTP framing without an end", endless_framing),
)
