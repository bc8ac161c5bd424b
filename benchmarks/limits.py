"""Limits: the memory of a server with its default limits under the worst requests that they allow.

    python -m benchmarks.limits MODEL.attar --out benchmarks/results/limits.json

`attar serve` with nothing but its ports and folders set is sent the worst legal requests of each
kind, one alone and then CALLERS at once. `peak_mb` is the most that the server and its children
hold resident from before a row until its answers are read. Rows follow each other in one server,
each once what the last one left has gone back or SETTLE_S have passed; the last row sends one of
each kind together. A call has DEADLINE_S; memory for a call that ends at the deadline was held too.
`answered` and `refused` count the calls; `told` is the first refusal.
"""

import argparse
import json
import struct
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

import grpc
import httpx
import psutil

import attar
from attar.bundle import Bundle
from attar.host import describe
from attar.server import settings
from attar.v1 import embedding_pb2 as emb
from attar.v1 import info_pb2
from attar.v1 import item_pb2 as itm

from .attacks.counted import field, varint
from .faults.ground import Server, served

CALLERS: Final = 16
DEADLINE_S: Final = 6.0
SETTLE_S: Final = 6.0
SETTLED: Final = 1.05  # of what was resident at the start
SAMPLE_EVERY_S: Final = 0.02
_ROOM: Final = 2**10  # bytes of a request that are no item's
EMBED: Final = "/attar.v1.Embedding/Embed"
STREAM: Final = "/attar.v1.Embedding/EmbedStream"
INFER: Final = "/inference.GRPCInferenceService/ModelInfer"


@dataclass(frozen=True, slots=True)
class Worst:
    """The worst legal request of a kind."""

    name: str
    target: str  # an RPC, or a path
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What a server took for one kind, so many at once."""

    kind: str
    callers: int
    request_bytes: int
    answered: int
    refused: int
    told: str
    seconds: float
    before_mb: float
    peak_mb: float


def worst(bundle: Path) -> Iterator[Worst]:
    """Give the worst legal request of each kind for a text model with default limits."""
    limits, model = settings.read([str(bundle)]), Bundle.open(bundle).manifest
    items, size = limits.max_items, limits.max_message_bytes - _ROOM
    each = size // items - 8
    equal = ["a" * each] * items  # equal, so that one run answers all of them
    different = [f"{i} " + "a " * (each // 2 - 4) for i in range(items)]
    texts = emb.EmbedRequest(texts=itm.Texts(values=equal)).SerializeToString()
    yield Worst("texts, equal", EMBED, texts)
    yield Worst("texts of a stream, equal", STREAM, texts)
    others = emb.EmbedRequest(texts=itm.Texts(values=different)).SerializeToString()
    yield Worst("texts, different", EMBED, others)
    long = limits.max_item_bytes
    for name, text in {
        "short words": "a " * (long // 2),
        "one word": "a" * long,
        "an astral character": "\U0001f600" + "a" * (long - 4),
    }.items():
        few = emb.EmbedRequest(texts=itm.Texts(values=[text] * (size // long))).SerializeToString()
        yield Worst(f"texts of max_item_bytes, {name}", EMBED, few)
    ids = attar.load(bundle, threads=1).prepare(
        ["a " * 4096], role="passage", truncation="truncate"
    )
    row = ids[0].arrays[0].tolist()
    tokens = itm.Tokens(ids=row * items, lengths=[len(row)] * items)
    yield Worst("token ids", EMBED, emb.EmbedRequest(tokens=tokens).SerializeToString())
    encoded = struct.pack("<I", each) + b"a" * each
    tensor = field(1, b"text") + field(2, b"BYTES") + field(3, varint(items))
    named = model.name.encode()
    raw = field(1, named) + field(5, tensor) + field(7, encoded * items)
    yield Worst("KServe's gRPC, raw", INFER, raw)
    typed = tensor + field(5, field(8, b"a" * each) * items)
    yield Worst("KServe's gRPC, typed", INFER, field(1, named) + field(5, typed))
    infer = f"/v2/models/{model.name}/infer"
    wide = ["\u4e00" * (each // 3 - 2)] * items
    front: dict[str, Any] = {"name": "text", "datatype": "BYTES", "shape": [items], "data": wide}
    yield Worst("KServe's REST, numbers as JSON", infer, dumped({"inputs": [front]}))
    front["data"] = [text[1:] + "\U0001f600" for text in wide]
    yield Worst("KServe's REST, astral characters", infer, dumped({"inputs": [front]}))
    body = {"model": model.name, "input": wide, "truncate": True}
    yield Worst("OpenAI's, numbers as JSON", "/v1/embeddings", dumped(body))
    yield Worst("OpenAI's, base64", "/v1/embeddings", dumped({**body, "encoding_format": "base64"}))
    yield Worst("OpenAI's, token ids", "/v1/embeddings", dumped({**body, "input": [row] * items}))
    count = limits.max_json_values // 2 - _ROOM
    bomb = b'{"model":"a","input":[' + b'{"a":1},' * count + b'{"a":1}]}'
    yield Worst("JSON of max_json_values objects", "/v1/embeddings", bomb)
    padded = b'{"model":"a","input":["\xf0\x9f\x98\x80' + b"a" * (size - 5 * 10**6)
    lists = b",".join([b"[1.5]"] * (limits.max_json_values // 2 - _ROOM))
    yield Worst("JSON of lists and a text", "/v1/embeddings", padded + b'",' + lists + b"]}")


def dumped(body: object) -> bytes:
    """Give JSON without escapes."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


class Peak:
    """The most memory that a server holds while the block runs."""

    def __init__(self, server: Server) -> None:
        """Sample this server."""
        self._server = server
        self._stop = threading.Event()
        self.before_mb = self.most_mb = server.rss_mb
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        with suppress(psutil.NoSuchProcess):
            while not self._stop.wait(SAMPLE_EVERY_S):
                self.most_mb = max(self.most_mb, self._server.rss_mb)


def measure(server: Server, kinds: Sequence[Worst]) -> Row:
    """Send these requests at once, by a caller each."""
    began = time.perf_counter()
    with Peak(server) as peak, ThreadPoolExecutor(len(kinds)) as pool:
        came = list(pool.map(lambda kind: send(server, kind), kinds))
    refused = [one for one in came if one]
    return Row(
        kind=kinds[0].name if len(set(kinds)) == 1 else "one of each",
        callers=len(kinds),
        request_bytes=max(len(kind.body) for kind in kinds),
        answered=len(came) - len(refused),
        refused=len(refused),
        told=refused[0][:160] if refused else "",
        seconds=round(time.perf_counter() - began, 1),
        before_mb=peak.before_mb,
        peak_mb=peak.most_mb,
    )


def settle(server: Server, idle_mb: float) -> None:
    """Wait until memory has gone back, or for SETTLE_S."""
    ends = time.monotonic() + SETTLE_S
    while server.rss_mb > idle_mb * SETTLED and time.monotonic() < ends:
        time.sleep(SAMPLE_EVERY_S)


def send(server: Server, kind: Worst) -> str:
    """Send a request; gives what it was refused with, or ""."""
    if not kind.target.startswith(("/attar.v1", "/inference")):
        try:
            answer = httpx.post(
                f"http://127.0.0.1:{server.http_port}{kind.target}",
                content=kind.body,
                headers={"content-type": "application/json"},
                timeout=DEADLINE_S,
            )
        except httpx.HTTPError as error:
            return f"{type(error).__name__}: {error}"
        return "" if answer.status_code == 200 else f"{answer.status_code} {answer.text}"
    with channel(server) as to:
        try:
            if kind.target == STREAM:
                stream: Any = to.stream_stream(kind.target)
                for _ in stream(iter([kind.body] * 4), timeout=DEADLINE_S):
                    pass
            else:
                unary: Any = to.unary_unary(kind.target)
                unary(kind.body, timeout=DEADLINE_S)
        except grpc.RpcError as refused:
            why: Any = refused
            return f"{why.code().name} {why.details()}"
    return ""


@contextmanager
def channel(server: Server) -> Iterator[grpc.Channel]:
    """A connection that takes answers of any size."""
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(server.target, options=options) as to:
        yield to


def published_limits(server: Server) -> dict[str, int]:
    """The limits as Info tells them."""
    with channel(server) as to:
        ask: Any = to.unary_unary("/attar.v1.Info/GetInfo")
        info = info_pb2.GetInfoResponse.FromString(ask(b"", timeout=DEADLINE_S))
    return {one.name: getattr(info.limits, one.name) for one in info.limits.DESCRIPTOR.fields}


def main() -> None:
    """Measure every kind, print a row each, and write them all."""
    parser = argparse.ArgumentParser(description="Send the worst legal requests; see memory.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--out", type=Path, help="the JSON file to write")
    arguments = parser.parse_args()
    rows = list[Row]()
    with (
        tempfile.TemporaryDirectory(prefix="attar-limits-") as folder,
        served(Path(folder), arguments.bundle) as server,
    ):
        limits = published_limits(server)
        idle_mb = server.rss_mb
        kinds = list(worst(arguments.bundle))
        for sent in [*([kind] * callers for kind in kinds for callers in (1, CALLERS)), kinds]:
            settle(server, idle_mb)
            rows.append(measure(server, sent))
            print(json.dumps(asdict(rows[-1])), flush=True)
    result = {
        "command": "python -m benchmarks.limits MODEL.attar --out OUT",
        "machine": describe(),
        "model": Bundle.open(arguments.bundle).manifest.name,
        "limits": limits,
        "patience_s": DEADLINE_S,
        "idle_mb": idle_mb,
        "peak_mb": max(row.peak_mb for row in rows),
        "rows": [asdict(row) for row in rows],
    }
    print(f"at most {result['peak_mb']} MB, {idle_mb} MB idle")
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
