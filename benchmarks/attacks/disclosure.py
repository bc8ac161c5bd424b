"""Attacks on what answers tell of the inside: paths, frames, keys, and names of our own parts."""

import importlib
import inspect
import json
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cache, partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

import grpc
import onnx
from google.protobuf import message_factory
from onnx import numpy_helper
from pydantic import BaseModel
from tritonclient.grpc import service_pb2, service_pb2_grpc

import attar.server
from attar import Client
from attar.bundle import Bundle
from attar.errors import AttarError
from attar.server.rpc.methods import SERVICES
from attar.v1 import models_pb2, models_pb2_grpc

from ..faults.ground import served
from ..hostile import http, kserve, requests
from ..hostile.http import get, request, send
from ..support.bundles import VOCABULARY, text_files, text_manifest, tiny_bundle, tiny_tensor_bundle
from .ground import Attack, Attacked, Outcome, attacked

POISON: Final = VOCABULARY[-1]
KEY: Final = "secret-key-0123456789abcdef"
LONG: Final = "9" * 4000
LONGEST: Final = 90  # characters of one word of a caller's that may come back
_FRAMES: Final = ("Traceback", 'File "', ".py:", ".py,", ".cc:", ".rs:", ".cpp:", "0x7f", "<class ")
_INSIDE: Final = ("onnxruntime::", "pyo3", "grpc.aio", "asyncio", "starlette", "uvicorn", "qdrant")
_RAISED: Final = re.compile(
    r"\b(?!BundleRefused|OpenAIError|KServeError|TypedError|StatusError)[A-Z]\w+(?:Error|Exception|Warning)\b|\battar\.(?!v1\b)\w+\.\w+|\b_[a-z]\w+\("
)
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


@cache
def our_names() -> frozenset[str]:
    """The classes of the server with two capitals or more, but those that a protocol names."""
    names = set[str]()
    for info in pkgutil.walk_packages(attar.server.__path__, "attar.server."):
        if info.name.endswith("__main__"):
            continue
        members = inspect.getmembers(importlib.import_module(info.name), inspect.isclass)
        names |= {
            name
            for name, one in members
            if one.__module__.startswith("attar.server") and not issubclass(one, BaseModel)
        }
    messages = set[str]()
    for service in SERVICES:
        messages |= {service.name, *(method.name for method in service.methods)}
        messages |= set(service.file.message_types_by_name)
    messages.add("OpenAI")  # the page of OpenAPI names the service that its schemas are of
    return frozenset(name for name in names if re.search(r"[a-z][A-Z]", name)) - messages


def leaks(text: str, *, secrets: tuple[str, ...]) -> list[str]:
    """What of the inside stands in an answer."""
    found = [secret for secret in secrets if secret in text]
    found += [mark for mark in (*_FRAMES, *_INSIDE) if mark in text]
    found += [match[0] for match in _RAISED.finditer(text)]
    found += [word for word in re.findall(r"\b[A-Z]\w+\b", text) if word in our_names()]
    found += [repr(match[0]) for match in _CONTROL.finditer(text)]
    found += [match[0][:20] + "…" for match in re.finditer(rf"9{{{LONGEST},}}", text)]
    return list(dict.fromkeys(found))


def machine(folder: Path) -> tuple[str, ...]:
    """Folders that no answer may name."""
    roots = {folder, Path.home(), Path(sys.prefix), Path(sys.base_prefix), Path.cwd()}
    roots |= {Path(attar.server.__file__).parents[1], Path("/tmp"), Path("/proc")}
    return (KEY, *(str(root) for root in sorted(roots) if len(root.parts) > 1))


def every_refusal(folder: Path) -> Outcome:
    """Send every bad request that benchmarks/hostile knows, and read all that comes back."""
    text = tiny_bundle(folder / "tiny.attar", dims=(8, 16), max_length=32)
    more = [
        tiny_tensor_bundle(folder / f"{name}.attar", name=name) for name in ("tiny-image", "pixels")
    ]
    limits = ("--max-items", 40, "--max-message-bytes", 65536, "--max-search-limit", 10)
    with attacked(folder, *more, *limits, bundle=text) as server:
        messages = list(_refusals(server))
        # The honest caller names no model, and here are several.
        return _outcome(server, messages, machine(folder), others=False)


def long_values(folder: Path) -> Outcome:
    """Send values and names of 4000 digits wherever a request has room for one."""
    with attacked(folder, "--max-message-bytes", 65536) as server:
        messages = [*_long_over_http(server), *_long_over_grpc(server)]
        return _outcome(server, messages, machine(folder))


def broken_parts(folder: Path) -> Outcome:
    """Use what is damaged on the disk, bundles that do not load, and a model whose runs fail."""
    harmed = _failing_bundle(folder / "harmed.attar")
    with served(folder, harmed) as before, Client(before.target) as client:
        for name in ("whole", "damaged"):
            client.create_collection(name, model="harmed")
            client.upsert(name, [1], ["the cat"])
        client.snapshot("whole")
        client.fit_anomaly("normal", [f"the cat sat on {i}" for i in range(30)], model="harmed")
        before.end()
    _damage(folder / "data")
    _bad_bundles(folder / "models")
    arguments = ("--model-repository", folder / "models", "--watch-s", 0)
    with attacked(folder, *arguments, bundle=harmed) as server:
        messages = list(_broken(server))
        return _outcome(server, messages, machine(folder))


def forged_lines(folder: Path) -> Outcome:
    """Send names and ids with line breaks, and look for lines of the log that they made."""
    forged = "x\n2026-01-01 00:00:00,000 ERROR forged\r\x1b[2K\u2028forged"
    bundle = tiny_bundle(folder / "tiny.attar")
    (folder / "models").mkdir()
    (folder / "models" / "no\nforged.attar").mkdir()
    arguments = ("--model-repository", folder / "models", "--log-level", "debug")
    with attacked(folder, *arguments, bundle=bundle) as server:
        with Client(server.server.target) as client:
            messages = [
                _raised(call)
                for call in (
                    lambda: client.embed(["the cat"], model=forged),
                    lambda: client.create_collection(forged),
                    lambda: client.search(forged, ["the cat"]),
                    lambda: client.load_model(forged),
                    lambda: client.load_model("no\nforged"),
                    lambda: client.fit_classifier(forged, ["a", "b"], ["x", "y"]),
                )
            ]
        address = ("127.0.0.1", server.server.http_port)
        for path in (
            "/v1/models/x%0d%0aERROR%20forged",
            "/x%0aforged",
            "/v2/models/%e2%80%a8forged",
        ):
            answer = send(address, get(path, "x-request-id: a\tforged"))
            messages.append(answer.body.decode())
        log = server.server.log.read_text("utf-8").split("\n")
        lines = [
            line for line in log if line and not re.match(r"20\d\d-\d\d-\d\d \d\d:|    ", line)
        ]
        lines += [line for line in log if _CONTROL.search(line)]
        found = [*lines, *(leak for one in messages for leak in leaks(one, secrets=()))]
        return server.outcome(held=not found, note=f"{len(log)} lines of log; {found[:3]}")


def _outcome(
    server: Attacked, messages: list[str], secrets: tuple[str, ...], *, others: bool = True
) -> Outcome:
    found = {leak: one for one in messages for leak in leaks(one, secrets=secrets)}
    shown = [f"{leak!r} in {one[:300]!r}" for leak, one in list(found.items())[:4]]
    note = f"{len(messages)} answers read; {shown or 'none tells'}"
    return server.outcome(held=not found, note=note, others=others)


def _refusals(server: Attacked) -> Iterator[str]:
    address = ("127.0.0.1", server.server.http_port)
    cases: tuple[http.Case | kserve.Rest, ...] = (*http.CASES, *kserve.REST)
    for case in cases:
        if not getattr(case, "closes", False) and b"/unload" not in case.request:
            answer = send(address, case.request)
            # What is given back of the request's own, as it is, is no secret: a good answer's.
            yield f"{answer.headers} {answer.body.decode('utf-8', 'replace')}"
    with Client(server.server.target) as client:
        docs = client.create_collection("docs", model="tiny")
        client.upsert("docs", [1, 2], ["the cat", "the sun"])
    with grpc.insecure_channel(server.server.target) as channel:
        for bad in requests.CASES:
            if not bad.rpc.startswith("Models/Unload"):
                yield requests.send(bad, channel, docs.fingerprint).message
        stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for one in kserve.GRPC:
            yield _failure(stub.ModelInfer, one.request)
        for name in ("SystemSharedMemoryStatus", "TraceSetting", "LogSettings"):
            yield _failure(getattr(stub, name), getattr(service_pb2, f"{name}Request")())


def _long_over_http(server: Attacked) -> Iterator[str]:
    address = ("127.0.0.1", server.server.http_port)
    good: dict[str, Any] = {"model": "tiny", "input": "the cat"}
    tensor: dict[str, Any] = {
        "name": "text",
        "shape": [1],
        "datatype": "BYTES",
        "data": ["the cat"],
    }
    faults: list[dict[str, Any]] = [
        *({name: LONG} for name in ("model", "encoding_format", "role", "truncate", LONG)),
        *({name: int(LONG[:300])} for name in ("dimensions", "truncate", "input", "priority")),
        {"input": [int(LONG[:300])]},
        {"input": [[int(LONG[:30])]]},
    ]
    bodies = [("/v1/embeddings", {**good, **fault}) for fault in faults]
    bodies += [
        ("/v2/models/tiny/infer", {"inputs": [{**tensor, **one}], **whole})
        for one, whole in (
            ({LONG: 1}, {}),
            ({"name": LONG}, {}),
            ({"datatype": LONG}, {}),
            ({"shape": [int(LONG[:300])]}, {}),
            ({"parameters": {LONG: 1}}, {}),
            ({"parameters": {"binary_data_size": int(LONG[:300])}}, {}),
            ({}, {LONG: 1}),
            ({}, {"parameters": {LONG: LONG}}),
            ({}, {"parameters": {"timeout": int(LONG[:300])}}),
            ({}, {"parameters": {"dimensions": int(LONG[:300])}}),
            ({}, {"parameters": {"role": LONG}}),
            ({}, {"outputs": [{"name": LONG}]}),
        )
    ]
    for path, body in bodies:
        yield send(address, request("POST", path, json.dumps(body).encode())).body.decode()
    for target in (
        f"/{LONG}",
        f"/v1/models/{LONG}",
        f"/v2/models/{LONG}",
        f"/v2/models/tiny/versions/{LONG}",
    ):
        yield send(address, get(target)).body.decode()
    for header in ("Content-Type", "Content-Encoding", "Origin", "Sec-Fetch-Site", "x-request-id"):
        lines = request("POST", "/v1/embeddings", b"{}", f"{header}: {LONG}", kind=None)
        answer = send(address, lines)
        yield f"{answer.headers} {answer.body.decode()}"
    yield send(address, get("/v1/models", host=LONG)).body.decode()


def _long_over_grpc(server: Attacked) -> Iterator[str]:
    """Every call with every text of its request set to LONG, and every number to a large one."""
    with grpc.insecure_channel(server.server.target) as channel:
        for service in SERVICES:
            for method in service.methods:
                if method.client_streaming:
                    continue
                for field in method.input_type.fields:
                    message = message_factory.GetMessageClass(method.input_type)()
                    if not _fill(message, field):
                        continue
                    call: Any = channel.unary_unary(f"/{service.full_name}/{method.name}")
                    yield _failure(call, message.SerializeToString())


def _fill(message: Any, field: Any) -> bool:
    """Set a field to what is long; False where it holds none."""
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        getattr(message, field.name)[LONG].SetInParent()
    elif field.message_type is not None:
        whole = getattr(message, field.name)
        whole = whole.add() if field.is_repeated else whole
        whole.SetInParent()
        for inner in field.message_type.fields:
            if inner.type == inner.TYPE_STRING:
                value: Any = [LONG] if inner.is_repeated else LONG
                setattr(whole, inner.name, value) if not inner.is_repeated else getattr(
                    whole, inner.name
                ).extend(value)
    elif field.type == field.TYPE_STRING:
        if field.is_repeated:
            getattr(message, field.name).append(LONG)
        else:
            setattr(message, field.name, LONG)
    else:
        return False
    return True


def _failing_bundle(path: Path) -> Path:
    """Write a text bundle whose graph has no row for POISON, and fails on it."""
    manifest = text_manifest(name="harmed")
    files = text_files(manifest)
    (graph,) = (name for name in files if name.endswith(".onnx"))
    model = onnx.load_from_string(files[graph])
    (table,) = (one for one in model.graph.initializer if one.name == "table")
    table.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(table)[:-1], "table"))
    return Bundle.write(path, manifest, {**files, graph: model.SerializeToString()}).path


def _damage(data: Path) -> None:
    for path in data.rglob("*"):
        inside = path.relative_to(data).parts
        if path.is_file() and (
            inside[:2] == ("collections", "damaged") or inside[0] != "collections"
        ):
            content = bytearray(path.read_bytes())
            for at in range(0, len(content), 7):
                content[at] ^= 0x55
            path.write_bytes(content)


def _bad_bundles(folder: Path) -> None:
    folder.mkdir()
    whole = tiny_bundle(folder / "cut.attar", name="cut")
    graph = whole / "variants" / "fp32.onnx"
    graph.write_bytes(graph.read_bytes()[:-50])
    (tiny_bundle(folder / "lacks.attar", name="lacks") / "tokenizer.json").unlink()
    (tiny_bundle(folder / "more.attar", name="more") / "extra.pkl").write_bytes(b"x")
    (tiny_bundle(folder / "nojson.attar", name="nojson") / "manifest.json").write_bytes(b"{")
    (folder / "noise.zip").write_bytes(b"PK\3\4" + bytes(range(256)))
    (folder / "empty.attar").mkdir()


def _broken(server: Attacked) -> Iterator[str]:
    bad = ("cut", "lacks", "more", "nojson", "noise", "empty", "no such")
    with Client(server.server.target) as client:
        calls: list[Callable[[], object]] = [partial(client.load_model, name) for name in bad]
        calls += [
            lambda: client.collection("damaged", deadline_s=1),
            lambda: client.search("damaged", ["the cat"], deadline_s=1),
            lambda: client.upsert("damaged", [1], ["the cat"], deadline_s=1),
            lambda: client.count("damaged", deadline_s=1),
            lambda: client.snapshot("damaged", deadline_s=1),
            lambda: client.optimize("damaged", deadline_s=1),
            lambda: client.score_anomaly("normal", ["the cat"], deadline_s=1),
            lambda: client.restore(
                "whole", client.snapshots("whole")[0].id, replace=True, deadline_s=3
            ),
            lambda: client.restore("whole", "0" * 64, replace=True, deadline_s=3),
            lambda: client.embed([POISON], deadline_s=1),
            lambda: client.search("whole", [POISON], deadline_s=1),
            lambda: client.set_variant("harmed", "no"),
        ]
        yield from map(_raised, calls)
        yield str(client.models())
        yield str(client.info())
    with grpc.insecure_channel(server.server.target) as channel:
        stub: Any = models_pb2_grpc.ModelsStub(channel)
        yield str(stub.Index(models_pb2.IndexRequest()))
        kserve_stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        yield str(kserve_stub.RepositoryIndex(service_pb2.RepositoryIndexRequest()))
    address = ("127.0.0.1", server.server.http_port)
    embed = {"model": "harmed", "input": POISON}
    yield send(address, request("POST", "/v1/embeddings", json.dumps(embed).encode())).body.decode()
    yield send(address, request("POST", "/v2/repository/index", b"{}")).body.decode()
    for name in bad[:2]:
        target = f"/v2/repository/models/{name}/load"
        yield send(address, request("POST", target, b"{}")).body.decode()
    for target in (
        "/readyz",
        "/v1/models",
        "/v2/models/harmed",
        "/v2/models/stats",
        "/openapi.json",
    ):
        yield send(address, get(target)).body.decode()
    with closing(HTTPConnection("127.0.0.1", server.server.metrics_port)) as metrics:
        metrics.request("GET", "/metrics")
        yield metrics.getresponse().read().decode()


def _raised(call: Any) -> str:
    """What the client says of a call that fails, and "" of one that does not."""
    try:
        call()
    except AttarError as error:
        return str(error)
    return ""


def _failure(call: Any, message: Any) -> str:
    """All that a call says when it fails: its details and its trailers."""
    try:
        call(message, timeout=20)
    except grpc.RpcError as error:
        failed: Any = error
        trailers = (
            value.decode("utf-8", "replace") if isinstance(value, bytes) else value
            for name, value in failed.trailing_metadata()
            if name != "grpc-status-details-bin"
        )
        return " ".join((failed.details() or "", *trailers))
    return ""


ATTACKS: Final = (
    Attack("what refusals tell", every_refusal),
    Attack("long values given back", long_values),
    Attack("what broken parts tell", broken_parts),
    Attack("forged lines of the log", forged_lines),
)
