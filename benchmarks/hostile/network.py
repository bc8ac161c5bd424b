"""What must stay on the machine: one row a command or program, run in an empty home.

A process is watched in three ways, for each sees what the others cannot:

- its home and its working directory, which are empty before. ONNX Runtime, which is native code,
  writes a device identifier there before it looks anybody up;
- Python's audit events of sockets and look-ups, in the process and in its children;
- a proxy that the environment names. Native code that honours it, as ONNX Runtime's does, comes
  there instead of going out.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Final

import numpy as np
import pytest

from attar.bundle import Bundle
from attar.export.targets.triton import export_triton
from attar.heads import KnnAnomaly
from attar.training.checkpoints import encoder_folder
from attar.training.huggingface import loading

from ..support.bundles import tiny_bundle
from ..support.families import plain_folder, sentence_folder
from .commands import documents, pairs, private_key

Make = Callable[[Path], list[object]]
"""Lays what a command reads in a folder and gives the command's words."""

WATCH: Final = """
import ipaddress, os, sys

LOG = os.environ["WATCH_LOG"]
HOSTS = {"", "localhost", "ip6-localhost"}
SENDS = {"socket.connect", "socket.sendto", "socket.sendmsg"}
EVENTS = {*SENDS, "socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}


def is_here(host):
    if host is None or str(host) in HOSTS:
        return True
    try:
        return ipaddress.ip_address(str(host)).is_loopback or str(host) in ("0.0.0.0", "::")
    except ValueError:
        return False


def watch(event, given):
    if event not in EVENTS:  # nearly every one
        return
    if event in SENDS:
        address = given[1]
        host = address[0] if isinstance(address, tuple) else None  # a path is this machine's
    else:
        host = given[0].decode() if isinstance(given[0], bytes) else given[0]
    if not is_here(host):
        with open(LOG, "a") as log:
            log.write(f"{event} {host} by {sys.argv}\\n")


sys.addaudithook(watch)
"""
"""A sitecustomize: Python runs it first of all, in every process that inherits PYTHONPATH."""

IGNORED_VARIABLES: Final = (
    *("ORT_", "HF_", "OTEL_", "XDG_", "TRANSFORMERS_", "DO_NOT_TRACK", "CI", "GITHUB_ACTIONS"),
    *("ATTAR_", "http_proxy", "https_proxy", "all_proxy", "no_proxy"),
)
"""Beginnings of variables that would answer in the user's stead, such as CI for ONNX Runtime."""

MATPLOTLIB: Final = "home/.cache/matplotlib"
"""Where Matplotlib keeps a list of this machine's fonts."""


@dataclass(frozen=True, slots=True)
class Case:
    """One command or program, by its name and its words, and what it may cache in the home."""

    name: str
    make: Make
    caches: str | None = None

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of it: the status, its output, unexpected files, and the hosts it connected to."""

    status: int
    output: str
    files: tuple[str, ...]
    hosts: tuple[str, ...]


def command(*arguments: object) -> list[object]:
    return ["-m", "attar.cli.main", *arguments]


def program(code: str, *arguments: object) -> list[object]:
    return ["-c", code, *arguments]


def bundle(folder: Path) -> Path:
    return tiny_bundle(folder / "tiny.attar")


def checking(folder: Path) -> list[object]:
    """Check a data folder that has a detector."""
    rows = np.random.default_rng(0).random((40, 4), np.float32)
    head = KnnAnomaly.fit(rows, model="tiny", fingerprint="sha256:space")
    (folder / "data" / "anomaly").mkdir(parents=True)
    (folder / "data" / "anomaly" / "normal.npz").write_bytes(head.to_bytes())
    return command("check", folder / "data")


def signing(folder: Path) -> list[object]:
    return command("sign", bundle(folder), "--key", private_key(folder))


SERVED: Final = """
import signal, subprocess, sys, time
from pathlib import Path
import attar
bundle, data, *more = sys.argv[1:]
ready = Path(data, "ready")
server = subprocess.Popen(
    [sys.executable, "-m", "attar.cli.main", "serve", bundle, "--port", "0", "--http-port", "off",
     "--metrics-port", "off", "--threads", "1", "--data-dir", data + "/data",
     "--ready-file", str(ready), *more]
)
while not ready.exists():
    assert server.poll() is None
    time.sleep(0.02)
target = "127.0.0.1:" + ready.read_text().strip()
with attar.Client(target) as client:
    space = client.embed(["the cat"]).fingerprint
    client.create_collection("docs")
    client.upsert("docs", [1, 2], ["the cat", "a dog"])
    assert client.search("docs", ["the cat"], limit=1)[0][0].id == 1
    client.fit_anomaly("normal", ["the cat", "a dog", "the sun"] * 10)
if not more:
    Path(data, "cats.txt").write_text("The cat sat on the mat.")
    command = [sys.executable, "-m", "attar.cli.main"]
    subprocess.run([*command, "upsert", target, "cats", data + "/cats.txt"], check=True)
    subprocess.run([*command, "search", target, "cats", "cat"], check=True)
server.send_signal(signal.SIGTERM)
assert server.wait() == 0
assert "onnxruntime" not in sys.modules  # a client's process needs none
"""


def served(*options: str) -> Make:
    def make(folder: Path) -> list[object]:
        (folder / "kept").mkdir()
        return program(SERVED, bundle(folder), folder / "kept", *options)

    return make


TRITON: Final = """
import json, runpy, sys, types
from pathlib import Path
# Triton's own module is there in its processes alone; opening a model asks nothing of it.
sys.modules["triton_python_backend_utils"] = types.ModuleType("triton_python_backend_utils")
model = Path(sys.argv[1])
written = (model / "config.pbtxt").read_text()
parts = runpy.run_path(str(model / "1" / "model.py"))
chosen = {"variant": {"string_value": "fp32"}, "batch_tokens": {"string_value": "1024"}}
parts["TritonPythonModel"]().initialize({
    "model_config": json.dumps({"parameters": chosen, "max_batch_size": 8}),
    "model_repository": str(model), "model_version": "1",
})
assert "onnxruntime" in sys.modules
"""


TENSORRT: Final = """
import contextlib, io
from attar.cli.main import main
with contextlib.redirect_stderr(io.StringIO()) as errors, contextlib.suppress(SystemExit):
    main()
assert "needs the tensorrt extra" in errors.getvalue(), errors.getvalue()
"""


def in_triton(folder: Path) -> list[object]:
    written = export_triton(Bundle.open(bundle(folder)), folder / "models")
    return program(TRITON, written.path / "tiny")


TRAINING: Final = """
import json, sys
from pathlib import Path
from attar.cli.main import main
commands, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
for words in commands:
    sys.argv = ["attar", *words]
    try:
        main()
    except SystemExit as leaving:
        assert not leaving.code, words
    print("done:", *words[:1])
from attar.cli.demo.teacher import sentence_transformers_parity
sentence_transformers_parity(folder, folder.parent / "theirs.attar", ["a cat"])
print("done: demo")
"""
"""What imports torch, in one process, for that import alone takes seconds."""


def training(folder: Path) -> list[object]:
    """Run every command that knows torch, and where the demo reads a folder as others do."""
    theirs = sentence_folder(folder / "theirs")
    encoder_folder.save(encoder_folder.token_transformer(loading.read(theirs)), folder / "start")
    datasets = pytest.importorskip("datasets")  # seconds, and an extra
    made = datasets.Dataset.from_dict({"x": np.random.default_rng(0).random((24, 4)).tolist()})
    made.save_to_disk(str(folder / "rows"))
    other = plain_folder(folder / "other", "distilbert")  # read by transformers' own classes
    data, few = ("--data", pairs(folder)), ("--steps", 1)
    commands = (
        ("recipes",),
        ("import", theirs, folder / "theirs.attar"),
        ("import", other, folder / "other.attar", "--pooling", "mean"),
        ("pretrain", "text/simclr", "--out", folder / "simclr", *data, *few),
        ("pretrain", "table/t_jepa", "--out", folder / "jepa", "--data", folder / "rows", *few),
        (
            "sweep",
            "text/simclr",
            "--vary",
            "rate=1e-3,2e-3",
            "--out",
            folder / "sweep",
            *data,
            *few,
        ),
        ("adapt", theirs, "--out", folder / "adapted", "--data", documents(folder), *few),
        ("distill", theirs, "--out", folder / "mine", "--init", folder / "start", *data, *few),
        ("export", folder / "mine", folder / "mine.attar", *data, "--softmax"),
        ("binarize", folder / "mine", folder / "binary.attar", *data, *few, "--layers", 0),
        ("verify", folder / "theirs.attar", "--against", theirs),
        ("evaluate", folder / "mine", *data),
    )
    words = [[*map(str, command)] for command in commands]
    return program(TRAINING, json.dumps(words), theirs)


CASES: tuple[Case, ...] = (
    Case("import attar", lambda _: program("import attar; attar.load")),
    Case(
        "attar.load",
        lambda folder: program(
            "import attar, sys; attar.load(sys.argv[1], threads=1).embed(['the cat'])",
            bundle(folder),
        ),
    ),
    Case("attar embed", lambda folder: command("embed", bundle(folder), "the cat")),
    Case("attar inspect", lambda folder: command("inspect", bundle(folder))),
    Case("attar inspect --ops", lambda folder: command("inspect", bundle(folder), "--ops")),
    Case(
        "attar bench",
        lambda folder: command(
            *("bench", bundle(folder), "--out", folder / "new.json", "--length", 4, "--batch", 1),
            *("--threads", 1, "--seconds", 0.01),
        ),
        caches=MATPLOTLIB,
    ),
    Case("attar verify", lambda folder: command("verify", bundle(folder))),
    Case(
        "attar report",
        lambda folder: command("report", bundle(folder), "--out", folder / "new.html"),
    ),
    Case("attar sign", signing),
    Case("attar check", checking),
    Case("attar serve, and a client, attar upsert and search", served()),
    Case("attar serve with workers, and a client", served("--workers", "2")),
    Case(
        "attar recipes, import, pretrain, sweep, adapt, distill, export, binarize, verify, "
        "evaluate and demo",
        training,
        caches=MATPLOTLIB,
    ),
    Case(
        "attar export-triton",
        lambda folder: command("export-triton", bundle(folder), folder / "models"),
    ),
    Case("the model of attar export-triton", in_triton),
    Case(
        "attar export-tensorrt, as far as it gets without the library",
        lambda folder: program(
            TENSORRT, "export-tensorrt", bundle(folder), folder / "engines", "--lengths", "4,16"
        ),
    ),
)


def watched(case: Case, folder: Path, **environment: str) -> Seen:
    """Run a case in an empty home and an empty working directory, and see what left them."""
    arguments = case.make(folder)
    home, here, watch = (folder / name for name in ("home", "here", "watch"))
    for one in (home, here, watch, folder / "tmp"):
        one.mkdir()
    (watch / "sitecustomize.py").write_text(WATCH, "utf-8")
    log = watch / "hosts"
    with proxy() as (address, visits):
        env = {
            **{name: value for name, value in os.environ.items() if not _is_ignored(name)},
            "HOME": str(home),
            "TMPDIR": str(folder / "tmp"),
            "PYTHONPATH": str(watch),
            **dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), f"http://{address}"),
            "no_proxy": "127.0.0.1,localhost",
            "WATCH_LOG": str(log),
            **environment,
        }
        done = subprocess.run(
            [sys.executable, "-P", *map(str, arguments)],
            env=env,
            cwd=here,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
    hosts = log.read_text("utf-8").splitlines() if log.exists() else []
    left = [path for folder_ in (home, here) for path in folder_.rglob("*") if path.is_file()]
    files = sorted(str(path.relative_to(folder)) for path in left)
    uncalled = tuple(name for name in files if not name.startswith(case.caches or "/"))
    return Seen(done.returncode, done.stdout + done.stderr, uncalled, (*hosts, *visits))


def _is_ignored(name: str) -> bool:
    return name.upper().startswith(tuple(beginning.upper() for beginning in IGNORED_VARIABLES))


@contextmanager
def proxy() -> Iterator[tuple[str, list[str]]]:
    """Stand where a proxy would: give its address and the first line of whatever comes."""
    visits: list[str] = []

    class Visit(StreamRequestHandler):
        def handle(self) -> None:
            visits.append(self.rfile.readline(1000).decode("latin-1").strip())

    with ThreadingTCPServer(("127.0.0.1", 0), Visit) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}", visits
        server.shutdown()
