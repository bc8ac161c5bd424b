"""Fuzz: bytes that nobody would send on purpose, and what the server must make of each.

Seeds are the bad requests of `requests.py` and good ones of every protocol; each is
bent a little, so that much of it still parses. tests/hostile/test_fuzz.py sends hundreds of them,
and python -m benchmarks.faults thousands.
"""

import asyncio
import copy
import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import httpx
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from tritonclient.grpc import service_pb2

from attar.server.rest.routes import ROUTES
from attar.server.rpc.methods import SERVICES
from attar.v1 import embedding_pb2, item_pb2

from .requests import CASES, MAX_BYTES

DEADLINE_S: Final = 30.0
AT_ONCE: Final = 16
METHODS: Final = {
    f"{service.full_name}/{method.name}": method
    for service in SERVICES
    for method in service.methods
}
RIGHT: Final = frozenset(
    {
        *("OK", "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "FAILED_PRECONDITION"),
        *("RESOURCE_EXHAUSTED", "UNIMPLEMENTED"),
    }
)
"""What a bent message may come back as: INTERNAL and UNKNOWN are bugs, the rest did not happen."""
RIGHT_HTTP: Final = frozenset({200, 400, 403, 404, 405, 408, 409, 413, 415, 429})
_SHOWN: Final = 5


@dataclass(slots=True)
class Tally:
    """What became of the messages: `wrong` had another code than is right, `lost` had none."""

    requests: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def count(self, code: str, what: str, *, right: bool) -> None:
        """Count one answer."""
        self.requests += 1
        self.codes[code] += 1
        if not right:
            self.wrong.append(f"{code} for {what}")

    def miss(self, what: str) -> None:
        """Count one message without an answer."""
        self.requests += 1
        self.lost.append(what)

    def row(self, fault: str) -> dict[str, Any]:
        """The tally as a row of the faults report."""
        odd = [*self.wrong, *self.lost][:_SHOWN]
        codes = ", ".join(f"{code} {count}" for code, count in self.codes.most_common())
        return {
            "fault": fault,
            "requests": self.requests,
            "answered": self.requests - len(self.wrong) - len(self.lost),
            "wrong": len(self.wrong),
            "lost": len(self.lost),
            "note": "; ".join((codes, *odd)),
        }


def bent(seeds: Sequence[bytes], count: int, draw: random.Random) -> Iterator[bytes]:
    """Give `count` messages: seeds that were flipped, cut, mixed, repeated or filled with noise."""
    for _ in range(count):
        message = bytearray(draw.choice(seeds))
        for _ in range(draw.choice((1, 1, 2, 4))):
            at = draw.randrange(len(message) + 1)
            match draw.randrange(7):
                case 0 if message:
                    message[at % len(message)] ^= 1 << draw.randrange(8)
                case 1:
                    del message[at:]
                case 2:
                    other = draw.choice(seeds)
                    message[at:] = other[draw.randrange(len(other) + 1) :]
                case 3:
                    message[at:at] = draw.randbytes(draw.randrange(1, 9))
                case 4:  # the largest numbers there are
                    message[at : at + 1] = b"\xff" * draw.randrange(1, 10) + b"\x01"
                case 5:
                    message *= draw.choice((2, 3, 50))
                case _:
                    del message[at : at + draw.randrange(1, 9)]
        yield bytes(message[: MAX_BYTES * 2])


def grpc_seeds() -> dict[str, list[bytes]]:
    """Give the messages that each method's bent ones are made of."""
    found: dict[str, list[bytes]] = {name: [b""] for name in METHODS}
    for case in CASES:
        request = case.request
        message = request if isinstance(request, bytes) else request.SerializeToString()
        if len(message) < MAX_BYTES:
            found[f"attar.v1.{case.rpc}"].append(message)
    good = embedding_pb2.EmbedRequest(model="tiny", texts=item_pb2.Texts(values=["cat", "sun"]))
    infer = service_pb2.ModelInferRequest(model_name="tiny", id="1")
    infer.inputs.add(name="text", datatype="BYTES", shape=[2])
    infer.outputs.add(name="embedding")
    infer.parameters["dimensions"].int64_param = 8
    infer.parameters["encoding"].string_param = "int8"
    typed = service_pb2.ModelInferRequest.FromString(infer.SerializeToString())
    typed.inputs[0].contents.bytes_contents.extend([b"cat", b"sun"])
    infer.raw_input_contents.append(b"\x03\0\0\0cat\x03\0\0\0sun")
    named = service_pb2.ModelMetadataRequest(name="tiny", version="1").SerializeToString()
    for name, seeds in found.items():
        if name.startswith("attar.v1.Embedding/"):
            seeds.append(good.SerializeToString())
        elif name.endswith("Infer"):
            seeds += [infer.SerializeToString(), typed.SerializeToString()]
        elif name.startswith("inference.") and not name.endswith("load"):
            seeds.append(named)
    return found


async def send_grpc(target: str, count: int, *, seed: int) -> Tally:
    """Send bent messages to every method over gRPC."""
    draw = random.Random(seed)
    seeds = grpc_seeds()
    tally = Tally()
    async with grpc.aio.insecure_channel(target) as channel:

        async def send(name: str, message: bytes) -> None:
            method = METHODS[name]
            what = f"{name} {message[:40].hex()}"
            try:
                if method.client_streaming:
                    stream: Any = channel.stream_stream(f"/{name}")
                    async for _ in stream(iter([message]), timeout=DEADLINE_S):
                        pass
                else:
                    unary: Any = channel.unary_unary(f"/{name}")
                    await unary(message, timeout=DEADLINE_S)
            except grpc.aio.AioRpcError as error:
                code = error.code().name
                if code == "DEADLINE_EXCEEDED":
                    tally.miss(what)
                    return
            else:
                code = "OK"
            expected = RIGHT if _parses(method, message) else {"INVALID_ARGUMENT"}
            if len(message) > MAX_BYTES:
                expected = {"RESOURCE_EXHAUSTED"}
            tally.count(code, what, right=code in expected)

        names = draw.choices(list(seeds), k=count)
        await _at_once(send(name, next(bent(seeds[name], 1, draw))) for name in names)
    return tally


def _parses(method: Any, message: bytes) -> bool:
    try:
        GetMessageClass(method.input_type).FromString(message)
    except DecodeError:
        return False
    return True


BODIES: Final = tuple(
    json.dumps(body).encode()
    for body in (
        {"model": "tiny", "input": ["the cat", "sun"], "encoding_format": "base64"},
        {"model": "tiny", "input": [[1, 2, 3]], "dimensions": 8, "truncate": True},
        {
            "id": "1",
            "parameters": {"dimensions": 8, "encoding": "int8", "timeout": 1000000},
            "inputs": [{"name": "text", "shape": [2], "datatype": "BYTES", "data": ["a", "b"]}],
            "outputs": [{"name": "embedding", "parameters": {"binary_data": True}}],
        },
        {
            "inputs": [
                {
                    "name": "text",
                    "shape": [1, 1],
                    "datatype": "BYTES",
                    "parameters": {"binary_data_size": 7},
                }
            ]
        },
    )
)


ODD: Final[tuple[Any, ...]] = (
    *(None, True, -1, 0, 1.5, 2**31, 2**63, 2**70, 1e308, "", "tiny", "text", "é" * 50, "\ud800"),
    *([], {}, [[]], [None], [1], [[1, 2]], ["a"], {"a": 1}, [[["a"]]], "x" * 300, [2**40], "BYTES"),
)


def _odd(draw: random.Random) -> tuple[str, bytes]:
    """Give a route and a good body with odd values in odd places: JSON still, and little else."""
    body = json.loads(draw.choice(BODIES))
    path = "/v1/embeddings" if "model" in body else "/v2/models/tiny/infer"
    for _ in range(draw.choice((1, 1, 2, 3))):
        place: Any = body
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw.choice(keys)
            if not isinstance(place[key], dict | list) or draw.random() < 0.3:
                if isinstance(place, dict) and draw.random() < 0.2:
                    place[draw.choice(("input", "inputs", "outputs", "é", ""))] = place.pop(key)
                else:
                    place[key] = copy.deepcopy(draw.choice(ODD))
                break
            place = place[key]
    return path, json.dumps(body).encode()


async def send_bodies(url: str, count: int, *, seed: int) -> Tally:
    """Send bent bodies to every route that takes one."""
    draw = random.Random(seed)
    # Each with the statuses that its API has in place of ours.
    statuses = {
        route.path.format(model="tiny", version="1"): route.errors.statuses
        for route in ROUTES
        if route.types and not route.path.endswith("load")
    }
    paths = list(statuses)
    tally = Tally()
    limits = httpx.Limits(max_connections=AT_ONCE)
    async with httpx.AsyncClient(base_url=url, timeout=DEADLINE_S, limits=limits) as client:

        async def send(path: str, body: bytes, length: str | None) -> None:
            headers = {"content-type": "application/json"}
            if length is not None:
                headers["inference-header-content-length"] = length
            what = f"{path} {body[:40]!r} {length}"
            try:
                answer = await client.post(path, content=body, headers=headers)
            except httpx.HTTPError as error:
                tally.miss(f"{what}: {type(error).__name__}")
                return
            expected: Iterable[int] = RIGHT_HTTP
            if (
                length is None
                and not _is_object(body)
                and not (path.endswith("index") and not body)
            ):
                expected = {400}
            if len(body) > MAX_BYTES:
                expected = {413}
            own = statuses[path]
            right = answer.status_code in {own.get(code, code) for code in expected}
            tally.count(str(answer.status_code), what, right=right)

        shots: list[tuple[str, bytes, str | None]] = [
            (*_odd(draw), None) for _ in range(count // 2)
        ]
        seeds = [*BODIES[:3], BODIES[3] + b"\x03\0\0\0cat"]
        for body in bent(seeds, count - count // 2, draw):
            length = draw.choice((None, None, str(len(BODIES[3])), str(draw.randrange(-2, 200))))
            shots.append((draw.choice(paths), body, length))
        await _at_once(send(*shot) for shot in shots)
    return tally


def _is_object(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body.decode()), dict)
    except (ValueError, RecursionError):
        return False


REQUESTS: Final = (
    b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n",
    b"GET /v2/models/tiny/versions/1/stats HTTP/1.1\r\nhost: localhost\r\nx-request-id: 7\r\n\r\n",
    b"POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(BODIES[0]), BODIES[0]),
    b"POST /v2/models/tiny/infer HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n"
    b"content-type: application/json\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BODIES[2]), BODIES[2]),
)


async def send_raw(host: str, port: int, count: int, *, seed: int) -> Tally:
    """Send requests whose every byte may be bent, each on a connection of its own."""
    draw = random.Random(seed)
    tally = Tally()

    async def send(message: bytes) -> None:
        what = repr(message[:80])
        try:
            async with asyncio.timeout(DEADLINE_S):
                answer = await _exchange(host, port, message)
        except TimeoutError:
            tally.miss(what)
            return
        status = answer[9:12].decode("latin-1") if answer.startswith(b"HTTP/1.1 ") else "closed"
        right = status == "closed" or (status.isdecimal() and int(status) in RIGHT_HTTP)
        tally.count(status, what, right=right)

    await _at_once(send(message) for message in bent(REQUESTS, count, draw))
    return tally


async def _exchange(host: str, port: int, message: bytes) -> bytes:
    """Send, say that there is no more, and read until the other side closes."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(message)
        await asyncio.sleep(0.002)  # a half-closed connection is dropped: let it be answered first
        writer.write_eof()
        return await reader.read()
    except OSError:
        return b""
    finally:
        writer.close()


async def hold_heads(host: str, port: int, count: int, *, seconds: float) -> Tally:
    """Drip `count` heads for so long, while somebody else is served; each must be cut off."""
    tally = Tally()
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds

    async def drip() -> None:
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(b"GET /livez HTTP/1.1\r\n")
            while not reader.at_eof() and loop.time() < end:
                writer.write(b"x: 1\r\n")
                await asyncio.sleep(0.1)
                await writer.drain()
                if reader._transport.is_closing():  # type: ignore[attr-defined]
                    break
            cut = reader.at_eof() or writer.is_closing()
        except OSError:
            cut = True
        finally:
            writer.close()
        tally.count("cut off" if cut else "held", "a dripping head", right=cut)

    async def ask() -> None:
        async with httpx.AsyncClient(timeout=DEADLINE_S) as client:
            while loop.time() < end:
                answer = await client.get(f"http://{host}:{port}/livez")
                tally.count(str(answer.status_code), "/livez", right=answer.status_code == 200)
                await asyncio.sleep(0.05)

    await asyncio.gather(ask(), *(drip() for _ in range(count)))
    return tally


async def send_huge(target: str, url: str, count: int) -> Tally:
    """Send messages larger than may be, by every protocol; each is refused by its size."""
    tally = Tally()
    text = embedding_pb2.EmbedRequest(texts=item_pb2.Texts(values=["x" * MAX_BYTES * 4]))
    message = text.SerializeToString()
    async with grpc.aio.insecure_channel(target) as channel, httpx.AsyncClient() as client:
        embed: Any = channel.unary_unary("/attar.v1.Embedding/Embed")
        for _ in range(count):
            try:
                await embed(message, timeout=DEADLINE_S)
                code = "OK"
            except grpc.aio.AioRpcError as error:
                code = error.code().name
            tally.count(code, "a huge message", right=code == "RESOURCE_EXHAUSTED")
            answer = await client.post(
                f"{url}/v1/embeddings",
                content=b" " * MAX_BYTES * 4,
                headers={"content-type": "application/json"},
            )
            tally.count(str(answer.status_code), "a huge body", right=answer.status_code == 413)
    return tally


async def _at_once(work: Iterable[Any]) -> None:
    """Await all, a few at a time."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(job: Any) -> None:
        async with room:
            await job

    await asyncio.gather(*map(one, work))
