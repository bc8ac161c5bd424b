"""Probes and scrapes are answered by a thread of their own, whatever holds the server up."""

import asyncio
import gc
import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Gauge

from attar.server.observability import metrics_server
from attar.server.observability.metrics_server import MetricsServer
from attar.server.security.browser import Site
from benchmarks.support.servers import free_port, serving, settings


def get(port: int, path: str, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def raw(port: int, sent: bytes) -> bytes:
    """Everything that is answered to some bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(sent)
        return b"".join(iter(lambda: connection.recv(4096), b""))


@pytest.fixture(scope="module")
def port(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    chosen = settings(
        bundle_path, data_dir=tmp_path_factory.mktemp("data"), metrics_port=free_port()
    )
    with serving(chosen):
        assert chosen.metrics_port is not None
        yield chosen.metrics_port


@pytest.mark.parametrize(
    ("sent", "status", "message"),
    [
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n", 200, b"live"),
        (b"GET /readyz?verbose HTTP/1.0\r\n\r\n", 200, b"ready"),
        (b"HEAD /livez HTTP/1.1\r\nHost: localhost\r\n\r\n", 200, b""),
        (b"GET /metrics HTTP/1.1\r\nHost: [::1]:8002\r\n\r\n", 200, b"attar_requests_total"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 404, b"/metrics, /livez, /readyz"),
        (b"POST /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 405, b"GET it"),
        (b"GET /livez HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403, b"allowed_hosts"),
        (b"GET /livez HTTP/1.1\r\n\r\n", 400, b"no request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, b"no request"),
        (b"GET /" + b"a" * 2**15, 400, b"no request"),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n" * 9, 200, b"live"),
    ],
    ids=lambda value: value.decode("latin-1")[:30] if isinstance(value, bytes) else str(value),
)
def test_each_request_has_its_answer_and_ends_its_connection(
    port: int, sent: bytes, status: int, message: bytes
) -> None:
    head, _, body = raw(port, sent).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"connection: close" in head.lower()
    assert message in body
    assert bool(message) == bool(body)


def test_half_requests_keep_nobody_out_and_are_closed_without_a_thread_each(port: int) -> None:
    threads = threading.active_count()
    with ExitStack() as stack:
        held = []
        for _ in range(3 * metrics_server.MAX_CONNECTIONS):
            half = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            half.sendall(b"GET /metrics HT")
            held.append(half)
        assert get(port, "/livez") == (200, "live\n")
        assert threading.active_count() <= threads + 1
        for half in held[: 2 * metrics_server.MAX_CONNECTIONS]:  # the oldest went
            with suppress(ConnectionResetError):
                assert half.recv(1) == b""


async def test_a_loop_that_stands_still_is_not_alive_and_one_that_works_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metrics_server, "STUCK_S", 0.6)
    probed = MetricsServer("127.0.0.1", 0, registry=CollectorRegistry(), site=Site())
    await probed.start(lambda: "")
    try:
        assert await asyncio.to_thread(get, probed.port, "/livez") == (200, "live\n")
        seen: list[tuple[int, str]] = []

        def ask() -> None:
            seen.append(get(probed.port, "/livez"))
            time.sleep(1.0)
            seen.extend(get(probed.port, path) for path in ("/livez", "/readyz"))

        asker = threading.Thread(target=ask)
        asker.start()
        asker.join()  # as a loop that stands still does: it blocks this one
        assert seen == [(200, "live\n"), (503, "the loop is stuck\n"), (503, "the loop is stuck\n")]
        for _ in range(40):
            await asyncio.sleep(0.05)
            if (await asyncio.to_thread(get, probed.port, "/livez"))[0] == 200:
                break
        assert await asyncio.to_thread(get, probed.port, "/readyz") == (200, "ready\n")
    finally:
        probed.close()


async def test_who_is_not_ready_says_why() -> None:
    probed = MetricsServer("127.0.0.1", 0, registry=CollectorRegistry(), site=Site())
    await probed.start(lambda: "not ready: tiny; retry later")
    try:
        readiness = await asyncio.to_thread(get, probed.port, "/readyz")
        assert readiness == (503, "not ready: tiny; retry later\n")
    finally:
        probed.close()


async def test_scrapes_are_written_one_at_a_time_and_a_long_one_holds_up_no_probe() -> None:
    registry = CollectorRegistry()
    asked, let_go = threading.Event(), threading.Event()
    writing = threading.Lock()
    together: list[bool] = []

    def slow() -> float:
        together.append(not writing.acquire(blocking=False))
        asked.set()
        let_go.wait(30)
        writing.release()
        return 7.0

    Gauge("slow", "Takes long.", registry=registry).set_function(slow)
    probed = MetricsServer("127.0.0.1", 0, registry=registry, site=Site())
    await probed.start(lambda: "")
    try:
        scrapes = [
            asyncio.create_task(asyncio.to_thread(get, probed.port, "/metrics")) for _ in "abcd"
        ]
        await asyncio.to_thread(asked.wait, 30)
        assert await asyncio.to_thread(get, probed.port, "/livez") == (200, "live\n")
        let_go.set()
        answers = await asyncio.gather(*scrapes)
        assert {status for status, _ in answers} == {200}
        assert all("slow 7.0" in body for _, body in answers)
        assert not any(together)
    finally:
        probed.close()


async def test_a_scrape_tells_what_happened_before_it() -> None:
    registry = CollectorRegistry()
    gauge = Gauge("calls", "Counted.", registry=registry)
    probed = MetricsServer("127.0.0.1", 0, registry=registry, site=Site())
    await probed.start(lambda: "")
    try:
        for count in range(5):
            gauge.set(count)
            _, body = await asyncio.to_thread(get, probed.port, "/metrics")
            assert f"calls {count}.0" in body
    finally:
        probed.close()


async def test_closing_leaves_no_thread_and_gives_the_port_back() -> None:
    before = {thread.name for thread in threading.enumerate()}
    probed = MetricsServer("127.0.0.1", 0, registry=CollectorRegistry(), site=Site())
    await probed.start(lambda: "")
    taken = probed.port
    with pytest.raises(OSError, match="in use"):
        MetricsServer("127.0.0.1", taken, registry=CollectorRegistry(), site=Site())
    with socket.create_connection(("127.0.0.1", taken)) as half:
        half.sendall(b"GET")
        probed.close()
    gc.collect()
    assert {thread.name for thread in threading.enumerate()} <= before | {"asyncio_0"}
    MetricsServer("127.0.0.1", taken, registry=CollectorRegistry(), site=Site()).close()
