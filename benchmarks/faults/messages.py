"""Messages: bent ones, huge ones, ones that never end, and a wrong one for every error there is."""

import asyncio
import random
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from attar import Client
from attar.client import calls
from attar.errors import (
    AlreadyExists,
    AttarError,
    BackendError,
    BundleRefused,
    Cancelled,
    DeadlineExceeded,
    DiskFull,
    InputTooLong,
    InvalidInput,
    LimitReached,
    MissingExtra,
    NotFound,
    NotSupported,
    Overloaded,
    PermissionDenied,
    RateLimited,
    Replaced,
    ShapeError,
    SpaceMismatch,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from attar.server.errors import STATUS

from ..hostile import fuzz
from ..hostile.requests import CASES, MAX_BYTES, MAX_ITEMS, MAX_PAYLOAD, send
from ..support.bundles import tiny_bundle, tiny_tensor_bundle
from .asking import Judged, ask, channel, reason, request, status_of
from .ground import ENDLESS, POISON, Server, Truth, harmed_bundle, served, truth, unique_texts
from .seen import Seen

_LIMITS: Final = (
    *("--max-items", MAX_ITEMS, "--max-message-bytes", MAX_BYTES, "--max-search-limit", 10),
    *("--max-collections", 1, "--max-payload-bytes", MAX_PAYLOAD, "--http-read-timeout-s", 2),
)
_HOST: Final = "127.0.0.1"


def malformed(folder: Path, *, messages: int = 1200) -> Seen:
    """Messages with flipped, cut, repeated and foreign bytes, half by gRPC and half by HTTP."""
    with _world(folder) as (server, _, expected):

        async def run() -> list[fuzz.Tally]:
            url = f"http://{_HOST}:{server.http_port}"
            quarter = messages // 4
            return [
                await fuzz.send_grpc(server.target, messages - 2 * quarter, seed=0),
                await fuzz.send_bodies(url, quarter, seed=0),
                await fuzz.send_raw(_HOST, server.http_port, quarter, seed=0),
            ]

        tallies = asyncio.run(run())
        judged = _tallied(tallies)
        asyncio.run(_still_right(server, expected, judged))
    codes = sum((tally.codes for tally in tallies), start=tallies[0].codes.__class__())
    summary = ", ".join(f"{count} {code}" for code, count in codes.most_common())
    return judged.seen(f"over attar.v1, inference and HTTP: {summary}; the process lived on")


def endless(folder: Path, *, connections: int = 50, seconds: float = 5.0) -> Seen:
    """Connections that drip, or say nothing, or speak no HTTP/2, while others are served."""
    with _world(folder) as (server, _, expected):
        judged = Judged()

        async def run() -> fuzz.Tally:
            async with channel(server) as to:
                dripping = asyncio.create_task(
                    fuzz.hold_heads(_HOST, server.http_port, connections, seconds=seconds)
                )
                with _mute(server.port, connections):
                    while not dripping.done():
                        await ask(to, unique_texts(1), expected, judged, model="tiny")
                        await asyncio.sleep(0.02)
                return await dripping

        tally = asyncio.run(run())
        asyncio.run(_still_right(server, expected, judged))
    slowest = max(judged.took)
    for one in tally.wrong:
        judged.wrong.append(one)
    judged.lost += tally.lost
    judged.requests += tally.requests
    judged.answered += tally.requests - len(tally.wrong) - len(tally.lost)
    return judged.seen(
        f"{connections} heads dripped to the HTTP port, {tally.codes['cut off']} of them cut off "
        f"after 2 s; {connections} connections to the gRPC port that said nothing or noise; others "
        f"were answered meanwhile, within {slowest * 1e3:.0f} ms"
    )


def huge(folder: Path, *, count: int = 20) -> Seen:
    """Messages four times as large as they may be, by gRPC and HTTP."""
    with _world(folder) as (server, _, expected):
        before = server.rss_mb
        url = f"http://{_HOST}:{server.http_port}"
        tally = asyncio.run(fuzz.send_huge(server.target, url, count))
        after = server.rss_mb
        judged = _tallied([tally])
        asyncio.run(_still_right(server, expected, judged))
    return judged.seen(
        f"each was refused by its size: {dict(tally.codes)}; memory {before:.0f} MB before, "
        f"{after:.0f} MB after"
    )


def bad_fields(folder: Path) -> Seen:
    """Every bad field of every call, as benchmarks/hostile/requests.py lists them."""
    judged = Judged()
    with (
        _world(folder) as (server, fingerprint, expected),
        grpc.insecure_channel(server.target) as to,
    ):
        for case in CASES:
            judged.requests += 1
            outcome = send(case, to, fingerprint)
            fields = (case.field,) if case.field else ()
            if (outcome.code, outcome.fields) == (case.code, fields):
                judged.answered += 1
            else:
                judged.wrong.append(f"{case}: {outcome.code} {outcome.fields}")
        asyncio.run(_still_right(server, expected, judged))
    return judged.seen(f"{len(CASES)} bad requests, each with its one status and its field named")


def every_error(folder: Path) -> Seen:
    """Every row of the error table, provoked in a real server where a call can do that."""
    judged = Judged()
    with _furnished(folder / "a") as (server, to):
        _provoke(_FURNISHED, server, to, judged)
    with _narrow(folder / "b") as (server, to):
        _provoke(_NARROW, server, to, judged)
    tried = {*_FURNISHED, *_NARROW}
    judged.wrong += [f"nothing provokes {kind.__name__}" for kind in STATUS.keys() - tried - _BUGS]
    return judged.seen(
        f"{len(tried)} of {len(STATUS)} rows, each by a call of its own; "
        f"{', '.join(sorted(kind.__name__ for kind in _BUGS))} no call provokes: "
        "tests/server/test_errors.py holds them to their codes"
    )


# ------------------------------------------------------------------------------ servers


@contextmanager
def _world(folder: Path) -> Iterator[tuple[Server, str, Truth]]:
    """Serve what the requests of benchmarks/hostile/requests.py speak of, in a process."""
    folder.mkdir(exist_ok=True)
    text = tiny_bundle(folder / "tiny.attar", dims=(8, 16))
    image = tiny_tensor_bundle(folder / "pixels.attar", name="pixels")
    with served(folder, text, image, *_LIMITS) as server, Client(server.target) as client:
        docs = client.create_collection("docs", model="tiny")
        client.upsert("docs", [1, 2], ["the cat", "the sun"])
        client.fit_anomaly("normal", [f"the cat sat on {i}" for i in range(30)], model="tiny")
        client.fit_classifier("topics", ["cat", "sun"], ["animal", "sky"], model="tiny")
        yield server, docs.fingerprint, truth(text, unique_texts(20))


_ADMIN, _READER, _SLOW = "admin-0123456789", "reader-0123456789", "slow-0123456789abc"
_KEYS: Final = f"""
[[keys]]
name = "admin"
key = "{_ADMIN}"
scopes = ["infer", "write", "admin"]

[[keys]]
name = "reader"
key = "{_READER}"
scopes = ["infer"]

[[keys]]
name = "slow"
key = "{_SLOW}"
scopes = ["infer"]
requests_per_s = 0.001
"""


_TOKEN: Final = (("authorization", f"Bearer {_ADMIN}"),)


@contextmanager
def _furnished(folder: Path) -> Iterator[tuple[Server, Client]]:
    """Serve with keys, a repository with a bad bundle, a tensor model, and a short run timeout."""
    models = folder / "models"
    models.mkdir(parents=True)
    harmed_bundle(models / "tiny.attar")
    tiny_tensor_bundle(models / "pixels.attar", name="pixels")
    (harmed_bundle(models / "bad.attar", name="bad") / "tokenizer.json").unlink()
    keys = folder / "keys.toml"
    keys.write_text(_KEYS, "utf-8")
    keys.chmod(0o600)
    arguments = (
        *("--model-repository", models, "--keys-file", keys, "--run-timeout-s", 1),
        *("--max-heads-bytes", 1024),
    )
    with (
        served(folder, *arguments) as server,
        Client(server.target, key=_ADMIN) as client,
    ):
        client.create_collection("docs", model="tiny")
        client.upsert("docs", [1], ["the cat"])
        yield server, client


@contextmanager
def _narrow(folder: Path) -> Iterator[tuple[Server, Client]]:
    """Serve one call at a time, with a disk that never has room enough and runs that may last."""
    folder.mkdir()
    bundle = harmed_bundle(folder / "tiny.attar")
    arguments = ("--max-concurrent-requests", 1, "--min-free-bytes", 2**60)
    with served(folder, bundle, *arguments) as server, Client(server.target) as client:
        yield server, client


# ------------------------------------------------------------------------------ the table

Provocation = Callable[[Server, Client], object]


def _unkeyed(server: Server, _: Client) -> object:
    with Client(server.target) as stranger:
        return stranger.embed(["the cat"], model="tiny")


def _reading(server: Server, _: Client) -> object:
    with Client(server.target, key=_READER) as reader:
        return reader.delete_collection("docs")


def _replacing(server: Server, to: Client) -> object:
    """Replace a collection while items for it are embedded, until an upsert meets that."""
    call = calls.upsert("fleeting", range(2000), unique_texts(2000))
    with grpc.insecure_channel(server.target) as raw:  # the client itself would ask again
        grpc.channel_ready_future(raw).result(10)
        upsert: Any = raw.unary_unary(call.rpc)
        for attempt in range(50):
            to.create_collection("fleeting", model="tiny")
            one = upsert.future(call.request.SerializeToString(), timeout=20, metadata=_TOKEN)
            time.sleep(attempt / 100)
            to.delete_collection("fleeting")
            to.create_collection("fleeting", model="tiny")
            if one.code() is STATUS[Replaced]:
                return one.result()
            to.delete_collection("fleeting")
    return "no upsert met the successor of its collection"


def _hurrying(server: Server, _: Client) -> object:
    with Client(server.target, key=_SLOW) as slow:
        slow.embed(["the cat"], model="tiny")
        return slow.embed(["the cat"], model="tiny", deadline_s=5)


def _loading(server: Server, _: Client) -> object:
    ask_ = service_pb2.RepositoryModelLoadRequest(model_name="bad")
    return _inference(server, "RepositoryModelLoad", ask_)


def _tracing(server: Server, _: Client) -> object:
    return _inference(server, "TraceSetting", service_pb2.TraceSettingRequest())


def _inference(server: Server, method: str, message: Any) -> object:
    """Call KServe's service, whose errors Triton's client would reword; raise attar's."""
    with grpc.insecure_channel(server.target) as to:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(to)
        return getattr(stub, method)(message, timeout=20, metadata=_TOKEN)


def _crowding(server: Server, client: Client) -> object:
    with _hanging(server):
        return client.embed(["the cat"], deadline_s=0.5)


@contextmanager
def _hanging(server: Server) -> Iterator[None]:
    """Keep one call in flight that takes seconds."""
    with grpc.insecure_channel(server.target) as to:
        method: Any = to.unary_unary("/attar.v1.Embedding/Embed")
        message = request([f"cat {ENDLESS}"], model="tiny").SerializeToString()
        call = method.future(message, timeout=20)
        ends = time.monotonic() + 5
        while server.metrics()["attar_in_flight"] < 1 and time.monotonic() < ends:
            time.sleep(0.02)
        try:
            yield
        finally:
            call.cancel()


def _hanging_too_long(server: Server, _: Client) -> object:
    with grpc.insecure_channel(server.target) as to:  # the client itself would ask again
        message = request([f"cat {ENDLESS}"], model="tiny").SerializeToString()
        embed: Any = to.unary_unary("/attar.v1.Embedding/Embed")
        return embed(message, timeout=20, metadata=_TOKEN)


def _leaving(server: Server, _: Client) -> object:
    with _hanging(server):
        pass
    outcome = 'attar_requests_total{outcome="CANCELLED",rpc="attar.v1.Embedding/Embed"}'
    ends = time.monotonic() + 5
    while time.monotonic() < ends:
        if server.metrics()[outcome]:
            raise Cancelled("the server counted it")
        time.sleep(0.05)
    return "nobody counted the one who left"


_FURNISHED: Final[Mapping[type[AttarError], Provocation]] = MappingProxyType(
    {
        InvalidInput: lambda _, to: to.embed(["the cat"], model="tiny", dims=5),
        InputTooLong: lambda _, to: to.embed(["cat " * 99], model="tiny", truncation="error"),
        ShapeError: lambda _, to: to.embed(np.zeros((1, 1, 4, 4), np.float32), model="pixels"),
        NotFound: lambda _, to: to.embed(["the cat"], model="none"),
        AlreadyExists: lambda _, to: to.create_collection("docs", model="tiny"),
        SpaceMismatch: lambda _, to: to.search(
            "docs", vectors=np.ones((1, 16), np.float32), fingerprint="sha256:0"
        ),
        Replaced: _replacing,
        NotSupported: lambda _, to: to.embed(
            np.zeros((1, 1, 8, 8), np.float32), model="pixels", encoding="int8"
        ),
        BundleRefused: _loading,
        Unimplemented: _tracing,
        Unauthenticated: _unkeyed,
        PermissionDenied: _reading,
        RateLimited: _hurrying,
        LimitReached: lambda _, to: to.fit_anomaly(
            "wide", [f"the cat sat on {i}" for i in range(200)], model="tiny"
        ),
        Unavailable: _hanging_too_long,
        BackendError: lambda _, to: to.embed([f"cat {POISON}"], model="tiny"),
    }
)
_NARROW: Final[Mapping[type[AttarError], Provocation]] = MappingProxyType(
    {
        DiskFull: lambda _, to: to.create_collection("docs"),
        DeadlineExceeded: lambda _, to: to.embed([f"cat {ENDLESS}"], deadline_s=0.3),
        Overloaded: _crowding,
        Cancelled: _leaving,
    }
)
_BUGS: Final = {AttarError, MissingExtra}


def _provoke(
    table: Mapping[type[AttarError], Provocation], server: Server, to: Client, judged: Judged
) -> None:
    for kind, provocation in table.items():
        judged.requests += 1
        try:
            got: object = provocation(server, to)
        except AttarError as error:
            failure = error.__cause__
            code = failure.code() if isinstance(failure, grpc.RpcError) else STATUS[kind]
            if type(error) is kind and code is STATUS[kind]:
                judged.answered += 1
                continue
            got = error
        except grpc.RpcError as error:
            status = status_of(error)
            if status and (status.code, reason(status)) == (STATUS[kind].value[0], kind.reason):
                judged.answered += 1
                continue
            got = error
        judged.wrong.append(f"{kind.__name__} was expected; got {got!r}")


# ------------------------------------------------------------------------------ parts


def _tallied(tallies: list[fuzz.Tally]) -> Judged:
    wrong = [one for tally in tallies for one in tally.wrong]
    lost = [one for tally in tallies for one in tally.lost]
    sent = sum(tally.requests for tally in tallies)
    answered = sent - len(wrong) - len(lost)
    return Judged(requests=sent, answered=answered, wrong=wrong, lost=lost)


async def _still_right(server: Server, expected: Truth, judged: Judged) -> None:
    """Ask for good things after all the bad ones."""
    if not server.alive:
        judged.lost.append("the server ended")
        return
    async with channel(server) as to:
        for text in next(iter(expected.values())):
            await ask(to, [text], expected, judged, model="tiny")


@contextmanager
def _mute(port: int, count: int) -> Iterator[None]:
    """Hold connections to the gRPC port that say nothing, half a preface, or noise."""
    draw = random.Random(0)
    opened = [socket.create_connection((_HOST, port)) for _ in range(count)]
    try:
        for number, one in enumerate(opened):
            said = (b"", b"PRI * HTTP/2.0\r\n", draw.randbytes(64))[number % 3]
            one.sendall(said)
        yield
    finally:
        for one in opened:
            one.close()
