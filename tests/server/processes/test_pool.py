"""Workers: several processes on one port, and one owner of what is kept."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

import grpc
import psutil
import pytest

from attar import Client
from attar.errors import InvalidInput, NotFound, NotSupported, Unavailable
from attar.server.processes.pool import part_of_the_cores, worker_settings
from benchmarks.support.bundles import tiny_bundle
from benchmarks.support.servers import free_port, process, serving, settings

_OWN: Final = ("grpc.use_local_subchannel_pool", 1)


@contextmanager
def two_workers(folder: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], int, int]]:
    """Run a server with two workers; gives its process, its port and its first metrics port."""
    metrics = free_pair()
    arguments = (str(tiny_bundle(folder / "tiny.attar")), "--workers=2", "--threads=1")
    own = (f"--data-dir={folder / 'data'}", "--port=0", f"--metrics-port={metrics}")
    with process(*arguments, *own, *more, ready_file=folder / "ready") as (server, port):
        yield server, port, metrics


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """Run a server with two workers for the tests that leave it as it is; gives both ports."""
    with two_workers(tmp_path_factory.mktemp("workers")) as (_, port, metrics):
        yield port, metrics


def free_pair() -> int:
    """Give a port that nobody listens on, nor on the next one."""
    while True:
        one = free_port()
        if one < 65535 and not _taken(one + 1):
            return one


def _taken(port: int) -> bool:
    return any(one.laddr.port == port for one in psutil.net_connections("tcp"))


@contextmanager
def stranger(port: int) -> Iterator[Client]:
    """Connect anew: the kernel gives each connection to some worker."""
    with Client(f"127.0.0.1:{port}") as client:
        yield client


def embeds(port: int) -> float:
    """Give how many calls of Embed the worker with this metrics port has answered."""
    with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    name = 'attar_requests_total{outcome="OK",rpc="attar.v1.Embedding/Embed"} '
    return next(float(line.removeprefix(name)) for line in lines if line.startswith(name))


def test_every_worker_answers_on_the_one_port(workers: tuple[int, int]) -> None:
    port, metrics = workers
    before = [embeds(metrics), embeds(metrics + 1)]
    for _ in range(200):
        with stranger(port) as client:
            assert client.embed(["the cat"]).vectors.shape == (1, 16)
        if embeds(metrics) > before[0] and embeds(metrics + 1) > before[1]:
            return
    pytest.fail("of 200 connections one worker got none")


def test_stored_data_is_the_same_through_every_worker(workers: tuple[int, int]) -> None:
    port, _ = workers
    with stranger(port) as client:
        client.create_collection("docs", model="tiny")
    for i in range(12):
        with stranger(port) as client:
            client.upsert("docs", [i], [f"the cat {i}"])
    for i in range(12):
        with stranger(port) as client:
            assert client.collection("docs").points == 12
            assert client.search("docs", [f"the cat {i}"], limit=1)[0][0].score > 0.999
            with pytest.raises(NotFound, match="no collection 'none'") as refusal:
                client.search("none", ["the cat"])
            assert "request" in " ".join(refusal.value.__notes__)


def test_a_callers_identity_is_the_same_in_every_worker(workers: tuple[int, int]) -> None:
    """Without keys snapshots are for this machine's callers, and no header makes one of another."""
    codes: dict[str, set[str]] = {"plain": set(), "by a proxy": set(), "both": set()}
    sent = {
        "plain": (("attar-peer", "ipv4:192.0.2.1:5"),),
        "by a proxy": (("x-forwarded-for", "192.0.2.1"),),
        "both": (("attar-peer", "ipv4:127.0.0.1:5"), ("x-forwarded-for", "192.0.2.1")),
    }
    port, _ = workers
    for _ in range(8):  # a connection each, so that either worker has some
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=[_OWN]) as channel:
            call: Any = channel.unary_unary("/attar.v1.Collections/ListSnapshots")
            for what, metadata in sent.items():
                try:
                    call(b"\n\1n", metadata=metadata, timeout=20)
                    codes[what].add("OK")
                except grpc.RpcError as error:
                    told_: Any = error
                    codes[what].add(told_.code().name)

    refused = {"PERMISSION_DENIED"}
    assert codes["by a proxy"] == codes["both"] == refused
    assert refused.isdisjoint(codes["plain"])


def test_a_worker_that_dies_is_replaced_and_the_others_go_on(tmp_path: Path) -> None:
    with two_workers(tmp_path) as (server, port, _):
        (worker,) = workers_of(server)
        worker.kill()
        ends = time.monotonic() + 60
        while worker in (now := workers_of(server)) or not now:
            with stranger(port) as client:
                client.embed(["the cat"])  # it asks again where the dying one was asked
            assert time.monotonic() < ends, "nobody took its place"
        for _ in range(20):
            with stranger(port) as client:
                client.embed(["the cat"])


def test_on_sigterm_all_of_them_end_with_0(tmp_path: Path) -> None:
    with two_workers(tmp_path) as (server, _, _):
        (worker,) = workers_of(server)
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=30)
        assert server.returncode == 0
        assert not worker.is_running()


def test_workers_end_with_the_first_process(tmp_path: Path) -> None:
    with two_workers(tmp_path) as (server, _, _):
        (worker,) = workers_of(server)
        server.kill()
        worker.wait(timeout=30)


def test_workers_refuse_to_change_their_models_by_a_call(workers: tuple[int, int]) -> None:
    port, _ = workers
    with (
        stranger(port) as client,
        pytest.raises(NotSupported, match="each of them watches"),
    ):
        client.set_variant("tiny", "fp32")


def test_a_port_that_others_share_is_refused(workers: tuple[int, int], tmp_path: Path) -> None:
    port, _ = workers
    bundle = tiny_bundle(tmp_path / "tiny.attar")
    chosen = settings(bundle, data_dir=tmp_path / "other", port=port, workers=2)
    with pytest.raises(InvalidInput, match="the port is taken"), serving(chosen):
        pass


def test_a_worker_that_cannot_start_ends_the_start(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny.attar")
    metrics = free_pair()
    chosen = settings(bundle, data_dir=tmp_path / "data", metrics_port=metrics, workers=2)
    listening = [sys.executable, "-c", _LISTEN, str(metrics + 1)]
    with subprocess.Popen(listening, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(Unavailable, match="worker 1 ended with 2"), serving(chosen):
            pass
        other.kill()


_LISTEN = """
import socket, sys, time
one = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listening", flush=True)
time.sleep(60)
"""


def test_each_worker_has_its_part_of_the_cores_and_its_own_ports() -> None:
    given = settings(Path("a"), data_dir=Path("b"), threads=None, workers=2, metrics_port=9000)
    cores = len(os.sched_getaffinity(0))
    assert part_of_the_cores(given).threads == max(1, cores // 2)
    assert part_of_the_cores(given.model_copy(update={"threads": 3})).threads == 3
    other = worker_settings(given, 1, 1234)
    assert (other.port, other.metrics_port, other.workers) == (1234, 9001, 1)
    with pytest.raises(ValueError, match="8001 is among them"):
        settings(Path("a"), data_dir=Path("b"), port=8001, workers=3, metrics_port=7999)


def workers_of(server: subprocess.Popen[str]) -> list[psutil.Process]:
    """Give the live processes except the first one and the store's."""
    found = []
    for one in psutil.Process(server.pid).children():
        with suppress(psutil.NoSuchProcess):  # a zombie, too, is none
            if "attar.server.processes.main" in one.cmdline():
                found.append(one)
    return found
