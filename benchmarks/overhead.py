"""Overhead: a server's CPU seconds for 1,000 embeddings, over raw ONNX Runtime's at its best batch.

    python -m benchmarks.overhead --out benchmarks/results/overhead.json

About 13 minutes on two quiet cores. Both run the same graph of the same bundle on the same
trace of texts of 16 to 256 tokens, with tokenising, on half of the cores and with a thread for each
of them, and in turns; the median of the rounds counts. CPU is user and system time of the process
and its children.

Raw is a loop that knows the whole trace beforehand: tokenizers' fast batch, texts sorted by length,
session.run, and nothing else; of several token budgets for a batch, with and without the one fusion
that attar switches off, the cheapest counts. The server gets the trace over gRPC and has to make
its batches out of what is there: once by 64 clients with one text a request, and once by 4 with 32.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

from attar.bundle import Bundle
from attar.host import describe
from attar.v1 import embedding_pb2

from .load import Address, responses
from .processes import Cores, Running, attar_command, half_of_the_cores, running
from .traces import LONGEST, minilm, texts, word_vectors

TEXTS, ROUNDS = 512, 5
BUDGETS = (128, 256, 512, 1024, 2048, 4096)
SHAPES = ((1, 64), (32, 4))  # texts in a request, clients
AIM = 1.10
EMBED = "/attar.v1.Embedding/Embed"


class Raw:
    """A process that runs the graph over the trace on each command, by one budget."""

    def __init__(self, bundle: Path, variant: str, trace: Path, cores: Cores) -> None:
        job = {"bundle": str(bundle), "variant": variant, "trace": str(trace)}
        job["threads"] = str(len(cores.server))
        command = ["taskset", "-c", ",".join(map(str, cores.server))]
        command += [sys.executable, "-m", "benchmarks.overhead", "--child", json.dumps(job)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def cpu_s(self, budget: int, *, fused: bool) -> float:
        """Give the CPU seconds of one pass over the trace."""
        print(json.dumps({"budget": budget, "fused": fused}), file=_open(self._process.stdin))
        _open(self._process.stdin).flush()
        return float(_open(self._process.stdout).readline())

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


def raw(job: Mapping[str, str]) -> None:
    """Be that process: a line in, a pass over the trace, a line with its CPU seconds out."""
    bundle = Bundle.open(job["bundle"])
    tokenizer = Tokenizer.from_str(bundle.read("tokenizer.json").decode())
    tokenizer.no_padding()
    tokenizer.enable_truncation(LONGEST)  # its file says 128: half of what the server embeds
    graph = bundle.read(bundle.manifest.variant(job["variant"]).file)
    trace = json.loads(Path(job["trace"]).read_text("utf-8"))
    sessions = {}
    for fused, without in ((True, []), (False, ["SkipLayerNormFusion"])):
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = int(job["threads"]), 1
        options.log_severity_level = 4
        sessions[fused] = ort.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"], disabled_optimizers=without
        )
    for line in sys.stdin:
        order = json.loads(line)
        began = time.process_time()
        embed(sessions[order["fused"]], tokenizer, trace, order["budget"])
        print(time.process_time() - began, flush=True)


def embed(
    session: ort.InferenceSession, tokenizer: Tokenizer, trace: Sequence[str], budget: int
) -> np.ndarray[Any, Any]:
    """Embed a trace in batches of like length, each of up to `budget` padded tokens."""
    rows = [tokens.ids for tokens in tokenizer.encode_batch_fast(trace)]
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
    vectors = np.empty((len(rows), session.get_outputs()[0].shape[1]), np.float32)
    while order:
        longest = len(rows[order[0]])
        places = order[: max(1, budget // longest)]
        order = order[len(places) :]
        ids = np.zeros((len(places), longest), np.int64)
        mask = np.zeros_like(ids)
        for line, place in enumerate(places):
            ids[line, : len(rows[place])], mask[line, : len(rows[place])] = rows[place], 1
        feed = {"input_ids": ids, "attention_mask": mask}
        vectors[places] = session.run(None, feed)[0]
    return vectors


@contextmanager
def serving(bundle: Path, variant: str, cores: Cores) -> Any:
    """Run attar's server; give its process and where it answers."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        command = attar_command(bundle, variant, scratch, threads=len(cores.server))
        with running(command, cores=cores, log=scratch / "log") as server:
            server.wait_until((scratch / "ready").exists)
            port = int((scratch / "ready").read_text("utf-8"))
            yield server, Address(port=port, path=EMBED, grpc=True)


def server_cpu_s(server: Running, address: Address, trace: Sequence[str], shape: Any) -> float:
    """Give the server's CPU seconds of one pass over the trace."""
    size, clients = shape
    requests = []
    for start in range(0, len(trace), size):
        message = embedding_pb2.EmbedRequest()
        message.texts.values.extend(trace[start : start + size])
        requests.append(message.SerializeToString())
    before = server.cpu_s()
    given = asyncio.run(responses(address, requests, clients=clients))
    spent = server.cpu_s() - before
    for answer in given:
        for item in embedding_pb2.EmbedResponse.FromString(answer).items:
            if item.HasField("error"):
                raise SystemExit(f"the server failed a text of the trace: {item.error.message}")
    return spent


def measure(
    bundle: Path, variant: str, trace: Sequence[str], cores: Cores, *, rounds: int
) -> tuple[dict[str, Any], dict[tuple[int, int], list[float]], list[float]]:
    """Find raw's cheapest budget, then let raw and server take turns."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        file = Path(folder) / "trace.json"
        file.write_text(json.dumps(trace), "utf-8")
        loop = Raw(bundle, variant, file, cores)
        stack.callback(loop.close)
        server, address = stack.enter_context(serving(bundle, variant, cores))
        tried = {
            (budget, fused): loop.cpu_s(budget, fused=fused)
            for fused in (True, False)
            for budget in (BUDGETS[0], *BUDGETS)  # the first pass also warms up
        }
        budget, fused = min(tried, key=lambda choice: tried[choice])
        raws: list[float] = []
        servers: dict[tuple[int, int], list[float]] = {shape: [] for shape in SHAPES}
        for turn in range(rounds + 1):
            plain = loop.cpu_s(budget, fused=fused)
            for shape in SHAPES:
                spent = server_cpu_s(server, address, trace, shape)
                if turn:  # the first warms up
                    servers[shape].append(spent)
            if turn:
                raws.append(plain)
    return {"raw_batch_tokens": budget, "raw_skip_layer_norm_fusion": fused}, servers, raws


def main() -> None:
    """Measure each model and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/overhead.json"))
    parser.add_argument("--texts", type=int, default=TEXTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", nargs="+", help="variants of MiniLM, or tiny")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        raw(arguments.child)
        return
    cores = half_of_the_cores()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        bundle = minilm()
        words = Bundle.open(bundle).read("tokenizer.json")
        tiny = word_vectors(Path(folder) / "tiny.attar", words)
        trace = texts(words.decode(), arguments.texts)
        os.sched_setaffinity(0, cores.clients)
        models = [("all-MiniLM-L6-v2", bundle, name) for name in ("fp32", "fp32_fused", "int8")]
        models += [("word vectors", tiny, "fp32")]
        for model, path, variant in models:
            if arguments.only and (variant if path == bundle else "tiny") not in arguments.only:
                continue
            best, servers, raws = measure(path, variant, trace, cores, rounds=arguments.rounds)
            for (size, clients), spent in servers.items():
                ratios = [a / b for a, b in zip(spent, raws, strict=True)]
                rows.append(
                    {
                        "model": model,
                        "precision": Bundle.open(path).manifest.variant(variant).precision,
                        "variant": variant,
                        "texts_per_request": size,
                        "clients": clients,
                        "server_cpu_s_per_1000": per_1000(spent, arguments.texts),
                        "raw_cpu_s_per_1000": per_1000(raws, arguments.texts),
                        "ratio": round(statistics.median(spent) / statistics.median(raws), 3),
                        "ratio_of_rounds": [round(min(ratios), 3), round(max(ratios), 3)],
                        **best,
                    }
                )
                print(rows[-1], flush=True)
    report = {
        "command": "python -m benchmarks.overhead --out benchmarks/results/overhead.json",
        "machine": describe(),
        "texts": arguments.texts,
        "rounds": arguments.rounds,
        "threads": len(cores.server),
        "aim": AIM,
        "rows": rows,
    }
    arguments.out.write_text(json.dumps(report, indent=2) + "\n", "utf-8")


def per_1000(seconds: Sequence[float], count: int) -> float:
    """Give the median pass's seconds for 1,000 texts."""
    return round(statistics.median(seconds) / count * 1000, 4)


def _open(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise RuntimeError("a process without pipes is a bug in this script")
    return pipe


if __name__ == "__main__":
    main()
