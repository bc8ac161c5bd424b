"""Attacks on what is made before it is counted: small requests that grow, large ones that count."""

import json
import socket
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import grpc
import httpx
import numpy as np

from attar import Client
from attar.errors import LimitReached
from attar.v1 import classification_pb2 as cla
from attar.v1 import embedding_pb2 as emb
from attar.v1 import item_pb2 as itm

from .ground import Attack, Attacked, Outcome, attacked

BYTES: Final = 15 * 2**20  # of a request; the server takes 16 MiB
ITEMS: Final = 150_000_000
GROWTH_MB: Final = 350.0  # a request and what it is made into; red teams saw 600 and more
AT_ONCE: Final = 12
DEADLINE_S: Final = 180.0  # 12 requests of 16 MB take 20 s where others have the processors
EMBED: Final = "attar.v1.Embedding/Embed"
INFER: Final = "inference.GRPCInferenceService/ModelInfer"
_UNLIMITED: Final = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


@dataclass(frozen=True, slots=True)
class Probe:
    """A request, and text that must come back: of a refusal, or "" where it is answered."""

    name: str
    target: str  # an RPC, or a path
    body: bytes
    message: str
    headers: tuple[tuple[str, str], ...] = ()


def refusals(folder: Path, probes: Iterator[Probe]) -> Outcome:
    """Send each, one after the other: it must come back as it should, and memory must stay low."""
    with attacked(folder) as server:
        wrong, before, count = list[str](), server.server.rss_mb, 0
        for probe in probes:
            count += 1
            came = sent(server, probe)
            if not (probe.message in came if probe.message else came == ""):
                wrong.append(f"{probe.name}: {came[:200]!r}")
        growth_mb = server.peak_mb - before
        summary = f"{count - len(wrong)} of {count} came back as they should, +{growth_mb:.0f} MB"
        return server.outcome(
            held=not wrong and growth_mb < GROWTH_MB, note="; ".join((summary, *wrong[:3]))
        )


def sent(server: Attacked, probe: Probe) -> str:
    """Send a request; gives what it, or its first bad item, was refused with, or ""."""
    if probe.target.startswith("/"):
        answer = httpx.post(
            f"http://127.0.0.1:{server.server.http_port}{probe.target}",
            content=probe.body,
            headers={"content-type": "application/json", **dict(probe.headers)},
            timeout=DEADLINE_S,
        )
        return "" if answer.status_code == 200 else f"{answer.status_code} {answer.text[:500]}"
    with grpc.insecure_channel(server.server.target, options=_UNLIMITED) as channel:
        call: Any = channel.unary_unary(f"/{probe.target}")
        try:
            answered: bytes = call(probe.body, timeout=DEADLINE_S)
        except grpc.RpcError as refused:
            error: Any = refused
            return f"{error.code().name} {error.details()}"
    if probe.target != EMBED:
        return ""
    items = emb.EmbedResponse.FromString(answered).items
    return next((one.error.message for one in items if one.HasField("error")), "")


def shape_without_bytes(folder: Path) -> Outcome:
    """Ask by a hundred bytes for an array of 150 million texts, over REST and gRPC."""
    return refusals(folder, _shapes())


def _shapes() -> Iterator[Probe]:
    for count in (ITEMS, 2**31):
        head = b'{"inputs":[{"name":"text","shape":[%d],"datatype":"BYTES","parameters":' % count
        head += b'{"binary_data_size":4}}]}'
        yield Probe(
            f"{count} texts by REST",
            "/v2/models/tiny/infer",
            head + bytes(4),
            "2048 items (max_items)",
            (
                ("content-type", "application/octet-stream"),
                ("inference-header-content-length", str(len(head))),
            ),
        )
        tensor = field(1, b"text") + field(2, b"BYTES") + field(3, varint(count))
        body = field(1, b"tiny") + field(5, tensor) + field(7, bytes(4))
        yield Probe(f"{count} texts by gRPC", INFER, body, "2048 items (max_items)")


def shapes_of_many_axes(folder: Path) -> Outcome:
    """Ask for arrays of more axes than any has, whose product would be a number of megabytes."""
    return refusals(folder, _axes())


def _axes() -> Iterator[Probe]:
    axes, message = 30_000, "1 to 8 axes"
    for name, axis in {"large": 2**62, "smallest": 1}.items():
        packed = field(3, varint(axis) * axes)
        tensor = field(1, b"text") + field(2, b"BYTES") + packed
        body = field(1, b"tiny") + field(5, tensor) + field(7, bytes(4))
        yield Probe(f"{axes} {name} axes by gRPC", INFER, body, message)
        shape = [axis] * 20 * axes
        tensors = [{"name": "text", "datatype": "BYTES", "shape": shape, "data": ["a"]}]
        infer = json.dumps({"inputs": tensors}, separators=(",", ":")).encode()
        yield Probe(f"{20 * axes} {name} axes by REST", "/v2/models/tiny/infer", infer, message)
    long = {"name": "text", "datatype": "BYTES", "shape": [10**4000] * 8, "data": ["a"]}
    infer = json.dumps({"inputs": [long]}).encode()
    yield Probe("axes of 4000 digits", "/v2/models/tiny/infer", infer, "text has shape [1000")


def long_items(folder: Path) -> Outcome:
    """Send one item as long as a message may be: texts of several kinds, and token ids."""
    return refusals(folder, _long())


def _long() -> Iterator[Probe]:
    for name, text in {
        "short words": "a " * (BYTES // 2),
        "one word": "a" * BYTES,
        "CJK": "\u4e00" * (BYTES // 3),
        "one astral character": "a" * (BYTES - 4) + "\U0001f600",
        "blanks": " " * BYTES,
    }.items():
        request = emb.EmbedRequest(texts=itm.Texts(values=[text])).SerializeToString()
        yield Probe(f"a text of {name}", EMBED, request, "larger than max_item_bytes, 4194304")
    ids = field(9, field(1, b"\x01" * BYTES) + field(2, varint(BYTES)))
    yield Probe("token ids", EMBED, ids, f"has {BYTES} tokens and the encoder takes 16")


def many_items(folder: Path) -> Outcome:
    """Send millions of items or labels of two bytes each, wherever a call takes them."""
    return refusals(folder, _many())


def _many() -> Iterator[Probe]:
    fields = "fields and elements, 16 for each of max_items"
    empty = b"\x0a\x00" * (BYTES // 2)
    yield Probe("empty texts", EMBED, field(3, empty), fields)
    ids = field(3, empty) + b"\x07"  # a broken end
    yield Probe("ids before a broken end", "attar.v1.Collections/Search", ids, "not the protobuf")
    lengths = field(9, field(2, b"\x00" * BYTES))
    yield Probe("token ids of no length", EMBED, lengths, "a request takes 2048 (max_items)")
    labels = field(3, field(1, b"cat")) + b"\x2a\x00" * (BYTES // 2)
    tag = cla.FitClassifierRequest.DESCRIPTOR.fields_by_name["labels"].number
    labels = labels.replace(b"\x2a\x00", bytes((tag << 3 | 2, 0)), -1)
    yield Probe("labels", "attar.v1.Classification/Fit", field(1, b"x") + labels, fields)
    for name, number in {"inputs": 5, "outputs": 6, "parameters": 4, "contents": 7}.items():
        body = field(1, b"tiny") + bytes((number << 3 | 2, 0)) * (BYTES // 2)
        yield Probe(f"KServe's {name}", INFER, body, fields)
    typed = field(5, field(1, b"text") + field(5, bytes((8 << 3 | 2, 0)) * (BYTES // 2)))
    yield Probe("KServe's typed texts", INFER, field(1, b"tiny") + typed, fields)
    tensor = field(1, b"text") + field(2, b"BYTES") + field(3, varint(BYTES // 4))
    raw = field(1, b"tiny") + field(5, tensor) + field(7, bytes(BYTES))
    yield Probe("KServe's raw texts", INFER, raw, "2048 items (max_items)")


def json_bombs(folder: Path) -> Outcome:
    """Send JSON of a size that is taken, whose values take many times as much."""
    return refusals(folder, _json())


def _json() -> Iterator[Probe]:
    for name, element, openai in (
        ("numbers", b"1", True),
        ("lists", b"[]", True),
        ("objects", b"{}", False),
        ("objects of a field", b'{"a":1}', True),
        ("texts", b'""', False),
        ("floats", b"1.5", False),
        ("lists in lists", b"[[[1]]]", False),
    ):
        count = BYTES // (len(element) + 1)
        many = b"[" + (element + b",") * count + element + b"]"
        message = "more values than max_json_values, 1052672"
        if openai:
            body = b'{"model":"tiny","input":' + many + b"}"
            yield Probe(f"OpenAI's {name}", "/v1/embeddings", body, message)
        else:
            tensor = b'{"name":"text","datatype":"BYTES","shape":[1],"data":' + many + b"}"
            body = b'{"inputs":[' + tensor + b"]}"
            yield Probe(f"KServe's {name}", "/v2/models/tiny/infer", body, message)
    keys = b",".join(b'"%x":1' % number for number in range(BYTES // 11))
    yield Probe("a million fields", "/v1/embeddings", b"{" + keys + b"}", "max_json_values")
    deep = b'{"input":' + b"[" * (BYTES // 2) + b"]" * (BYTES // 2) + b"}"
    yield Probe("depth", "/v1/embeddings", deep, "more values than max_json_values")
    wide = json.dumps({"model": "tiny", "input": "\U0001f600" + "a" * (BYTES - 99)}).encode()
    yield Probe("an escaped astral text", "/v1/embeddings", wide, "larger than max_item_bytes")
    commas = json.dumps({"model": "tiny", "input": [", [" * 5 * 2**17] * 7, "truncate": True})
    yield Probe("commas in texts, which are legal", "/v1/embeddings", commas.encode(), "")


def responses_that_multiply(folder: Path) -> Outcome:
    """Ask for more answer than a request: an output many times, ids of megabytes that come back."""
    return refusals(folder, _multiplied())


def _multiplied() -> Iterator[Probe]:
    texts = {"name": "text", "datatype": "BYTES", "shape": [2048], "data": ["a"] * 2048}
    for count, message in ((2, "named twice"), (700, "outputs are 700, and a request may name 8")):
        body = {"inputs": [texts], "outputs": [{"name": "embedding"}] * count}
        infer = json.dumps(body).encode()
        yield Probe(f"an output {count} times", "/v2/models/tiny/infer", infer, message)
    named = {"inputs": [{**texts, "shape": [1], "data": ["a"]}], "id": "a" * BYTES}
    message = "more than max_name_characters, 256"
    yield Probe("an id by REST", "/v2/models/tiny/infer", json.dumps(named).encode(), message)
    request = emb.EmbedRequest(id="a" * BYTES, texts=itm.Texts(values=["a"]))
    yield Probe("an id by gRPC", EMBED, request.SerializeToString(), message)


def many_at_once(folder: Path) -> Outcome:
    """Send the largest legal requests of three kinds, many at once."""
    with attacked(folder) as server:
        probes = [*_legal()] * (AT_ONCE // 3)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            came = list(pool.map(lambda probe: sent(server, probe), probes))
        refused = [one for one in came if one]
        right = all("max_working_bytes" in one for one in refused)
        note = f"{len(came) - len(refused)} answered, {len(refused)} refused with a retry"
        if not right:
            note += f": {next(one for one in refused if 'max_working_bytes' not in one)[:200]}"
        return server.outcome(held=right and len(refused) < len(came), note=note)


def large_bodies(folder: Path) -> Outcome:
    """Ask whether to send a large body, many at once; after 100 Continue it must be read."""
    wide = {"model": "no such", "input": ["\u4e00" * (BYTES // 3)]}
    numbers = {"model": "no such", "input": [0.5] * 500_000}
    bodies = [json.dumps(one, ensure_ascii=False).encode() for one in (wide, numbers)]
    came = list[str]()
    with attacked(folder) as server, ThreadPoolExecutor(AT_ONCE) as pool:
        ask = partial(_after_continue, server.server.http_port)
        for body in bodies:
            came += pool.map(ask, [body] * AT_ONCE)
        read = sum(one in ("100 400", "100 404") for one in came)
        refused = came.count("429")
        note = f"{read} of {len(came)} were let in and read, {refused} refused before"
        held = read >= 2 * len(bodies) and read + refused == len(came)
        return server.outcome(held=held, note=note if held else f"{note}: {sorted(came)}")


def _after_continue(port: int, body: bytes) -> str:
    """Send a body if the server says so; gives the codes that came."""
    head = "POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as connection:
        connection.sendall(f"{head}expect: 100-continue\r\n\r\n".encode())
        came = connection.recv(2**16)[9:12].decode()
        if came == "100":
            connection.sendall(body)
            came += f" {connection.recv(2**16)[9:12].decode()}"
        return came


def _legal() -> Sequence[Probe]:
    text = "a" * (BYTES // 2048 - 8)
    texts = emb.EmbedRequest(texts=itm.Texts(values=[text] * 2048)).SerializeToString()
    wide = json.dumps(
        {"model": "tiny", "input": ["\u4e00" * (BYTES // 2048 // 4)] * 2048, "truncate": True},
        ensure_ascii=False,
    ).encode()
    encoded = struct.pack("<I", len(text)) + text.encode()
    tensor = field(1, b"text") + field(2, b"BYTES") + field(3, varint(2048))
    raw = field(1, b"tiny") + field(5, tensor) + field(7, encoded * 2048)
    return (
        Probe("texts", EMBED, texts, ""),
        Probe("JSON", "/v1/embeddings", wide, ""),
        Probe("raw texts", INFER, raw, ""),
    )


def field(number: int, content: bytes) -> bytes:
    """A field of protobuf that has a length."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    """A number of protobuf."""
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes((*found, value))


def heads_without_end(folder: Path) -> Outcome:
    """Fit detectors and classifiers of many points and long labels until nobody can any more."""
    limit, heads = 2**20, folder / "data"
    points = np.random.default_rng(0).normal(size=(2000, 16)).astype(np.float32)
    labels = ["a" * 250 + str(number) for number in range(200)]
    texts = [f"the cat {number}" for number in range(200)]
    with (
        attacked(folder, "--max-heads-bytes", limit) as server,
        Client(server.server.target) as client,
    ):
        (model,) = client.info().models
        client.create_collection("docs")
        client.upsert("docs", range(2000), vectors=points, fingerprint=model.fingerprint)
        kept, said = 0, set[str]()
        for number in range(12):
            for fit in (
                partial(client.fit_anomaly, collection="docs"),
                partial(client.fit_classifier, items=texts, labels=labels),
            ):
                try:
                    fit(f"head-{number}")
                    kept += 1
                except LimitReached as error:
                    said.add(str(error))
        size = sum(path.stat().st_size for path in heads.rglob("*.npz"))
        named = said and all(f"max_heads_bytes, {limit}" in one for one in said)
        held = bool(named) and limit // 2 < size <= limit
        return server.outcome(held=held, note=f"{kept} heads of 24, {size} bytes of {limit}")


ATTACKS: Final = (
    Attack("a shape without bytes", shape_without_bytes),
    Attack("a shape of many axes", shapes_of_many_axes),
    Attack("one item as long as a message", long_items),
    Attack("millions of items", many_items),
    Attack("JSON bombs", json_bombs),
    Attack("answers that multiply", responses_that_multiply),
    Attack("the largest requests, many at once", many_at_once),
    Attack("heads without end", heads_without_end),
    Attack("large bodies that ask whether to come", large_bodies),
)
