"""Attacks by web pages: what a browser sends for a page of another site."""

import json
import socket
import ssl
import statistics
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import grpc
import httpx
import trustme

import attar
from attar import Client
from attar.v1 import models_pb2, models_pb2_grpc

from ..faults.ground import served
from ..hostile.http import GOOD, Reply, get, request, send
from ..support.bundles import tiny_bundle
from . import h2
from .ground import Attack, Attacked, Outcome, attacked

EVIL: Final = "http://evil.example"
UNLOAD: Final = "/v2/repository/models/tiny/unload"
LOAD: Final = "/v2/repository/models/tiny/load"
INDEX: Final = "/v2/repository/index"
INFER: Final = "/v2/models/tiny/infer"
READ: Final = ("/v1/models", "/v2", "/docs", "/openapi.json", "/readyz", "/v2/models/stats")
SIMPLE: Final = (None, "", "text/plain", "multipart/form-data", "application/x-www-form-urlencoded")
"""The media types that a page may send without its browser asking first; None is none at all."""
GUESSES: Final = 300
KEY: Final = "honest-key-0123456789abcdef0123456789abcdef"


def foreign_page(folder: Path) -> Outcome:
    """Send what `fetch(..., {mode: "no-cors"})` of another site's page sends, of every method."""
    marks = (f"Origin: {EVIL}", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors")
    sent = [request("POST", path, b"", *marks, kind=None) for path in (UNLOAD, LOAD, INDEX, INFER)]
    sent += [get(path, *marks, method=method) for path in READ for method in ("GET", "OPTIONS")]
    sent.append(request("POST", "/v1/embeddings", GOOD, *marks))
    with attacked(folder) as server:
        return _refused(server, sent, statuses={403})


def rebound_name(folder: Path) -> Outcome:
    """Read by a name that was made to resolve here: to the browser it is the same site."""
    marks = (f"Origin: {EVIL}:8000", "Sec-Fetch-Site: same-origin")
    hosts = ("evil.example:8000", "127.0.0.1.evil.example", "evil.localhost", "localhost.evil.a")
    sent = [get(path, *marks, host=host) for path in READ for host in hosts]
    sent += [request("POST", "/v1/embeddings", GOOD, *marks, host=host) for host in hosts]
    sent += [request("POST", UNLOAD, b"{}", *marks, host=host) for host in hosts]
    with attacked(folder) as server:
        return _refused(server, sent, statuses={403})


def plain_form(folder: Path) -> Outcome:
    """Post a form from an old browser, which says neither Origin nor Sec-Fetch-Site."""
    body = json.dumps({"parameters": {}, "x": ""}).encode()
    sent = [
        request("POST", path, body, kind=kind)
        for path in (UNLOAD, LOAD, INDEX, INFER, "/v1/embeddings")
        for kind in SIMPLE
    ]
    with attacked(folder) as server:
        return _refused(server, sent, statuses={415})


def metrics_read(folder: Path) -> Outcome:
    """Read the metrics, which have no keys, from a page; then as Prometheus does."""
    marks = (f"Origin: {EVIL}", "Sec-Fetch-Site: cross-site")
    with attacked(folder) as server:
        address = ("127.0.0.1", server.server.metrics_port)
        statuses = [
            send(address, asked).status
            for asked in (
                get("/metrics", host="evil.example:8002"),
                get("/metrics", *marks),
                get("/metrics", "Sec-Fetch-Site: cross-site"),
            )
        ]
        honest = send(address, get("/metrics", host=f"127.0.0.1:{address[1]}")).status
        held = statuses == [403] * 3 and honest == 200
        return server.outcome(held=held, note=f"{statuses} to pages, {honest} to Prometheus")


def grpc_from_a_page(folder: Path) -> Outcome:
    """Speak to the gRPC port as browsers can: HTTP/1.1, gRPC-web, a proxy that translates."""
    unload = "/attar.v1.Models/Unload"
    body = b"\0\0\0\0\6\n\4tiny"
    kinds = ("application/grpc-web+proto", "application/grpc-web-text", "text/plain")
    with attacked(folder) as server:
        port = server.server.port
        plain = [
            _spoken(port, request("POST", unload, body, f"Origin: {EVIL}", kind=kind))
            for kind in kinds
        ]
        plain.append(_spoken(port, _fetched_by_http2(unload, body)))
        mixed = _spoken(server.server.http_port, request("POST", unload, body, kind=kinds[0]))
        with grpc.insecure_channel(server.server.target) as channel:
            stub: Any = models_pb2_grpc.ModelsStub(channel)
            codes = [
                _code(stub.Unload, models_pb2.UnloadRequest(name="tiny"), metadata)
                for metadata in (
                    [("origin", EVIL)],
                    [("origin", "null")],
                    [("sec-fetch-site", "cross-site")],
                    [("x-forwarded-for", "192.0.2.1")],
                    [("forwarded", "for=192.0.2.1")],
                )
            ]
        held = (
            not any(answer.startswith(b"HTTP/1.1 200") for answer in plain)
            and mixed.startswith(b"HTTP/1.1 404")
            and codes == ["PERMISSION_DENIED"] * 5
            and _is_loaded(server)
        )
        lines = [answer.split(b"\r\n")[0][:40] for answer in plain]
        return server.outcome(held=held, note=f"HTTP/1.1: {lines}; by a proxy: {codes}")


def guessed_key(folder: Path) -> Outcome:
    """Guess a key, with more and more of it right, and look at how long the refusal takes."""
    seconds: dict[str, list[float]] = {"none": [], "all but one": []}
    (keys := folder / "keys.toml").write_text(_keys(KEY), "utf-8")
    keys.chmod(0o600)
    with attacked(folder, "--keys-file", keys, key=KEY) as server:
        url = f"http://127.0.0.1:{server.server.http_port}/v1/models"
        statuses = set()
        with httpx.Client() as web:
            for number in range(GUESSES):
                for what, guess in (
                    ("none", f"{number:043d}"),
                    ("all but one", f"{KEY[:-1]}{'xyz'[number % 3]}"),
                ):
                    began = time.perf_counter()
                    answer = web.get(url, headers={"authorization": f"Bearer {guess}"})
                    seconds[what].append(time.perf_counter() - began)
                    statuses.add(answer.status_code)
        log = server.server.log.read_text("utf-8")
        none, most = (statistics.median(taken) * 1e6 for taken in seconds.values())
        # Nothing of a key is compared, but its digest: what is right of a guess cannot show.
        quiet = KEY not in log and log.count("unknown key") < GUESSES / 10
        held = statuses == {401} and quiet and abs(none - most) < max(none, most) / 2
        note = f"{statuses}; median {none:.0f} us, and {most:.0f} us with all right but one"
        return server.outcome(held=held, note=note)


def renewed_certificate(folder: Path) -> Outcome:
    """Renew the certificate again and again, once with half a file, while calls come by TLS."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(ca := folder / "ca.pem"))
    cert, key = folder / "cert.pem", folder / "key.pem"
    _issue(authority, cert, key)
    bundle = tiny_bundle(folder / "tiny.attar")
    failures: list[str] = []
    answered = [0]
    stop = threading.Event()
    with served(folder, bundle, "--tls-cert", cert, "--tls-key", key) as server:

        def calls() -> None:
            while not stop.is_set():  # a handshake for each, which is where the files are read
                try:
                    with Client(server.target, tls=attar.Tls(ca=ca)) as client:
                        client.embed(["the cat"], deadline_s=20)
                    httpx.get(
                        f"https://127.0.0.1:{server.http_port}/v1/models",
                        verify=ssl.create_default_context(cafile=str(ca)),
                        timeout=20,
                    ).raise_for_status()
                    answered[0] += 1
                except Exception as error:
                    failures.append(f"{type(error).__name__}: {error}")

        callers = [threading.Thread(target=calls) for _ in range(2)]
        for caller in callers:
            caller.start()
        for number in range(8):
            _issue(authority, cert, key, half=number == 4)
            time.sleep(0.25)
        stop.set()
        for caller in callers:
            caller.join()
        peak_mb, alive = server.rss_mb, server.alive
    return Outcome(
        held=alive and answered[0] > 0 and not failures,
        peak_mb=peak_mb,
        others_p99_ms=None,
        note=f"{answered[0]} handshakes of either port answered; failed: {failures[:1]}",
    )


def _issue(authority: trustme.CA, cert: Path, key: Path, *, half: bool = False) -> None:
    """Write a new certificate and its key, the one after the other, as a renewal does."""
    made = authority.issue_cert("127.0.0.1")
    chain = b"".join(pem.bytes() for pem in made.cert_chain_pems)
    for path, content in ((cert, chain), (key, made.private_key_pem.bytes())):
        (new := path.with_suffix(".new")).write_bytes(
            content[: len(content) // 2] if half else content
        )
        new.replace(path)


def _refused(server: Attacked, sent: Iterable[bytes], *, statuses: set[int]) -> Outcome:
    address = ("127.0.0.1", server.server.http_port)
    answers: list[Reply] = [send(address, one) for one in sent]
    seen = {answer.status for answer in answers}
    readable = [answer for answer in answers if "access-control-allow-origin" in answer.headers]
    held = seen == statuses and not readable and _is_loaded(server)
    return server.outcome(held=held, note=f"{len(answers)} requests: {sorted(seen)}, none readable")


def _is_loaded(server: Attacked) -> bool:
    with Client(server.server.target) as client:
        return [model.state for model in client.models()] == ["READY"]


def _spoken(port: int, raw: bytes) -> bytes:
    """What a port says to bytes, whatever it speaks."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(raw)
        try:
            return connection.recv(4096)
        except OSError:
            return b""


def _fetched_by_http2(path: str, body: bytes) -> bytes:
    """What a page's `fetch` is in HTTP/2, which browsers speak to a gRPC port with TLS: no `te`."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "localhost",
        "content-type": "text/plain;charset=UTF-8",
    }
    encoded = b"".join(
        bytes([0, len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in fields.items()
    )
    head = h2.frame(h2.HEADERS, h2.END_HEADERS, 1, encoded)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + h2.frame(h2.SETTINGS, 0, 0)
    return preface + head + h2.frame(h2.DATA, h2.END_STREAM, 1, body)


def _code(call: Any, message: Any, metadata: list[tuple[str, str]]) -> str:
    try:
        call(message, metadata=metadata, timeout=20)
    except grpc.RpcError as error:
        failure: Any = error
        return str(failure.code().name)
    return "OK"


def _keys(key: str) -> str:
    return f'[[keys]]\nname = "honest"\nkey = "{key}"\nscopes = ["infer"]\n'


ATTACKS: Final = (
    Attack("a page of another site", foreign_page),
    Attack("a page after DNS rebinding", rebound_name),
    Attack("a form of an old browser", plain_form),
    Attack("a page that reads the metrics", metrics_read),
    Attack("a page at the gRPC port", grpc_from_a_page),
    Attack("a key that is guessed", guessed_key),
    Attack("a certificate renewed under load", renewed_certificate),
)
