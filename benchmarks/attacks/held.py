"""Attacks by what is held: answers not taken, streams that say nothing, half requests, resets."""

import json
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import grpc
import httpx
import trustme
from tritonclient.grpc import service_pb2

from attar import Client
from attar.errors import Overloaded
from attar.server.limits import file_descriptors
from attar.v1 import embedding_pb2, item_pb2

from ..support.bundles import tiny_bundle
from .ground import HONEST, Attack, Attacked, Outcome, attacked
from .h2 import GREETING, RST_STREAM, Connection, message

EMBED: Final = "/attar.v1.Embedding/Embed"
EMBED_STREAM: Final = "/attar.v1.Embedding/EmbedStream"
INFER: Final = "/inference.GRPCInferenceService/ModelInfer"
INFER_STREAM: Final = "/inference.GRPCInferenceService/ModelStreamInfer"
REFLECT: Final = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
WATCH: Final = "/grpc.health.v1.Health/Watch"
CHECK: Final = "/grpc.health.v1.Health/Check"
LIVE: Final = "/inference.GRPCInferenceService/ServerLive"

DIM: Final = 384
TEXTS: Final = ["a"] * 2048  # equal, so they are computed once: 3 MB for 6 kB
UNTAKEN: Final = "attar_untaken_bytes"
MAX_UNTAKEN_BYTES: Final = 64 * 2**20
MAX_SMALL_BYTES: Final = 500  # two answers of one item
GROWTH_MB: Final = 200.0  # of a server that holds half of them, each of their bytes twice
SOON_S: Final = 1.0  # as the timeouts of a server that must show in a test that they end things
DEADLINE_S: Final = 20.0
MANY_STREAMS: Final = 28  # of 32: what one address reaches
LONG: Final = b"x" * 16_000_000  # nearly max_message_bytes; no message of ours
POUR_S: Final = 4.0
IN_TURN_S: Final = 25.0  # in which an honest call is answered while others take all turns
ELSEWHERE: Final = "127.0.0.2"  # the attacker's address, where addresses have shares


def embed_request(texts: Sequence[str]) -> bytes:
    """An EmbedRequest as gRPC sends it."""
    request = embedding_pb2.EmbedRequest(texts=item_pb2.Texts(values=texts))
    return message(request.SerializeToString())


def infer_request(texts: Sequence[str]) -> bytes:
    """A ModelInferRequest as gRPC sends it."""
    tensor = service_pb2.ModelInferRequest.InferInputTensor(
        name="text", datatype="BYTES", shape=[len(texts), 1]
    )
    tensor.contents.bytes_contents.extend(text.encode() for text in texts)
    return message(
        service_pb2.ModelInferRequest(model_name="tiny", inputs=[tensor]).SerializeToString()
    )


def until(true: Callable[[], bool]) -> bool:
    """Wait until something is so, and tell whether it came to be."""
    end = time.monotonic() + DEADLINE_S
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def silent_streams(path: str, folder: Path, *, sent: bytes = b"") -> Outcome:
    """Open 520 streams on 4 connections, and say nothing more."""
    with attacked(folder, "--stream-idle-timeout-s", SOON_S) as server, ExitStack() as stack:
        conns = [stack.enter_context(Connection(server.server.port)) for _ in range(4)]
        for connection in conns:
            for _ in range(130):
                connection.send(connection.open(path) + connection.data(sent))
        held_at_once = until(lambda: bool(server.latencies_s)) and _status_over_http(server) == 200
        gone = bool(sent) or until(lambda: server.server.metrics()["attar_streams"] == 0)
        after = _status_over_http(server) == 200
        return server.outcome(
            held=held_at_once and gone and after, note="others were answered; the streams ended"
        )


def streams_of_many_connections(folder: Path, *, connections: int, each: int) -> Outcome:
    """Open more silent streams than there are places, by many connections, before others come."""
    few = ("--max-streams", 32)
    with attacked(folder, *few) as server, ExitStack() as stack:
        for _ in range(connections):
            one = stack.enter_context(Connection(server.server.port))
            for _ in range(each):
                one.send(one.open(EMBED_STREAM))
        taken = until(lambda: server.server.metrics()["attar_streams"] >= MANY_STREAMS)
        client = stack.enter_context(Client(server.server.target))
        answered, refused = 0, 0
        while not answered and refused < DEADLINE_S:
            try:
                answered += len(list(client.embed_stream([[HONEST]], model="tiny")))
            except Overloaded:
                refused += 1
                time.sleep(1.0)  # as the refusal says
        return server.outcome(
            held=taken and answered == 1,
            note=f"another connection of the same address was let in after {refused} refusals",
        )


def responses_not_read(path: str, request: bytes, folder: Path, *, calls: int = 200) -> Outcome:
    """Ask for 3 MB by 6 kB, again and again, with a window of 0."""
    with _dear(folder) as server, Connection(server.server.port, window=0) as connection:
        before = server.peak_mb
        for _ in range(calls):
            connection.send(connection.open(path) + connection.data(request))
        return _bounded(server, before)


def stream_not_taken(path: str, request: bytes, folder: Path) -> Outcome:
    """Ask 8 times on each of 25 streams, with a window of 0."""
    with _dear(folder) as server, Connection(server.server.port, window=0) as connection:
        before = server.peak_mb
        for _ in range(25):
            connection.send(connection.open(path))
            for _ in range(8):
                connection.send(connection.data(request, end=False))
        return _bounded(server, before)


def _bounded(server: Attacked, before_mb: float) -> Outcome:
    """Memory stays within bounds, and others are answered in all of it."""
    held = 0.0
    end = time.monotonic() + 3.0
    while time.monotonic() < end:
        held = max(held, server.server.metrics()[UNTAKEN])
        time.sleep(0.1)
    growth_mb = server.peak_mb - before_mb
    return server.outcome(
        held=0 < held <= MAX_UNTAKEN_BYTES and growth_mb < GROWTH_MB,
        note=f"{held / 1e6:.1f} MB of answers were held at most, by {growth_mb:.0f} MB of memory",
    )


def ended_in_time(folder: Path) -> Outcome:
    """Take nothing of small answers, which soon should have been taken."""
    with (
        attacked(folder, "--grpc-read-timeout-s", SOON_S) as server,
        Connection(server.server.port, window=0) as connection,
    ):
        for _ in range(20):
            connection.send(connection.open(EMBED) + connection.data(embed_request(["a"])))
        ended = until(lambda: connection.seen[RST_STREAM] >= 20)
        free = until(lambda: server.server.metrics()[UNTAKEN] < MAX_SMALL_BYTES)
        return server.outcome(
            held=ended and free, note=f"{connection.seen[RST_STREAM]} of 20 calls were ended"
        )


def http_responses_not_read(folder: Path) -> Outcome:
    """Ask 100 times over HTTP, from another address, and read nothing."""
    body = json.dumps({"model": "tiny", "input": TEXTS}).encode()
    with _dear(folder) as server, ExitStack() as stack:
        before = server.peak_mb
        for _ in range(100):
            taker = stack.enter_context(_http(server, taken=4096))
            taker.sendall(_post(body))
        return _bounded(server, before)


def byte_by_byte(folder: Path) -> Outcome:
    """Take an answer over HTTP a few bytes at a time, which no timeout of the kernel ends."""
    body = json.dumps({"model": "tiny", "input": TEXTS}).encode()
    slow = ("--http-read-timeout-s", SOON_S)
    bundle = tiny_bundle(folder / "dear.attar", dim=32)
    with attacked(folder, *slow, bundle=bundle) as server, _http(server, taken=1024) as taker:
        taker.sendall(_post(body))
        end = time.monotonic() + DEADLINE_S
        cut = False
        while not cut and time.monotonic() < end:
            time.sleep(0.05)
            try:
                cut = not taker.recv(64)
            except ConnectionError:
                cut = True
        return server.outcome(held=cut, note="the connection was cut" if cut else "it goes on")


def long_messages(
    path: str, folder: Path, *, calls: int, connections: int, most_mb: float, but: int = 1
) -> Outcome:
    """Send as much as is taken of long messages, but the last bytes, in many calls at once."""
    with attacked(folder) as server, ExitStack() as stack:
        before = server.peak_mb
        port = server.server.port
        conns = [stack.enter_context(Connection(port)) for _ in range(connections)]
        half = message(LONG)[:-but]
        with ThreadPoolExecutor(connections) as pool:
            sent = sum(pool.map(lambda one: one.pour([half] * calls, path, for_s=POUR_S), conns))
        growth_mb = server.peak_mb - before
        answered = len(server.latencies_s)
        others = until(lambda: len(server.latencies_s) > answered)
        slowest_s = max(server.latencies_s)
        return server.outcome(
            held=sent > 0 and growth_mb < most_mb and others and slowest_s < IN_TURN_S,
            note=f"{sent / 1e6:.0f} MB of {calls * connections} messages of 16 MB were taken, by "
            f"{growth_mb:.0f} MB of memory; an honest call waited {slowest_s:.2f} s at most",
        )


def whole_messages(path: str, folder: Path) -> Outcome:
    """Send 64 long messages at once on one connection, which are no protobuf."""
    unlimited = [("grpc.max_send_message_length", -1)]
    with (
        attacked(folder) as server,
        grpc.insecure_channel(server.server.target, options=unlimited) as channel,
    ):
        before = server.peak_mb
        ask: Any = channel.unary_unary(path)
        calls = [ask.future(LONG, timeout=DEADLINE_S) for _ in range(64)]
        codes = {call.code().name for call in calls}
        growth_mb = server.peak_mb - before
        return server.outcome(
            held="UNAVAILABLE" not in codes and growth_mb < 400,
            note=f"{codes}, by {growth_mb:.0f} MB of memory",
        )


def many_begun(path: str, folder: Path) -> Outcome:
    """Begin 3,000 calls on each of 2 connections, with as much of each as comes unasked."""
    with attacked(folder) as server, ExitStack() as stack:
        before = server.peak_mb
        conns = [stack.enter_context(Connection(server.server.port)) for _ in range(2)]
        begun = [message(LONG)[: 2**16 - 1]] * 3000
        with ThreadPoolExecutor(len(conns)) as pool:
            sent = sum(pool.map(lambda one: one.pour(begun, path, for_s=POUR_S), conns))
        growth_mb = server.peak_mb - before
        refused = sum(len(one.heads) for one in conns)
        return server.outcome(
            held=sent > 0 and growth_mb < GROWTH_MB,
            note=f"{sent / 1e6:.0f} MB came, {growth_mb:.0f} MB stayed, {refused} were refused",
        )


def half_calls(sent: bytes, folder: Path, *, path: str = EMBED) -> Outcome:
    """Open calls, and send no message, or the beginning of one."""
    with (
        attacked(folder, "--grpc-read-timeout-s", SOON_S) as server,
        Connection(server.server.port) as connection,
    ):
        for _ in range(100):
            connection.send(connection.open(path) + connection.data(sent, end=False))
        ended = until(lambda: connection.seen[RST_STREAM] >= 100)
        return server.outcome(held=ended, note=f"{connection.seen[RST_STREAM]} of 100 were ended")


def half_handshakes(folder: Path) -> Outcome:
    """Begin TLS 100 times, and say no more."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    issued.private_key_pem.write_to_path(str(folder / "cert.key"))
    tls = ("--tls-cert", folder / "cert.pem", "--tls-key", folder / "cert.key")
    with (
        attacked(folder, *tls, "--grpc-read-timeout-s", SOON_S) as server,
        ExitStack() as stack,
    ):
        peers = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.server.port)))
            for _ in range(100)
        ]
        for peer in peers:
            peer.sendall(b"\x16\x03\x01\x02\x00")
            peer.settimeout(DEADLINE_S)
        closed = sum(_is_closed(peer) for peer in peers)
        context = ssl.create_default_context()
        authority.configure_trust(context)
        url = f"https://127.0.0.1:{server.server.http_port}/livez"
        alive = httpx.get(url, verify=context, timeout=DEADLINE_S).status_code == 200
        return server.outcome(
            held=alive and closed == len(peers),
            note=f"{closed} of {len(peers)} were closed; HTTP answers",
            others=False,
        )


def rapid_reset(body: bytes, folder: Path) -> Outcome:
    """Open and reset calls for 3 s on 4 connections, as fast as they are taken."""
    with attacked(folder) as server, ExitStack() as stack:
        conns = [stack.enter_context(Connection(server.server.port)) for _ in range(4)]
        end, sent = time.monotonic() + 3.0, 0
        while time.monotonic() < end:
            for connection in conns:
                with suppress(OSError):
                    for _ in range(50):
                        call = connection.open(EMBED) + connection.data(body)
                        connection.send(call + connection.reset())
                        sent += 1
        ended = time.monotonic()
        answered = len(server.latencies_s)
        again = until(lambda: len(server.latencies_s) > answered)
        took_s = time.monotonic() - ended
        return server.outcome(
            held=again and took_s < 2.0,
            note=f"{sent} calls were reset; others were answered {took_s:.2f} s after the last",
        )


def idle_connections(folder: Path, *, http: bool = False, sent: bytes = b"") -> Outcome:
    """Open 2,000 connections to a server that began with 256 descriptors, and say no more."""
    file_descriptors.take_all()
    few = ("sh", "-c", 'ulimit -Sn 256 && exec "$@"', "sh")
    flags = ("--grpc-read-timeout-s", "--stream-idle-timeout-s", "--http-read-timeout-s")
    times = [of for flag in flags for of in (flag, SOON_S)]
    with attacked(folder, *times, within=few) as server, ExitStack() as stack:
        port = server.server.http_port if http else server.server.port
        peers = [stack.enter_context(_connected(port)) for _ in range(2000)]
        for peer in peers:
            with suppress(ConnectionError):
                peer.sendall(sent)
        began = time.monotonic()
        answered = _status_over_http(server) == 200
        ended = sum(_is_cut(peer) for peer in peers)
        took_s = time.monotonic() - began
        return server.outcome(
            held=answered and ended == len(peers),
            note=f"{ended} of 2000 were ended within {took_s:.0f} s, with timeouts of {SOON_S:g} s",
        )


def descriptors_of_others(folder: Path) -> Outcome:
    """Open more connections to gRPC than the server may have descriptors."""
    few = ("sh", "-c", 'ulimit -n 400 && exec "$@"', "sh")
    with attacked(folder, within=few) as server, ExitStack() as stack:
        until(lambda: bool(server.latencies_s))
        for _ in range(600):
            with suppress(ConnectionError):
                stack.enter_context(_connected(server.server.port)).sendall(GREETING)
        statuses = {_status_over_http(server) for _ in range(5)}
        free = server.server.metrics()["attar_streams"] == 0
        return server.outcome(
            held=statuses == {200} and free, note=f"HTTP answered {statuses}, and so did metrics"
        )


def http_connections(folder: Path) -> Outcome:
    """Hold every HTTP connection that one address gets, by half a head each."""
    few = ("--max-http-connections", 40)
    with attacked(folder, *few) as server, ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(_http(server)).sendall(b"POST /v1/embeddings HTTP/1.1\r\nhost:")
        time.sleep(0.2)
        statuses = {_status_over_http(server) for _ in range(5)}
        return server.outcome(held=statuses == {200}, note=f"another address got {statuses}")


def http_slots(folder: Path) -> Outcome:
    """Hold every place that one address gets, by half a body each."""
    few = ("--max-concurrent-requests", 20)
    half = _post(b'{"model": "tiny", "input": "a"}')[:-5]
    with attacked(folder, *few) as server, ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(_http(server)).sendall(half)
        until(lambda: server.server.metrics()["attar_in_flight"] >= 10)
        statuses = {_status_over_http(server) for _ in range(5)}
        return server.outcome(held=statuses == {200}, note=f"another address got {statuses}")


def _dear(folder: Path) -> AbstractContextManager[Attacked]:
    """Attack a server of wide embeddings."""
    return attacked(folder, bundle=tiny_bundle(folder / "dear.attar", dim=DIM))


def _http(server: Attacked, *, taken: int = 2**16) -> socket.socket:
    """Connect to the HTTP port from another address, with room for so many bytes."""
    return _connected(server.server.http_port, taken=taken)


def _connected(port: int, *, taken: int = 2**16) -> socket.socket:
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, taken)
    peer.settimeout(DEADLINE_S)
    peer.bind((ELSEWHERE, 0))
    peer.connect(("127.0.0.1", port))
    return peer


def _is_cut(peer: socket.socket) -> bool:
    """Whether the server ends a connection, whatever it says before."""
    try:
        while peer.recv(4096):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


def _post(body: bytes) -> bytes:
    head = "POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def _status_over_http(server: Attacked) -> int:
    url = f"http://127.0.0.1:{server.server.http_port}/v1/embeddings"
    asked = {"model": "tiny", "input": "the cat"}
    return httpx.post(url, json=asked, timeout=DEADLINE_S).status_code


def _is_closed(peer: socket.socket) -> bool:
    try:
        return not peer.recv(1)
    except ConnectionError:
        return True
    except TimeoutError:
        return False


ATTACKS: Final = (
    Attack("silent streams", partial(silent_streams, EMBED_STREAM)),
    Attack("silent streams of KServe", partial(silent_streams, INFER_STREAM)),
    Attack("silent streams of reflection", partial(silent_streams, REFLECT)),
    Attack(
        "silent streams of nine connections",
        partial(streams_of_many_connections, connections=9, each=32),
    ),
    Attack(
        "one silent stream of each connection",
        partial(streams_of_many_connections, connections=40, each=1),
    ),
    Attack("520 that watch health", partial(silent_streams, WATCH, sent=message(b""))),
    Attack("answers not taken", partial(responses_not_read, EMBED, embed_request(TEXTS))),
    Attack("answers of KServe not taken", partial(responses_not_read, INFER, infer_request(TEXTS))),
    Attack(
        "answers on streams not taken",
        partial(stream_not_taken, EMBED_STREAM, embed_request(TEXTS)),
    ),
    Attack(
        "answers on KServe's streams not taken",
        partial(stream_not_taken, INFER_STREAM, infer_request(TEXTS)),
    ),
    Attack("answers not taken in time", ended_in_time),
    Attack("answers over HTTP not taken", http_responses_not_read),
    Attack("an answer taken byte by byte", byte_by_byte),
    Attack("calls without a message", partial(half_calls, b"")),
    Attack("calls with half a message", partial(half_calls, embed_request(["a"])[:7])),
    Attack("health without a message", partial(half_calls, b"", path=CHECK)),
    Attack("half a message to watch health", partial(half_calls, message(b"ab")[:6], path=WATCH)),
    *(
        Attack(
            f"{calls * connections} messages of 16 MB but {but} bytes, {name}",
            partial(
                long_messages,
                path,
                calls=calls,
                connections=connections,
                most_mb=most_mb,
                but=but,
            ),
        )
        for name, path, calls, connections, most_mb, but in (
            ("one caller", EMBED, 64, 1, 200.0, 1),
            ("one caller, half", EMBED, 64, 1, 200.0, 8_000_000),
            ("KServe, one caller", INFER, 64, 1, 200.0, 1),
            ("eight callers", EMBED, 8, 8, 400.0, 1),
            ("health", CHECK, 64, 1, 130.0, 1),
            ("health that is watched, eight callers", WATCH, 16, 8, 130.0, 1),
            ("probes", LIVE, 64, 1, 130.0, 1),
        )
    ),
    Attack("64 whole messages of 16 MB", partial(whole_messages, EMBED)),
    Attack("64 whole messages of 16 MB to KServe", partial(whole_messages, INFER)),
    Attack("64 whole messages of 16 MB to health", partial(whole_messages, CHECK)),
    Attack("6,000 calls with what comes unasked", partial(many_begun, EMBED)),
    Attack("6,000 calls of health with what comes unasked", partial(many_begun, CHECK)),
    Attack("half a TLS handshake", half_handshakes),
    Attack("rapid reset", partial(rapid_reset, b"")),
    Attack("rapid reset with a message", partial(rapid_reset, embed_request(["a"]))),
    Attack("2,000 connections to gRPC that say nothing", idle_connections),
    Attack("2,000 connections to gRPC without a call", partial(idle_connections, sent=GREETING)),
    Attack("2,000 connections to HTTP", partial(idle_connections, http=True)),
    Attack("600 connections to gRPC of 400 descriptors", descriptors_of_others),
    Attack("all connections of one address", http_connections),
    Attack("all places of one address", http_slots),
)
