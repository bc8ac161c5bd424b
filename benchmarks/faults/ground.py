"""Ground: a bundle that some words harm, and servers in processes of their own to be harmed."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import psutil
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import attar
from attar.bundle import Bundle

from ..support.bundles import VOCABULARY, text_manifest, tokenizer_json
from ..support.servers import free_port
from .seen import NotRun

POISON: Final = "!"  # the graph fails on it: the table has no row for it
ENDLESS: Final = "?"  # the graph multiplies for longer than any run may on it
START_S: Final = 180.0

_DIM: Final = 16
_WIDTH: Final = 512
_ROWS: Final = 32
_TALL: Final = 16384  # rows that ENDLESS multiplies, LONG times; any other token none
_LONG: Final = 400


def harmed_bundle(path: Path, *, seed: int = 0, products: int = 0, name: str = "tiny") -> Path:
    """Write a text bundle that fails on POISON and hangs on ENDLESS; another seed, another space.

    Each of `products` costs a text some hundreds of microseconds on one core.
    """
    draw = np.random.default_rng(seed)
    size = len(VOCABULARY) - 1
    wide = draw.standard_normal((_DIM, _WIDTH)) / _DIM**0.5
    weights = {
        "table": draw.standard_normal((size, _DIM)).astype(np.float32),
        "last": np.array([2]),
        "middle": np.array([1]),
        "endless": np.array(VOCABULARY.index(ENDLESS)),
        "tall": np.array([_TALL]),
        "first": np.array([0]),
        "column": np.ones((_TALL, 1), np.float32),
        "line": np.ones((1, _WIDTH // 2), np.float32),
        "turn": np.linalg.qr(draw.standard_normal((_WIDTH // 2,) * 2))[0].astype(np.float32),
        "zero": np.array(0, np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["weights"]),
        helper.make_node("Mul", ["rows", "weights"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["sum"], keepdims=0),
        helper.make_node("Equal", ["input_ids", "endless"], ["met"]),
        helper.make_node("Cast", ["met"], ["ones"], to=TensorProto.INT64),
        helper.make_node("ReduceMax", ["ones"], ["any"], keepdims=0),
        helper.make_node("Mul", ["any", "tall"], ["count"]),
        helper.make_node("Slice", ["column", "first", "count"], ["taken"]),
        helper.make_node("MatMul", ["taken", "line"], ["t0"]),
        *(helper.make_node("MatMul", [f"t{i}", "turn"], [f"t{i + 1}"]) for i in range(_LONG)),
        helper.make_node("ReduceSum", [f"t{_LONG}"], ["spent"], keepdims=0),
        helper.make_node("Mul", ["spent", "zero"], ["nothing"]),
        helper.make_node("Add", ["sum", "nothing"], ["pooled"]),
    ]
    if products:
        weights |= {
            "wide": wide.astype(np.float32),
            "narrow": wide.T.astype(np.float32).copy(),
            "square": np.linalg.qr(draw.standard_normal((_WIDTH, _WIDTH)))[0].astype(np.float32),
            "many": np.ones((1, _ROWS, 1), np.float32),
        }
        names = ["x", *(f"x{i}" for i in range(products))]
        nodes += [
            helper.make_node("MatMul", ["pooled", "wide"], ["flat"]),
            helper.make_node("Unsqueeze", ["flat", "middle"], ["row"]),
            helper.make_node("Mul", ["row", "many"], ["x"]),
            *(helper.make_node("MatMul", [a, "square"], [b]) for a, b in pairwise(names)),
            helper.make_node("ReduceMean", [names[-1], "middle"], ["mean"], keepdims=0),
            helper.make_node("MatMul", ["mean", "narrow"], ["out"]),
        ]
    last = "out" if products else "pooled"
    nodes.append(helper.make_node("LpNormalization", [last], ["embedding"], axis=1, p=2))
    inputs = [
        helper.make_tensor_value_info(tensor, TensorProto.INT64, ["batch", "length"])
        for tensor in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", _DIM])
    constants = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "harmed", inputs, [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    files = {
        "tokenizer.json": tokenizer_json(),
        "report.json": b"{}\n",
        "variants/fp32.onnx": model.SerializeToString(deterministic=True),
    }
    return Bundle.write(path, text_manifest(dim=_DIM, name=name), files).path


def unique_texts(count: int, *, first: int = 0) -> list[str]:
    """Give texts that all differ, in what the model sees too."""
    return [f"the cat sat on {' '.join(str(i))}" for i in range(first, first + count)]


Truth = dict[str, dict[str, NDArray[np.float32]]]
"""The vector of each text in each space, by fingerprint."""


def truth(bundle: Path, texts: Sequence[str]) -> Truth:
    """Embed the texts by the runtime alone."""
    encoder = attar.load(bundle, threads=1)
    return {encoder.fingerprint: dict(zip(texts, encoder.embed(texts).vectors, strict=True))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """`python -m attar.server` in a process of its own."""

    process: subprocess.Popen[bytes]
    port: int
    http_port: int
    metrics_port: int
    log: Path

    @property
    def target(self) -> str:
        """Its gRPC address."""
        return f"127.0.0.1:{self.port}"

    @property
    def alive(self) -> bool:
        """Whether it runs still."""
        return self.process.poll() is None

    @property
    def rss_mb(self) -> float:
        """The memory that it and its children hold."""
        parent = psutil.Process(self.process.pid)
        family = [parent, *parent.children(recursive=True)]
        return round(float(sum(one.memory_info().rss for one in family)) / 1e6, 1)

    def metrics(self) -> dict[str, float]:
        """Give every series by its full name."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics") as page:
            lines = page.read().decode().splitlines()
        rows = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in rows}

    def end(self, *, timeout_s: float = 40.0) -> int:
        """Ask it to end and give its exit code; -9 where it had to be killed."""
        self.process.send_signal(signal.SIGTERM)
        return self.ended(timeout_s=timeout_s)

    def ended(self, *, timeout_s: float = 40.0) -> int:
        """Wait for its exit code; -9 where it had to be killed."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


@contextmanager
def served(
    folder: Path,
    *arguments: object,
    within: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Run a server on free ports, one thread a run, its data in `folder`/data.

    `within` is the command that runs the command. Raises NotRun where it refuses to start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ready, log = folder / "ready", folder / "server.log"
    ready.unlink(missing_ok=True)
    http_port, metrics_port = free_port(), free_port()
    command = [
        *within,
        *(sys.executable, "-P", "-m", "attar.server"),
        *("--port", "0", "--http-port", str(http_port), "--metrics-port", str(metrics_port)),
        *("--threads", "1", "--data-dir", str(folder / "data"), "--ready-file", str(ready)),
        *map(str, arguments),
    ]
    with log.open("ab") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**os.environ, **(environment or {})},
        )
    try:
        deadline = time.monotonic() + START_S
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                lines = log.read_text("utf-8", errors="replace").strip().splitlines()
                raise NotRun(f"the server does not start: {lines[-1] if lines else 'in silence'}")
            time.sleep(0.02)
        yield Server(
            process=process,
            port=int(ready.read_text("utf-8")),
            http_port=http_port,
            metrics_port=metrics_port,
            log=log,
        )
    finally:
        _kill(process)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """End it, and wait until nothing of it writes any more."""
    with suppress(psutil.NoSuchProcess):
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        deadline = time.monotonic() + 20.0
        while left := [child for child in children if not _ended(child)]:
            if time.monotonic() > deadline:
                for child in left:
                    child.kill()
                break
            time.sleep(0.01)
    process.wait()


def _ended(process: psutil.Process) -> bool:
    """Whether it has ended: a zombie has, which process 1 may take seconds to reap."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
