"""Rivals: the same weights behind attar and five other servers, asked the same texts alike.

    python -m benchmarks.rivals --out benchmarks/results/rivals.json

About 15 minutes on two quiet cores, after the first run has built the rivals' environments in
build/servers (10 minutes and 5 GB, from PyPI). A server that cannot be run is a row that says why.

One server at a time has half of the cores, however many processes and threads it is made of, and
the load generator the others; each is set to use one thread for each core of its own. One text a
request, of 16 to 256 tokens, none of them twice. Closed loop at 1, 8, 32 and 128 clients; then an
open loop at 70 % of the best throughput that the server itself showed. Each measurement begins with
seconds that do not count.

infinity and sentence-transformers load the folder of all-MiniLM-L6-v2; infinity's optimum engine an
ONNX export of it by optimum-cli, which it then optimises; LitServe, MLServer and PyTriton run the
very graph that attar serves, with its session options. Those who batch by number and time are given
infinity's: 32 texts, 5 ms. Each row also has the cosine of the engine's answers to
sentence-transformers' in torch.
"""

import argparse
import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families
from tritonclient.grpc import service_pb2

from attar import wire
from attar.bundle import Bundle
from attar.host import describe
from attar.v1 import embedding_pb2

from .environments import environment, run
from .load import Address, Seen, again_and_again, closed, opened, responses
from .processes import Cores, Running, attar_command, half_of_the_cores, running
from .traces import ROOT, minilm, minilm_folder, texts

ENVIRONMENTS = ROOT / "build" / "servers"
OURS = Path(__file__).parent / "rival_servers"
TEXTS, CHECKED = 2048, 64
CLIENTS = (1, 8, 32, 128)
SHARE = 0.7
BATCH, WAIT_S = 32, 0.005
ONNX = ("onnxruntime==1.32.0", "tokenizers==0.23.3")
REQUIREMENTS = {
    # Pinned first: it is the build without CUDA.
    "infinity": ("torch==2.13.0", "infinity-emb[server,torch,optimum]==0.0.78"),
    "litserve": ("litserve==0.2.19", *ONNX),
    "mlserver": ("mlserver==1.7.1", *ONNX),
    "pytriton": ("nvidia-pytriton==0.7.0", "numpy<2", *ONNX),
    "fastapi": ("torch==2.13.0", "sentence-transformers==6.2.0", "fastapi", "uvicorn"),
}
PACKAGES = {"infinity": "infinity-emb", "pytriton": "nvidia-pytriton"}

Vector = NDArray[np.float32]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What every server is given, and where it is to answer."""

    bundle: Path
    folder: Path
    graph: Path
    scratch: Path
    cores: Cores
    ports: tuple[int, int]

    @property
    def environment(self) -> dict[str, str]:
        """Tell our side of a rival what to serve."""
        return {
            "FOLDER": str(self.folder),
            "GRAPH": str(self.graph),
            "TOKENIZER": str(self.bundle / "tokenizer.json"),
            "PADDING": str(self.scratch / "padding"),
            "THREADS": str(len(self.cores.server)),
            "HF_HOME": str(self.scratch / "hf"),
            "PYTHONPATH": str(OURS),
            # Triton's stub runs libpython, and has to find the one that the environment is of.
            "LD_LIBRARY_PATH": str(Path(sys.base_prefix) / "lib"),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One server: what it is, how it is started, asked and understood."""

    server: str
    runs: str
    environment: str  # of Python; attar's own is ""
    command: Callable[[World, Path], Sequence[str | Path]]
    address: Callable[[World], Address]
    encode: Callable[[str], bytes]
    decode: Callable[[bytes], Vector]
    settings: Mapping[str, object] = field(default_factory=dict)
    padding: Callable[[World], float | None] = lambda _world: None
    prepare: Callable[[World, Path], None] = lambda _world, _python: None


def attar_grpc(variant: str) -> Served:
    """Serve a variant by attar, asked over attar.v1."""

    def encode(text: str) -> bytes:
        message = embedding_pb2.EmbedRequest()
        message.texts.values.append(text)
        return message.SerializeToString()

    def decode(data: bytes) -> Vector:
        response = embedding_pb2.EmbedResponse.FromString(data)
        return np.asarray(wire.from_tensor(response.embeddings)[0], np.float32)

    return Served(
        server="attar, gRPC",
        runs=f"its bundle, {variant}",
        environment="",
        command=lambda world, _: _attar(world, variant),
        address=lambda world: Address(
            port=int((world.scratch / "ready").read_text("utf-8")),
            path="/attar.v1.Embedding/Embed",
            grpc=True,
        ),
        encode=encode,
        decode=decode,
        padding=_metrics_padding,
    )


def attar_http(variant: str) -> Served:
    """Serve a variant by attar, asked as OpenAI's clients ask."""
    return Served(
        server="attar, HTTP",
        runs=f"its bundle, {variant}",
        environment="",
        command=lambda world, _: _attar(world, variant, http_port=world.ports[0]),
        address=lambda world: Address(port=world.ports[0], path="/v1/embeddings"),
        encode=_openai,
        decode=lambda answer: _row(json.loads(answer)["data"][0]["embedding"]),
        padding=_metrics_padding,
    )


def _attar(world: World, variant: str, *, http_port: int | str = "off") -> list[str | Path]:
    return attar_command(
        world.bundle,
        variant,
        world.scratch,
        threads=len(world.cores.server),
        http_port=http_port,
        metrics_port=world.ports[1],
    )


def _metrics_padding(world: World) -> float | None:
    """Read from attar's metrics how much of what it ran was padding; None where it cannot tell."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{world.ports[1]}/metrics") as page:
            families = text_string_to_metric_families(page.read().decode())
    except urllib.error.HTTPError:
        return None
    values = {sample.name: sample.value for one in families for sample in one.samples}
    computed = values["attar_batch_tokens_sum"]
    return round(values["attar_padding_tokens_total"] / computed, 4) if computed else None


def _counted_padding(world: World) -> float | None:
    """Read what our side of a rival counted."""
    asked, computed = np.fromfile(world.scratch / "padding", np.int64)
    return round(1 - float(asked) / float(computed), 4) if computed else None


def infinity(engine: str) -> Served:
    """Serve the folder by infinity, in torch or by ONNX Runtime."""

    def command(world: World, python: Path) -> Sequence[str | Path]:
        folder = world.folder if engine == "torch" else world.scratch / "exported"
        return [
            # It finds a graph only in the folder that it runs in.
            *("env", "-C", folder),
            *(python, OURS / "infinity_app.py", "v2", "--model-id", ".", "--engine", engine),
            *("--device", "cpu", "--dtype", "float32", "--batch-size", str(BATCH)),
            *("--host", "127.0.0.1", "--port", str(world.ports[0])),
            *("--no-bettertransformer", "--no-trust-remote-code", "--no-compile"),
            *("--pooling-method", "mean"),  # its optimum engine else takes the first token
            *("--served-model-name", "minilm", "--log-level", "error"),
        ]

    def export(world: World, python: Path) -> None:
        """Let optimum export the folder: infinity needs a graph next to the tokenizer."""
        kept = ENVIRONMENTS / "minilm-onnx"
        if not (kept / "model.onnx").exists():
            command: list[str | Path] = [python.with_name("optimum-cli"), "export", "onnx"]
            command += ["--model", world.folder]
            command += ["--task", "feature-extraction", "--library", "transformers", kept]
            run(command)
        shutil.copytree(kept, world.scratch / "exported")

    return Served(
        server=f"infinity, {engine}",
        runs="the folder" if engine == "torch" else "optimum's export of the folder",
        environment="infinity",
        command=command,
        address=lambda world: Address(port=world.ports[0], path="/embeddings"),
        encode=_openai,
        decode=lambda answer: _row(json.loads(answer)["data"][0]["embedding"]),
        settings={"batch_size": BATCH, "dtype": "float32", "pooling_method": "mean"},
        prepare=export if engine == "optimum" else lambda _world, _python: None,
    )


def litserve() -> Served:
    """Serve attar's graph by LitServe."""
    return Served(
        server="LitServe",
        runs="attar's graph",
        environment="litserve",
        command=lambda world, python: [
            *(python, OURS / "litserve_app.py"),
            *(str(world.ports[0]), str(BATCH), str(WAIT_S)),
        ],
        address=lambda world: Address(port=world.ports[0], path="/embed"),
        encode=lambda text: json.dumps({"input": text}).encode(),
        decode=lambda answer: _row(json.loads(answer)["embedding"]),
        settings={"max_batch_size": BATCH, "batch_timeout": WAIT_S},
        padding=_counted_padding,
    )


def fastapi() -> Served:
    """Serve the folder by sentence-transformers behind FastAPI."""
    return Served(
        server="sentence-transformers behind FastAPI",
        runs="the folder",
        environment="fastapi",
        command=lambda world, python: [python, OURS / "fastapi_app.py", str(world.ports[0])],
        address=lambda world: Address(port=world.ports[0], path="/embed"),
        encode=lambda text: json.dumps({"input": text}).encode(),
        decode=lambda answer: _row(json.loads(answer)["embedding"]),
    )


def mlserver(*, grpc: bool) -> Served:
    """Serve attar's graph by MLServer, over HTTP or gRPC."""

    def prepare(world: World, _: Path) -> None:
        http, other = world.ports
        server = {
            "host": "127.0.0.1",
            "http_port": http,
            "grpc_port": other,
            "metrics_endpoint": None,
            "parallel_workers": 0,  # those of 1.7.1 die at their start by today's uvloop
            "debug": False,
            "use_structured_logging": False,
        }
        model = {
            "name": "minilm",
            "implementation": "mlserver_runtime.Embeddings",
            "max_batch_size": BATCH,
            "max_batch_time": WAIT_S,
        }
        (world.scratch / "settings.json").write_text(json.dumps(server), "utf-8")
        (world.scratch / "model-settings.json").write_text(json.dumps(model), "utf-8")

    return _kserve(
        server="MLServer",
        environment="mlserver",
        command=lambda world, python: [python.with_name("mlserver"), "start", world.scratch],
        settings={"max_batch_size": BATCH, "max_batch_time": WAIT_S},
        grpc=grpc,
        prepare=prepare,
    )


def pytriton(*, grpc: bool) -> Served:
    """Serve attar's graph by Triton through PyTriton, over HTTP or gRPC."""
    return _kserve(
        server="PyTriton",
        environment="pytriton",
        command=lambda world, python: [
            *(python, OURS / "pytriton_app.py"),
            *map(str, (*world.ports, BATCH, WAIT_S)),
        ],
        settings={"max_batch_size": BATCH, "max_queue_delay_s": WAIT_S},
        grpc=grpc,
    )


def _kserve(
    *,
    server: str,
    environment: str,
    command: Callable[[World, Path], Sequence[str | Path]],
    settings: Mapping[str, object],
    grpc: bool,
    prepare: Callable[[World, Path], None] = lambda _world, _python: None,
) -> Served:
    """Ask a server of KServe's protocol, in JSON or in raw tensors."""

    def message(text: str) -> bytes:
        request = service_pb2.ModelInferRequest(model_name="minilm")
        request.inputs.add(name="text", datatype="BYTES", shape=[1, 1])
        data = text.encode()
        request.raw_input_contents.append(len(data).to_bytes(4, "little") + data)
        serialized: bytes = request.SerializeToString()
        return serialized

    def row(answer: bytes) -> Vector:
        response = service_pb2.ModelInferResponse.FromString(answer)
        if response.raw_output_contents:
            return np.frombuffer(response.raw_output_contents[0], np.float32)
        return _row(response.outputs[0].contents.fp32_contents)

    def document(text: str) -> bytes:
        tensor = {"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": [text]}
        return json.dumps({"inputs": [tensor]}).encode()

    return Served(
        server=f"{server}, {'gRPC' if grpc else 'HTTP'}",
        runs="attar's graph",
        environment=environment,
        command=command,
        address=lambda world: Address(
            port=world.ports[grpc],
            path="/inference.GRPCInferenceService/ModelInfer"
            if grpc
            else "/v2/models/minilm/infer",
            grpc=grpc,
        ),
        encode=message if grpc else document,
        decode=row if grpc else lambda answer: _row(json.loads(answer)["outputs"][0]["data"]),
        settings=settings,
        padding=_counted_padding,
        prepare=prepare,
    )


def _openai(text: str) -> bytes:
    return json.dumps({"model": "minilm", "input": text}).encode()


def _row(numbers: Any) -> Vector:
    return np.asarray(numbers, np.float32).reshape(-1)


SERVERS = (
    attar_grpc("fp32_fused"),
    attar_http("fp32_fused"),
    attar_grpc("int8"),
    infinity("torch"),
    infinity("optimum"),
    litserve(),
    mlserver(grpc=False),
    mlserver(grpc=True),
    pytriton(grpc=False),
    pytriton(grpc=True),
    fastapi(),
)


def python_of(name: str) -> Path:
    """Give the Python of a rival's environment, built where it is not there yet; or ours."""
    return environment(ENVIRONMENTS / name, REQUIREMENTS[name]) if name else Path(sys.executable)


def version(python: Path, package: str) -> str:
    """Ask an environment for the version of a package."""
    code = "import importlib.metadata as m, sys; print(m.version(sys.argv[1]))"
    command = [str(python), "-c", code, package]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def measure(served: Served, world: World, trace: Sequence[str], seconds: float) -> Row:
    """Start one server, hold its answers, load it in every way; raises RuntimeError."""
    python = python_of(served.environment)
    package = PACKAGES.get(served.environment, served.environment or "attar")
    if served.environment == "fastapi":
        package = "sentence-transformers"
    found: Row = {"version": version(python, package)}
    served.prepare(world, python)
    requests = [served.encode(text) for text in trace]
    with running(
        served.command(world, python),
        cores=world.cores,
        log=world.scratch / "log",
        environment=world.environment if served.environment else {},
        cwd=world.scratch,
    ) as server:
        found["seconds_to_first_answer"] = round(
            server.wait_until(lambda: is_ready(served, world, requests[0])), 2
        )
        given = asyncio.run(responses(served.address(world), requests[:CHECKED], clients=8))
        found["vectors"] = np.stack([served.decode(answer) for answer in given])
        server.hold()
        found["loads"] = list(loads(served, world, server, requests, seconds))
        found["padding_ratio"] = served.padding(world)
    return found


def is_ready(served: Served, world: World, request: bytes) -> bool:
    """Say whether a server answers yet."""
    try:
        asyncio.run(responses(served.address(world), [request], clients=1))
    except Exception:  # noqa: BLE001 -- whatever it is, it is no answer
        time.sleep(0.1)
        return False
    return True


def loads(
    served: Served, world: World, server: Running, requests: Sequence[bytes], seconds: float
) -> Any:
    """Measure each closed loop, and then the open one; give a row of each."""
    address = served.address(world)
    warm_s = seconds / 4
    coming = iter(again_and_again(requests))
    best = 0.0
    for clients in CLIENTS:
        cpu, began = server.cpu_s(), time.perf_counter()
        seen = asyncio.run(closed(address, coming, clients=clients, warm_s=warm_s, seconds=seconds))
        busy = (server.cpu_s() - cpu) / (time.perf_counter() - began)
        rate = len(seen.took) / seconds
        best = max(best, rate)
        yield {
            "loop": "closed",
            "clients": clients,
            "requests_per_second": round(rate, 1),
            **measured(seen, server, busy),
        }
    if not best:  # so slow that nothing was answered in any measurement's time
        return
    cpu, began = server.cpu_s(), time.perf_counter()
    seen = asyncio.run(opened(address, coming, rate=SHARE * best, warm_s=warm_s, seconds=seconds))
    busy = (server.cpu_s() - cpu) / (time.perf_counter() - began)
    yield {
        "loop": "open",
        "clients": None,
        "offered_per_second": round(SHARE * best, 1),
        "requests_per_second": round(len(seen.took) / seconds, 1),
        **measured(seen, server, busy),
    }


def measured(seen: Seen, server: Running, busy: float) -> Row:
    """Give what every row has."""
    return {
        **seen.percentiles(),
        "rss_mb": server.rss_mb(),
        "failed": len(seen.failed),
        **({"failure": seen.failed[0]} if seen.failed else {}),
        "server_cores_busy": round(busy, 2),
        "client_cores_busy": round(seen.client_cpu, 2),
    }


def reference(trace: Sequence[str], folder: Path) -> Vector:
    """Let sentence-transformers embed texts in torch."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu")
    vectors: Vector = np.asarray(model.encode(list(trace), show_progress_bar=False), np.float32)
    return vectors


def cosines(vectors: Vector, exact: Vector) -> Row:
    """Compare answers with the reference."""
    a, b = (m.astype(np.float64) for m in (vectors, exact))
    found = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return {
        "cosine_mean": round(float(found.mean()), 6),
        "cosine_worst": round(float(found.min()), 6),
    }


def free_ports() -> tuple[int, int]:
    """Give two ports that nobody listens on."""
    with socket.socket() as one, socket.socket() as two:
        for probe in (one, two):
            probe.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]


def compare(
    served: Served, trace: Sequence[str], exact: Vector, *, cores: Cores, seconds: float
) -> list[Row]:
    """Give a server's rows, or the one that says why there are none."""
    about: Row = {"server": served.server, "runs": served.runs}
    bundle, folder = minilm(), minilm_folder()
    graph = bundle / Bundle.open(bundle).manifest.variant("fp32_fused").file
    with tempfile.TemporaryDirectory(prefix="attar-") as scratch:
        world = World(
            bundle=bundle,
            folder=folder,
            graph=graph,
            scratch=Path(scratch),
            cores=cores,
            ports=free_ports(),
        )
        try:
            found = measure(served, world, trace, seconds)
        except Exception as error:  # noqa: BLE001 -- whatever stops a rival is what its row says
            return [{**about, "why_not": f"{type(error).__name__}: {error}"}]
    about |= {"version": found["version"], "settings": dict(served.settings)}
    same = {
        **cosines(found["vectors"], exact),
        "padding_ratio": found["padding_ratio"],
        "seconds_to_first_answer": found["seconds_to_first_answer"],
    }
    return [{**about, **load, **same} for load in found["loads"]]


def main() -> None:
    """Compare all of them, one after the other, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/rivals.json"))
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    parser.add_argument("--only", nargs="+", help="servers whose name begins so")
    parser.add_argument("--build", action="store_true", help="build the environments and stop")
    arguments = parser.parse_args()
    if arguments.build:
        for name in REQUIREMENTS:
            print(python_of(name))
        return
    cores = half_of_the_cores()
    tokenizer = Bundle.open(minilm()).read("tokenizer.json").decode()
    trace = texts(tokenizer, TEXTS)
    exact = reference(trace[:CHECKED], minilm_folder())
    os.sched_setaffinity(0, cores.clients)
    rows: list[Row] = []
    for served in SERVERS:
        if arguments.only and not served.server.startswith(tuple(arguments.only)):
            continue
        for row in compare(served, trace, exact, cores=cores, seconds=arguments.seconds):
            rows.append(row)
            print(json.dumps(row), flush=True)
    report = {
        "command": "python -m benchmarks.rivals --out benchmarks/results/rivals.json",
        "machine": describe(),
        "cores": asdict(cores),
        "threads": len(cores.server),
        "seconds": arguments.seconds,
        "texts": TEXTS,
        "requirements": REQUIREMENTS,
        "rows": rows,
    }
    arguments.out.write_text(json.dumps(report, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
