"""Load: closed loops of so many clients, and open loops of so many requests a second.

One process and one asyncio loop ask every server. HTTP is spoken by hand, for a general client
costs more than some of the servers do: requests are encoded beforehand, answers are read whole and
decoded afterwards. gRPC is grpc.aio with messages as bytes, likewise encoded beforehand.

In a closed loop each client sends its next request when the last one is answered. In an open loop
requests come at random times (Poisson) whether or not earlier ones are answered, and latency counts
from when a request was due: a server that falls behind cannot hide it.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np

DEADLINE_S = 60.0  # seconds that one answer may take

Ask = Callable[[bytes], Awaitable[bytes]]


class Refused(Exception):
    """A response that is not the requested one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a server answers: an HTTP path, or a gRPC method, of a port on 127.0.0.1."""

    port: int
    path: str
    grpc: bool = False


@dataclass(slots=True)
class Seen:
    """When each request ended and how long it took, in seconds; what failed; the first answers."""

    ended: list[float] = field(default_factory=list)
    took: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    client_cpu: float = 0.0  # of one core

    def between(self, begin: float, end: float) -> "Seen":
        """Leave out what ended before or after."""
        kept = [i for i, at in enumerate(self.ended) if begin <= at < end]
        return Seen(
            [self.ended[i] for i in kept],
            [self.took[i] for i in kept],
            self.failed,
            self.client_cpu,
        )

    def percentiles(self) -> dict[str, float | None]:
        """Give p50, p95 and p99 in ms; None where nothing was answered."""
        names = ("p50_ms", "p95_ms", "p99_ms")
        if not self.took:
            return dict.fromkeys(names)
        found = np.percentile(np.array(self.took) * 1e3, (50, 95, 99))
        return {name: round(float(ms), 2) for name, ms in zip(names, found, strict=True)}


class HttpConnection:
    """One connection of HTTP/1.1 that is kept alive."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._head = (
            f"POST {address.path} HTTP/1.1\r\nHost: 127.0.0.1:{address.port}\r\n"
            "Content-Type: application/json\r\nAccept: application/json\r\nContent-Length: "
        ).encode()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, body: bytes) -> bytes:
        """Send one request and give the whole body of its answer."""
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection(
                    "127.0.0.1", self._address.port, limit=2**24
                )
            reader, writer = self._streams
            writer.write(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            answer = await self._body(reader, head)
        except BaseException:
            self.close()
            raise
        status = head[9:12]
        if b"\r\nconnection: close" in head:
            self.close()
        if status != b"200":
            raise Refused(f"HTTP {status.decode()}: {answer[:200].decode(errors='replace')}")
        return answer

    async def _body(self, reader: asyncio.StreamReader, head: bytes) -> bytes:
        _, named, rest = head.partition(b"\r\ncontent-length:")
        if named:
            return await reader.readexactly(int(rest.partition(b"\r\n")[0]))
        if b"\r\ntransfer-encoding: chunked" not in head:
            raise Refused("an answer without a length")
        parts = []
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            parts.append((await reader.readexactly(size + 2))[:-2])
        await reader.readuntil(b"\r\n")
        return b"".join(parts)

    def close(self) -> None:
        """Close it; the next request opens another."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class HttpPool:
    """As many connections as there are requests at a time; one that is idle is used first."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._idle: list[HttpConnection] = []
        self._every: list[HttpConnection] = []

    async def ask(self, body: bytes) -> bytes:
        """Send one request by a connection that is idle, or by a new one."""
        if self._idle:
            connection = self._idle.pop()
        else:
            connection = HttpConnection(self._address)
            self._every.append(connection)
        try:
            return await connection.ask(body)
        finally:
            self._idle.append(connection)

    def close(self) -> None:
        """Close all of them."""
        for connection in self._every:
            connection.close()


@asynccontextmanager
async def asking(address: Address) -> AsyncIterator[Ask]:
    """Give what sends one request; any number may be on their way at a time."""
    async with AsyncExitStack() as stack:
        if address.grpc:
            # A connection of its own, which gRPC would else share with every channel like it.
            own = ("grpc.use_local_subchannel_pool", 1)
            options = [("grpc.max_receive_message_length", -1), own]
            channel = grpc.aio.insecure_channel(f"127.0.0.1:{address.port}", options=options)
            await stack.enter_async_context(channel)
            method: Any = channel.unary_unary(address.path)

            async def ask(message: bytes) -> bytes:
                answer: bytes = await method(message)
                return answer

            yield ask
        else:
            pool = HttpPool(address)
            stack.callback(pool.close)
            yield pool.ask


async def responses(address: Address, requests: Sequence[bytes], *, clients: int) -> list[bytes]:
    """Send each request once, in order, by so many clients, and give every answer."""
    found: list[bytes] = [b""] * len(requests)
    async with asking(address) as ask:
        indices = iter(range(len(requests)))

        async def client() -> None:
            for index in indices:
                async with asyncio.timeout(DEADLINE_S):
                    found[index] = await ask(requests[index])

        await asyncio.gather(*(client() for _ in range(clients)))
    return found


async def closed(
    address: Address, requests: Iterable[bytes], *, clients: int, warm_s: float, seconds: float
) -> Seen:
    """Keep so many clients busy; give what ended in the `seconds` after the first `warm_s`."""
    seen = Seen()
    begin = time.perf_counter() + warm_s
    end = begin + seconds
    async with asking(address) as ask:
        coming = iter(requests)

        async def client() -> None:
            while time.perf_counter() < end:
                await _one(ask, next(coming), seen, due=time.perf_counter())

        cpu = time.process_time()
        await asyncio.gather(*(client() for _ in range(clients)))
        seen.client_cpu = (time.process_time() - cpu) / (time.perf_counter() - begin + warm_s)
    return seen.between(begin, end)


async def opened(
    address: Address, requests: Iterable[bytes], *, rate: float, warm_s: float, seconds: float
) -> Seen:
    """Send so many requests a second at random times; give those due after the first `warm_s`."""
    draw = np.random.default_rng(0)
    count = int(rate * (warm_s + seconds))
    due = np.cumsum(draw.exponential(1 / rate, count))
    warm, seen = Seen(), Seen()
    async with asking(address) as ask, asyncio.TaskGroup() as tasks:
        begin, cpu = time.perf_counter(), time.process_time()
        for wait, request in zip(due, requests, strict=False):
            late = begin + float(wait) - time.perf_counter()
            if late > 0:
                await asyncio.sleep(late)
            into = warm if wait < warm_s else seen
            tasks.create_task(_one(ask, request, into, due=begin + float(wait)))
        seen.client_cpu = (time.process_time() - cpu) / (time.perf_counter() - begin)
    return seen


async def _one(ask: Ask, request: bytes, seen: Seen, *, due: float) -> None:
    try:
        async with asyncio.timeout(DEADLINE_S):
            await ask(request)
    except (OSError, EOFError, TimeoutError, Refused, grpc.aio.AioRpcError) as error:
        seen.failed.append(repr(error)[:300])
        await asyncio.sleep(0.01)  # a server that refuses at once is not to be hammered
        return
    now = time.perf_counter()
    seen.ended.append(now)
    seen.took.append(now - due)


def again_and_again(requests: Sequence[bytes]) -> Iterable[bytes]:
    """Repeat a trace for ever."""
    return itertools.cycle(requests)
