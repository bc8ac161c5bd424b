"""Attacks by bundles: what opening one and trying it may do to a server that watches a folder."""

import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import psutil
from onnx import helper, numpy_helper

from attar import Client
from attar.bundle import Bundle
from attar.errors import AttarError
from attar.heads import LinearClassifier
from attar.manifest import FileEntry, fingerprint, serialise

from ..support.bundles import text_files, text_graph, text_manifest, tiny_bundle
from .ground import Attack, Attacked, Outcome, attacked

WATCH_S: Final = 0.2
TIMEOUT_S: Final = 6.0  # of a trial, in which an honest one ends on a busy machine too
DEADLINE_S: Final = 60.0
MEMORY_BYTES: Final = 2**29  # of a trial; the server and it are killed above 1 GB
SECRET: Final = "honest:infer:k" + "0" * 40

Put = Callable[[Path], object]
"""Puts a hostile bundle at a path."""


# ---------------------------------------------------------------------- hostile bundles


def spelled(parts: Mapping[str, object], *, max_length: int = 16) -> Put:
    """Give a bundle with parts of a tokenizer.json in the place of a sound one's."""

    def put(path: Path) -> None:
        manifest = text_manifest(name="bad", max_length=max_length)
        files = text_files(manifest)
        tokenizer = json.loads(files["tokenizer.json"])
        files["tokenizer.json"] = json.dumps({**tokenizer, **parts}).encode()
        _whole(path, lambda scratch: Bundle.write(scratch, manifest, files))

    return put


def computing(size: int, products: int) -> Put:
    """Give a bundle whose every run makes a square matrix of what it is given, and powers of it."""

    def put(path: Path) -> None:
        proto = onnx.load_from_string(text_graph())
        graph = proto.graph
        last = graph.node.pop()
        column, row = np.ones((size, 1), np.float32), np.ones((1, size), np.float32)
        weights = {"column": column, "row": row, "zero": np.array(0, np.float32)}
        graph.initializer.extend(
            numpy_helper.from_array(value, name) for name, value in weights.items()
        )
        powers = range(products)
        graph.node.extend(
            [
                helper.make_node("ReduceMean", ["pooled"], ["given"], keepdims=0),
                helper.make_node("Mul", ["column", "given"], ["tall"]),
                helper.make_node("MatMul", ["tall", "row"], ["x0"]),
                *(helper.make_node("MatMul", [f"x{i}"] * 2, [f"x{i + 1}"]) for i in powers),
                helper.make_node("ReduceMean", [f"x{products}"], ["end"], keepdims=0),
                helper.make_node("Mul", ["end", "zero"], ["nothing"]),
                helper.make_node("Add", ["pooled", "nothing"], ["moved"]),
            ]
        )
        last.input[0] = "moved"
        graph.node.append(last)
        manifest = text_manifest(name="bad")
        files = text_files(manifest) | {"variants/fp32.onnx": proto.SerializeToString()}
        _whole(path, lambda scratch: Bundle.write(scratch, manifest, files))

    return put


PANICS: Final = spelled({"pre_tokenizer": {"type": "FixedLength", "length": 0}})
ABORTS: Final = spelled({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "/////wAA"}})
ENDLESS: Final = computing(4096, 400)
ENORMOUS: Final = computing(2**16, 0)


def deflated(path: Path) -> None:
    """Put a zip of 300 kB with a graph of 300 MB that its manifest lists rightly."""
    data = bytes(3 * 10**8)
    manifest = text_manifest(name="bad")
    files = text_files(manifest) | {"variants/fp32.onnx": data}
    _zip(path, files, manifest, zipfile.ZIP_DEFLATED)


def nested(path: Path) -> None:
    """Put a zip in a zip in a zip, each under a name that a bundle may have."""
    data = b"{}"
    for _ in range(3):
        file = BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("manifest.json", data)
        data = file.getvalue()
    path.write_bytes(data)


def crowded(path: Path) -> None:
    """Put a zip of 60,000 names."""
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(60_000):
            archive.writestr(f"{i}.txt", b"")


def spoiled(path: Path) -> None:
    """Put a zip whose manifest is deflated, and flipped: `zlib.error` when it is read."""
    manifest = text_manifest(name="bad")
    _zip(path, text_files(manifest), manifest, zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    at = data.index(b"manifest.json") + len("manifest.json")
    data[at : at + 40] = bytes(255 - byte for byte in data[at : at + 40])
    path.write_bytes(data)


def piped(path: Path) -> None:
    """Put a folder whose manifest is a pipe that nobody writes to."""
    path.mkdir()
    os.mkfifo(path / "manifest.json")


def named(path: Path) -> None:
    """Put a bundle whose manifest claims a name of four megabytes."""
    path.mkdir()
    (path / "manifest.json").write_text(json.dumps({"name": "x" * 4_000_000, "version": "1"}))


def multitude(path: Path) -> None:
    """Put a folder of 5,000 files."""
    scratch = path.with_name(f".{path.name}")
    scratch.mkdir()
    for i in range(5_000):
        (scratch / f"{i}.txt").touch()
    scratch.rename(path)


ARCHIVES: Final[Mapping[str, Put]] = {
    "deflated.zip": deflated,
    "nested.zip": nested,
    "crowded.zip": crowded,
    "spoiled.zip": spoiled,
    "pipe.zip": os.mkfifo,
    "pipe.attar": os.mkfifo,
    "manifest-is-a-pipe.attar": piped,
    "long-name.attar": named,
    "multitude.attar": multitude,
}


def grown(name: str, descr: str, shape: tuple[int, ...], data: bytes = b"") -> Put:
    """Give a bundle with a classifier of 2 kB, one of whose arrays has another header."""

    def put(path: Path) -> None:
        weights, bias = np.ones((2, 16), np.float32), np.zeros(2, np.float32)
        head = LinearClassifier(weights, bias, ("cat", "sky"), 2, "bad", "").to_bytes()
        array, file = BytesIO(), BytesIO()
        header = {"descr": descr, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(array, header)
        with zipfile.ZipFile(BytesIO(head)) as sound, zipfile.ZipFile(file, "w") as archive:
            for entry in sound.namelist():
                replaced = array.getvalue() + data if entry == f"{name}.npy" else sound.read(entry)
                archive.writestr(entry, replaced)
        manifest = text_manifest(name="bad")
        files = text_files(manifest) | {"heads/grown.npz": file.getvalue()}
        _zip(path, files, manifest, zipfile.ZIP_STORED)

    return put


HEADS: Final[Mapping[str, Put]] = {
    "labels.zip": grown("labels", "<U0", (10**10,)),
    "counts.zip": grown("counts", "|V0", (10**10,)),
    "model.zip": grown("model", "<U0", (7,) * 22),
    "weights.zip": grown("weights", "<f4", (10**10, 0)),
    "text.zip": grown("fingerprint", "|u1", (2,) * 22, bytes(2**22)),
}


# ---------------------------------------------------------------------- attacks


def deadly_trials(folder: Path) -> Outcome:
    """Put bundles into a watched folder that panic, abort, never end, or take all memory."""
    with watching(folder) as (server, client, models):
        for name, put in (("a", PANICS), ("b", ABORTS), ("c", ENDLESS), ("d", ENORMOUS)):
            put(models / f"{name}.attar")
        good = tiny_bundle(models / ".good", name="good")
        good.rename(models / "good.attar")
        ready = _until(lambda: "READY" in _states(client, "good"))
        all_refused = _until(lambda: _refused(client) == 4)
        reasons = {line.reason for line in client.models(deadline_s=DEADLINE_S) if line.reason}
        return server.outcome(
            held=ready and all_refused and len(reasons) == 4,
            note=f"{_refused(client)} of 4 refused, a good one next to them served: {ready}",
        )


def start_next_to_them(folder: Path) -> Outcome:
    """Start a server whose folder holds such bundles already."""
    models = folder / "models"
    models.mkdir()
    for name, put in (("a", PANICS), ("b", ABORTS), ("c", ENDLESS)):
        put(models / f"{name}.attar")
    tiny_bundle(models / "good.attar", name="good")
    with watching(folder) as (server, client, _):
        ready = _until(lambda: "READY" in _states(client, "good"))
        return server.outcome(held=ready, note=f"started, and the good one served: {ready}")


def archives(folder: Path) -> Outcome:
    """Put bombs, pipes and crowds where bundles are looked for, then a good bundle."""
    with watching(folder) as (server, client, models):
        for name, put in ARCHIVES.items():
            put(models / name)
        all_refused = _until(lambda: _refused(client) == len(ARCHIVES))
        tiny_bundle(models / ".good", name="good").rename(models / "good.attar")
        ready = _until(lambda: "READY" in _states(client, "good"))
        longest = max(len(line.name) for line in client.models(deadline_s=DEADLINE_S))
        return server.outcome(
            held=all_refused and ready and longest < 200,
            note=f"{_refused(client)} of {len(ARCHIVES)} refused; a good one after them: {ready}",
        )


def heads_that_grow(folder: Path) -> Outcome:
    """Put bundles into a watched folder whose heads are small, and whose arrays claim a lot."""
    with watching(folder) as (server, client, models):
        for name, put in HEADS.items():
            put(models / name)
        all_refused = _until(lambda: _refused(client) == len(HEADS))
        tiny_bundle(models / ".good", name="good").rename(models / "good.attar")
        ready = _until(lambda: "READY" in _states(client, "good"))
        return server.outcome(
            held=all_refused and ready,
            note=f"{_refused(client)} of {len(HEADS)} refused; a good one after them: {ready}",
        )


def swapped(folder: Path) -> Outcome:
    """Put a harmless and a deadly bundle in one place by turns, faster than either can be tried."""
    with watching(folder) as (server, client, models):
        for name, put in (("one", tiny_other), ("two", ABORTS)):
            put(folder / name)
        place, turns = models / "bad.attar", 0
        ends = time.monotonic() + 5
        while time.monotonic() < ends:
            for name in ("one", "two"):
                (folder / name).rename(place)
                time.sleep(0.005 * (turns % 20))
                place.rename(folder / name)
                turns += 1
        (folder / "one").rename(place)
        ready = _until(lambda: "READY" in _states(client, "bad"))
        return server.outcome(
            held=ready, note=f"{turns} turns; the harmless one serves at last: {ready}"
        )


def ending_while_loading(folder: Path) -> Outcome:
    """Send SIGTERM while a bundle that never ends is tried."""
    with watching(folder, "--load-timeout-s", 60, "--grace-s", 2) as (server, client, models):
        ENDLESS(models / "bad.attar")
        loading = _until(lambda: bool(_trials(server)))
        variants = "refused"
        with suppress(AttarError):
            client.set_variant("tiny", "fp32", deadline_s=DEADLINE_S)
            variants = "changed"
        server.stop()  # the honest caller's calls would be refused, rightly
        outcome = server.outcome(held=True, note="", others=False)
        children = psutil.Process(server.server.process.pid).children(recursive=True)
        code = server.server.end(timeout_s=20)
        _, left = psutil.wait_procs(children, timeout=5)
        return replace(
            outcome,
            held=outcome.held and loading and variants == "changed" and code == 0 and not left,
            note=f"another's variant {variants}; ended with {code}, {len(left)} processes left",
        )


def unloading_while_loading(folder: Path) -> Outcome:
    """Unload, and take away, bundles that never end, while they are tried."""
    with watching(folder, "--load-timeout-s", 60) as (server, client, models):
        held = []
        for name in ("gone", "unloaded"):
            ENDLESS(models / "bad.attar")
            held.append(_until(lambda: bool(_trials(server))))
            if name == "unloaded":
                client.unload_model("bad", deadline_s=DEADLINE_S)
            else:
                shutil.rmtree(models / "bad.attar")
            held.append(_until(lambda: not _trials(server)))
            shutil.rmtree(models / "bad.attar", ignore_errors=True)
            held.append(_until(lambda: not _states(client, "bad")))
        return server.outcome(held=all(held), note=f"began and was given up: {held}")


def seen_by_a_trial(folder: Path) -> Outcome:
    """Look at the process that tries a bundle: what it knows, where it works, what it may take."""
    environment = {"ATTAR_QDRANT_API_KEY": "s" * 30}
    os.environ.update(environment)
    try:
        with watching(folder, "--load-timeout-s", 60) as (server, _, models):
            ENDLESS(models / "bad.attar")
            _until(lambda: bool(_trials(server)))
            (trial, *_) = _trials(server)
            _until(lambda: "Max core file size 0 0" in _limits(trial))
            named = [name for name in trial.environ() if name.startswith("ATTAR_")]
            works = list(Path(trial.cwd()).iterdir())
            sockets = trial.net_connections()
            limits = _limits(trial)
            outcome = server.outcome(held=True, note="")
    finally:
        for name in environment:
            del os.environ[name]
    bounded = [
        word
        for word in ("Max core file size 0 0", "Max file size 0 0", "Max data size 5", "cpu time")
        if word in limits and f"{word} unlimited" not in limits
    ]
    return replace(
        outcome,
        held=outcome.held and not named and not works and not sockets and len(bounded) == 4,
        note=f"settings seen: {named}; files where it works: {works}; sockets: {len(sockets)}; "
        f"{len(bounded)} of 4 limits",
    )


def named_at_start(folder: Path) -> Outcome:
    """Name such bundles on the command line: a clear refusal, and soon."""
    lines = []
    with attacked(folder) as server:
        for name, put in (("a", PANICS), ("b", ABORTS), ("d", ENORMOUS)):
            put(folder / name)
            ran = subprocess.run(
                [
                    *(str(Path(sys.executable).with_name("attar")), "serve", str(folder / name)),
                    *("--port", "0", "--http-port", "off", "--metrics-port", "off"),
                    *("--data-dir", str(folder / "elsewhere"), "--threads", "1"),
                    *("--load-memory-bytes", str(MEMORY_BYTES)),
                ],
                capture_output=True,
                text=True,
                check=False,
                timeout=DEADLINE_S,
            )
            shown = ran.stderr.strip().splitlines()
            lines.append((ran.returncode, shown[-1] if shown else "", "Traceback" in ran.stderr))
        return server.outcome(
            held=all(code == 2 and line and not trace for code, line, trace in lines),
            note="; ".join(f"{code} {line[-100:]}" for code, line, _ in lines),
        )


# ---------------------------------------------------------------------- how


@contextmanager
def watching(folder: Path, *arguments: object) -> Iterator[tuple[Attacked, Client, Path]]:
    """Run a server of a tiny bundle that watches a folder; gives it, a client and the folder."""
    models = folder / "models"
    models.mkdir(exist_ok=True)
    deadline = () if "--load-timeout-s" in arguments else ("--load-timeout-s", TIMEOUT_S)
    with (
        attacked(
            folder,
            *("--model-repository", models, "--watch-s", WATCH_S),
            *("--load-memory-bytes", MEMORY_BYTES, *deadline, *arguments),
        ) as server,
        Client(server.server.target) as client,
    ):
        yield server, client, models


def tiny_other(path: Path) -> None:
    """Put a harmless bundle of the name of the deadly ones."""
    tiny_bundle(path, name="bad", seed=1)


def _whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write to another name, then rename: a bundle that appears is complete."""
    scratch = path.with_name(f".{path.name}")
    write(scratch)
    scratch.rename(path)


def _zip(path: Path, files: Mapping[str, bytes], manifest: Any, compression: int) -> None:
    """Zip files with a manifest that fits them, hashes and fingerprint too."""
    entries = tuple(
        FileEntry(path=name, sha256=sha256(data).hexdigest(), bytes=len(data))
        for name, data in sorted(files.items())
    )
    listed = replace(manifest, files=entries)
    sealed = serialise(replace(listed, fingerprint=fingerprint(listed)))
    scratch = path.with_name(f".{path.name}")
    with zipfile.ZipFile(scratch, "w", compression) as archive:
        for name, data in {"manifest.json": sealed, **files}.items():
            archive.writestr(name, data)
    scratch.rename(path)


def _until(holds: Callable[[], bool]) -> bool:
    """Wait until something holds; tells whether it did in time."""
    ends = time.monotonic() + DEADLINE_S
    while time.monotonic() < ends:
        if holds():
            return True
        time.sleep(0.05)
    return False


def _states(client: Client, name: str) -> set[str]:
    return {line.state for line in client.models(deadline_s=DEADLINE_S) if line.name == name}


def _refused(client: Client) -> int:
    lines = client.models(deadline_s=DEADLINE_S)
    return sum(line.state == "UNAVAILABLE" and bool(line.reason) for line in lines)


def _trials(server: Attacked) -> list[psutil.Process]:
    """Give the processes that try bundles now."""
    found = []
    for child in psutil.Process(server.server.process.pid).children():
        with suppress(psutil.NoSuchProcess):
            if "attar.server.engine.trial_process" in child.cmdline():
                found.append(child)
    return found


def _limits(process: psutil.Process) -> str:
    return " ".join(Path(f"/proc/{process.pid}/limits").read_text("utf-8").split())


ATTACKS: Final = (
    Attack("bundles that panic, abort, never end or take all memory", deadly_trials),
    Attack("a start next to bundles like these", start_next_to_them),
    Attack("zip bombs, pipes and crowds", archives),
    Attack("heads in bundles whose arrays claim a lot", heads_that_grow),
    Attack("a bundle changed between its trial and its opening", swapped),
    Attack("SIGTERM while a bundle is tried", ending_while_loading),
    Attack("an unload while a bundle is tried", unloading_while_loading),
    Attack("what a trial sees", seen_by_a_trial),
    Attack("such bundles named on the command line", named_at_start),
)
