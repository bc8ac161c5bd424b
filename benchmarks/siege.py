"""Siege: honest callers and attackers at one server for half an hour, and what it costs the honest.

    python -m benchmarks.siege --minutes 30 --out benchmarks/results/siege.json

One server with its defaults has half of the cores; honest callers and attackers share the others.
The attackers' process has niceness 19. The honest callers ask at a fixed pace: alone for two
minutes (`quiet`), then with the attackers (`siege`), each of which attacks, pauses and attacks
again. What attackers compute must not be taken for what they do to the server. So for two minutes
more (`same_load`) another process of the same niceness takes as much processor time as the
attackers took, tenth of a second by tenth of a second, and sends nothing: siege over same_load is
what the server does to honest callers, same_load over quiet what the machine does.
Nobody has `admin`: without keys it is for callers on this machine, which all are here, and one that
unloads the model has not attacked it. An answer counts as wrong that is not `attar.load`'s.
Memory, descriptors and threads of the server and its children are sampled all the while; growth is
from the second fifth of the siege to its last. Pages of mapped files are counted apart: attackers
may create collections, and an empty one maps some 6 MB of files, or 40 MB once it has an index.
"""

import argparse
import asyncio
import itertools
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import grpc
import httpx
import numpy as np
import psutil
from numpy.typing import NDArray

import attar
from attar import AsyncClient
from attar.errors import AttarError
from attar.host import describe
from attar.v1 import collections_pb2, embedding_pb2, item_pb2

from .faults.ground import unique_texts
from .hostile import fuzz
from .processes import Cores, Running, attar_command, half_of_the_cores, running
from .support.bundles import tiny_bundle
from .support.servers import free_port

QUIET_MINUTES: Final = 2.0
CALLERS: Final = 4
PACE_S: Final = 0.05  # between two calls of one honest caller
SAMPLE_EVERY_S: Final = 2.0
SLOT_S: Final = 0.1  # of which the processor time is measured, and taken again
SETTLE_S: Final = 5.0
EMBED: Final = "/attar.v1.Embedding/Embed"
STREAM: Final = "/attar.v1.Embedding/EmbedStream"
COUNT: Final = "/attar.v1.Collections/Count"
LARGE: Final = 2**20  # bytes

Ports = Mapping[str, int]
Attacker = Callable[[Ports, random.Random], Awaitable[object]]


def _unary(channel: grpc.aio.Channel, method: str) -> Any:
    return channel.unary_unary(method)


async def malformed_messages(ports: Ports, draw: random.Random) -> None:
    """Send bent protobufs, JSON and HTTP."""
    seed = draw.getrandbits(32)
    await fuzz.send_grpc(f"127.0.0.1:{ports['grpc']}", 20, seed=seed)
    await fuzz.send_bodies(f"http://127.0.0.1:{ports['http']}", 20, seed=seed)
    await fuzz.send_raw("127.0.0.1", ports["http"], 20, seed=seed)


async def silent_streams(ports: Ports, __: random.Random) -> None:
    """Hold streams that say nothing."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{ports['grpc']}") as channel:
        stream_stream: Any = channel.stream_stream(STREAM)
        streams = [stream_stream() for _ in range(50)]
        await asyncio.sleep(10.0)
        for stream in streams:
            stream.cancel()


async def half_requests(ports: Ports, draw: random.Random) -> None:
    """Hold connections on every port that send half of something, and then nothing."""
    halves = (b"GET /livez HTTP/1.1\r\nx:", b"PRI * HTTP/2.0\r\n\r\nSM\r\n", b"\x16\x03\x01\x02")
    opened = []
    for port in ports.values():
        for _ in range(10):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(draw.choice(halves))
            opened.append(writer)
    await asyncio.sleep(5.0)
    for writer in opened:
        writer.close()


async def long_texts(ports: Ports, draw: random.Random) -> None:
    """Send texts of a megabyte, and lists of empty ones."""
    long = draw.choice(("a " * (LARGE // 2), "x" * LARGE, "\u4e2d" * (LARGE // 3)))
    messages = [item_pb2.Texts(values=[long]), item_pb2.Texts(values=[""] * 100_000)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{ports['grpc']}") as channel:
        for texts in messages:
            message = embedding_pb2.EmbedRequest(texts=texts).SerializeToString()
            with suppress(grpc.aio.AioRpcError):
                await _unary(channel, EMBED)(message, timeout=60)


async def full_requests(ports: Ports, __: random.Random) -> None:
    """Send as many items as one request may have, and leave before the answer half of the time."""
    message = embedding_pb2.EmbedRequest(texts=item_pb2.Texts(values=unique_texts(2048)))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{ports['grpc']}") as channel:
        for patience_s in (0.02, 60):
            with suppress(grpc.aio.AioRpcError):
                call = _unary(channel, EMBED)(message.SerializeToString(), timeout=patience_s)
                await call


async def large_filters(ports: Ports, __: random.Random) -> None:
    """Count by a filter of a hundred thousand values."""
    request = collections_pb2.CountRequest(collection="none")
    request.filter.update({"key": [str(i) for i in range(100_000)]})
    async with grpc.aio.insecure_channel(f"127.0.0.1:{ports['grpc']}") as channel:
        with suppress(grpc.aio.AioRpcError):
            await _unary(channel, COUNT)(request.SerializeToString(), timeout=60)


async def shapes_without_bytes(ports: Ports, draw: random.Random) -> None:
    """Ask KServe's REST for arrays that no request could hold."""
    size = draw.choice((2**20, 150_000_000, 2**31, 2**62))
    head = b'{"inputs":[{"name":"text","shape":[%d],"datatype":"BYTES","parameters":' % size
    head += b'{"binary_data_size":4}}]}'
    headers = {
        "content-type": "application/octet-stream",
        "inference-header-content-length": str(len(head)),
    }
    async with httpx.AsyncClient(timeout=60) as client:
        url = f"http://127.0.0.1:{ports['http']}/v2/models/tiny/infer"
        await client.post(url, content=head + bytes(4), headers=headers)


async def web_pages(ports: Ports, __: random.Random) -> None:
    """Call as a page of another site does, whose name leads to this machine or not."""
    async with httpx.AsyncClient(timeout=60) as client:
        for host in ("evil.example", "127.0.0.1"):
            headers = {"host": f"{host}:{ports['http']}", "origin": "http://evil.example"}
            headers["sec-fetch-site"] = "cross-site"
            for path in ("/v2/repository/models/tiny/unload", "/v2/repository/index"):
                url = f"http://127.0.0.1:{ports['http']}{path}"
                await client.post(url, headers=headers)


async def resets(ports: Ports, __: random.Random) -> None:
    """Open calls on one connection and reset each at once."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{ports['grpc']}") as channel:
        for _ in range(200):
            _unary(channel, EMBED)(b"", timeout=60).cancel()
        await asyncio.sleep(0.1)


async def untaken_answers(ports: Ports, __: random.Random) -> None:
    """Ask over HTTP for large answers, and take nothing of them."""
    body = json.dumps({"model": "tiny", "input": ["cat"] * 2048}).encode()
    head = b"POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    head += b"content-length: %d\r\n\r\n" % len(body)
    opened = []
    for _ in range(10):
        _, writer = await asyncio.open_connection("127.0.0.1", ports["http"], limit=1024)
        writer.write(head + body)
        opened.append(writer)
    await asyncio.sleep(5.0)
    for writer in opened:
        socket = writer.get_extra_info("socket")
        socket.setsockopt(*LINGER)
        writer.close()


LINGER: Final = (1, 13, struct.pack("ii", 1, 0))  # SOL_SOCKET, SO_LINGER: closing resets

ATTACKERS: Final[tuple[tuple[Attacker, float], ...]] = (
    (malformed_messages, 2.0),
    (silent_streams, 1.0),
    (half_requests, 1.0),
    (long_texts, 2.0),
    (full_requests, 2.0),
    (large_filters, 2.0),
    (shapes_without_bytes, 1.0),
    (web_pages, 1.0),
    (resets, 2.0),
    (untaken_answers, 5.0),
)
"""Each attack, and the seconds that it pauses before it is made again."""


async def attack(ports: Ports, seconds: float) -> dict[str, Any]:
    """Make every attack again and again for so long.

    Gives how often each was made, and the processor time of each slot of the first minutes.
    """
    made = dict.fromkeys((attacker.__name__ for attacker, _ in ATTACKERS), 0)
    draw = random.Random(0)
    end = time.perf_counter() + seconds

    async def repeat(attacker: Attacker, pause_s: float) -> None:
        while time.perf_counter() < end:
            with suppress(OSError, httpx.HTTPError):  # refused and cut off, as it should be
                await attacker(ports, draw)
            made[attacker.__name__] += 1
            await asyncio.sleep(pause_s)

    slots_s: list[float] = []
    threading.Thread(target=record, args=(slots_s,), daemon=True).start()
    async with asyncio.TaskGroup() as tasks:
        for attacker, pause_s in ATTACKERS:
            tasks.create_task(repeat(attacker, pause_s))
    return {"made": made, "processor_s": time.process_time(), "slots_s": slots_s}


def record(slots_s: list[float]) -> None:
    """Note the processor time that this process takes in each slot, for as long as is repeated."""
    began, before = time.perf_counter(), time.process_time()
    for number in range(1, int(60 * QUIET_MINUTES / SLOT_S) + 1):
        time.sleep(max(0.0, began + number * SLOT_S - time.perf_counter()))
        now = time.process_time()
        slots_s.append(round(now - before, 4))
        before = now


def burn(slots_s: Sequence[float], seconds: float) -> float:
    """Take the processor time of each slot, again and again for so long; give the sum of it.

    What could not be had in a slot is taken later.
    """
    began, start, due = time.perf_counter(), time.process_time(), 0.0
    for number, slot_s in enumerate(itertools.cycle(slots_s)):
        if number * SLOT_S >= seconds:
            break
        due += slot_s
        ends = began + (number + 1) * SLOT_S
        while time.process_time() - start < due and time.perf_counter() < ends:
            pass
        time.sleep(max(0.0, ends - time.perf_counter()))
    return time.process_time() - start


async def honest(
    ports: Ports, expected: Mapping[str, NDArray[np.float32]], seconds: float
) -> dict[str, Any]:
    """Ask at a fixed pace for so long; give the latencies, and what was not as it should be."""
    latencies_ms: list[float] = []
    failed: list[str] = []
    wrong = 0
    end = time.perf_counter() + seconds

    async def caller(number: int) -> None:
        nonlocal wrong
        texts = list(expected)
        async with AsyncClient(f"127.0.0.1:{ports['grpc']}") as client:
            at = number
            while time.perf_counter() < end:
                text = texts[at % len(texts)]
                at += CALLERS
                began = time.perf_counter()
                try:
                    embedded = await client.embed([text], deadline_s=60)
                except AttarError as error:
                    failed.append(f"{type(error).__name__}: {error}"[:200])
                    continue
                finally:
                    latencies_ms.append((time.perf_counter() - began) * 1e3)
                wrong += not np.allclose(embedded.vectors[0], expected[text], atol=1e-5)
                await asyncio.sleep(PACE_S)

    async with asyncio.TaskGroup() as tasks:
        for number in range(CALLERS):
            tasks.create_task(caller(number))
    quantiles = np.quantile(latencies_ms, (0.5, 0.99, 1.0)).round(1).tolist()
    return {
        "calls": len(latencies_ms),
        "wrong": wrong,
        "failed": len(failed),
        "first_failure": failed[0] if failed else "",
        **dict(zip(("p50_ms", "p99_ms", "max_ms"), quantiles, strict=True)),
    }


async def sampled(server: Running, samples: list[dict[str, float]]) -> None:
    """Sample memory, descriptors and threads of the server until cancelled."""
    began = time.perf_counter()
    while True:
        family = server.family
        with suppress(psutil.NoSuchProcess):
            samples.append(
                {
                    "s": round(time.perf_counter() - began, 1),
                    **_memory_mb(family),
                    "descriptors": sum(one.num_fds() for one in family),
                    "threads": sum(one.num_threads() for one in family),
                }
            )
        await asyncio.sleep(SAMPLE_EVERY_S)


def _memory_mb(family: Sequence[psutil.Process]) -> dict[str, float]:
    """The memory of processes: their own, and pages of files, which the kernel takes back."""
    infos = [one.memory_info() for one in family]
    mapped = sum(info.shared for info in infos)
    own = sum(info.rss for info in infos) - mapped
    return {"own_mb": round(own / 2**20, 1), "mapped_mb": round(mapped / 2**20, 1)}


def growth(samples: list[dict[str, float]]) -> dict[str, float]:
    """The means of the second fifth and of the last of each thing sampled, and the peaks."""
    fifth = max(1, len(samples) // 5)
    table: dict[str, float] = {}
    for name in ("own_mb", "mapped_mb", "descriptors", "threads"):
        values = np.array([one[name] for one in samples])
        table[f"{name}_second_fifth"] = round(float(values[fifth : 2 * fifth].mean()), 1)
        table[f"{name}_last_fifth"] = round(float(values[-fifth:].mean()), 1)
        table[f"{name}_peak"] = float(values.max())
    return table


async def phase(
    server: Running,
    ports: Ports,
    expected: Mapping[str, NDArray[np.float32]],
    seconds: float,
    *role: str,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Serve honest callers, next to a process of this module that has a role, if any.

    Gives what they saw, with the share of one core that the server had and that the other had, and
    what the other one says.
    """
    began_s, other, said = server.cpu_s(), None, dict[str, Any]()
    if role:
        command = (sys.executable, "-m", "benchmarks.siege", *role, str(seconds))
        other = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    try:
        seen = await honest(ports, expected, seconds)
        seen["server_processor_share"] = round((server.cpu_s() - began_s) / seconds, 3)
        if other is not None:
            said = json.loads((await other.communicate())[0])
            seen["others_processor_share"] = round(said["processor_s"] / seconds, 3)
    finally:
        if other is not None and other.returncode is None:
            other.kill()
    print(json.dumps(seen), flush=True)
    return seen, said


async def besieged(
    server: Running,
    ports: Ports,
    expected: Mapping[str, NDArray[np.float32]],
    *,
    seconds: float,
    quiet_s: float,
) -> dict[str, Any]:
    """Serve the honest callers alone, under siege, and next to a load that sends nothing."""
    await honest(ports, expected, SETTLE_S)  # what is slow at first only
    quiet, _ = await phase(server, ports, expected, quiet_s)
    samples: list[dict[str, float]] = []
    sampler = asyncio.create_task(sampled(server, samples))
    try:
        role = ("--attack", json.dumps(dict(ports)))
        siege, attackers = await phase(server, ports, expected, seconds, *role)
    finally:
        sampler.cancel()
    await asyncio.sleep(SETTLE_S)  # until the last attacks have ended
    role = ("--burn", json.dumps(attackers["slots_s"]))
    same_load, _ = await phase(server, ports, expected, quiet_s, *role)
    return {
        "quiet": quiet,
        "siege": siege,
        "same_load": same_load,
        "p99_ms_quiet": quiet["p99_ms"],
        "p99_ms_same_load": same_load["p99_ms"],
        "p99_ms_siege": siege["p99_ms"],
        "p99_siege_over_quiet": round(siege["p99_ms"] / quiet["p99_ms"], 2),
        "p99_siege_over_same_load": round(siege["p99_ms"] / same_load["p99_ms"], 2),
        **growth(samples),
        "attacks": attackers["made"],
        "rows": samples,
    }


def besiege(cores: Cores, *, seconds: float, quiet_s: float) -> dict[str, Any]:
    """Start a server of a tiny encoder, and besiege it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = tiny_bundle(folder / "tiny.attar")
        texts = unique_texts(64)
        vectors = attar.load(bundle, threads=1).embed(texts).vectors
        http, metrics = free_port(), free_port()
        command = attar_command(
            bundle, "fp32", folder, threads=1, http_port=http, metrics_port=metrics
        )
        command.append("--admin=false")
        with running(command, cores=cores, log=folder / "log") as server:
            server.wait_until((folder / "ready").exists)
            grpc_port = int((folder / "ready").read_text("utf-8"))
            ports = {"grpc": grpc_port, "http": http, "metrics": metrics}
            expected = dict(zip(texts, vectors, strict=True))
            return asyncio.run(besieged(server, ports, expected, seconds=seconds, quiet_s=quiet_s))


def main() -> None:
    """Besiege a server, and write what was seen; or be the attackers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--attack", nargs=2, metavar=("PORTS", "SECONDS"), help="be the attackers")
    parser.add_argument("--burn", nargs=2, metavar=("SLOTS", "SECONDS"), help="be the same load")
    arguments = parser.parse_args()
    if (role := arguments.attack or arguments.burn) is not None:
        os.nice(19)
        given, seconds = json.loads(role[0]), float(role[1])
        if arguments.attack is not None:
            print(json.dumps(asyncio.run(attack(given, seconds))))
        else:
            print(json.dumps({"processor_s": burn(given, seconds)}))
        return
    cores = half_of_the_cores()
    os.sched_setaffinity(0, cores.clients)
    quiet_s = 60 * min(QUIET_MINUTES, arguments.minutes)
    seen = besiege(cores, seconds=arguments.minutes * 60, quiet_s=quiet_s)
    print(json.dumps({key: value for key, value in seen.items() if key != "rows"}), flush=True)
    if arguments.out is not None:
        command = f"python -m benchmarks.siege --minutes {arguments.minutes:g} --out OUT"
        report = {"command": command, "machine": describe(), "minutes": arguments.minutes, **seen}
        arguments.out.write_text(json.dumps(report, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
