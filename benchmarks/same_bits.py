"""Same bits: what runs, exports and answers come to, to compare before and after code is moved.

    python -m benchmarks.same_bits --out before.json
    python -m benchmarks.same_bits --compare before.json

Everything goes through the commands and the client, one thread each: five recipes are trained for
20 steps, the text encoder among them is exported with its variants, and a server of that bundle
answers 200 texts in each encoding. Kept are SHA-256 digests of the encoders' weights, the bundle's
tokenizer and graphs, and the vectors. The manifest and the report are left out: they have measured
times. Digests depend on the instruction set and the versions of torch and ONNX Runtime, so compare
on one machine.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from attar import Client
from attar.host import describe

RECIPES: Final = ("text/simclr", "image/byol", "image/swav", "table/t_jepa", "audio/tera")
STEPS: Final = 20
TEXTS: Final = tuple(f"text {i}: the {i * 7 % 13}th of the {i * 5 % 11} words" for i in range(200))
ENCODINGS: Final = ("f32", "int8", "binary")
DEADLINE_S: Final = 60
COMMAND: Final = (sys.executable, "-m", "attar.cli.main")


def run(*arguments: str | Path) -> None:
    """Run one command of attar's with one thread, and fail where it fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*COMMAND, *map(str, arguments)], env=environment, check=True)


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return sha256(path.read_bytes()).hexdigest()


def trained(folder: Path) -> dict[str, str]:
    """Train each recipe for a few steps; give the digests of the weights."""
    digests = {}
    for recipe in RECIPES:
        out = folder / recipe
        run("pretrain", recipe, "--out", out, "--steps", str(STEPS), "--seed", "0")
        for path in sorted(out.rglob("encoder.safetensors")):
            digests[path.relative_to(folder).as_posix()] = digest(path)
    return digests


def exported(encoder: Path, bundle: Path) -> dict[str, str]:
    """Export an encoder; give the digests of the bundle's files."""
    run("export", encoder, bundle)
    paths = [bundle / "tokenizer.json", *sorted(bundle.glob("variants/*.onnx"))]
    return {path.relative_to(bundle).as_posix(): digest(path) for path in paths}


def responses_digest(bundle: Path, folder: Path) -> dict[str, str]:
    """Serve a bundle; give the digests of what comes back for the texts, in each encoding."""
    ready = folder / "ready"
    command = [*COMMAND, "serve", bundle, "--port=0", "--http-port=off", "--metrics-port=off"]
    command += [f"--data-dir={folder / 'data'}", f"--ready-file={ready}", "--threads=1"]
    command.append("--variant=fp32")  # which one is the fastest changes from run to run
    with subprocess.Popen(list(map(str, command))) as server:
        try:
            end = time.monotonic() + DEADLINE_S
            while not ready.exists() and time.monotonic() < end and server.poll() is None:
                time.sleep(0.05)
            with Client(f"127.0.0.1:{int(ready.read_text('utf-8'))}") as client:
                digests = {}
                for encoding in ENCODINGS:
                    rows = [client.embed([text], encoding=encoding).vectors for text in TEXTS]
                    digests[encoding] = sha256(b"".join(row.tobytes() for row in rows)).hexdigest()
                return digests
        finally:
            server.terminate()


def measured() -> dict[str, Any]:
    """Train, export and answer; give every digest."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = trained(folder)
        bundle = folder / "text.attar"
        files = exported(folder / RECIPES[0], bundle)
        return {"weights": weights, "bundle": files, "answers": responses_digest(bundle, folder)}


def main() -> None:
    """Write the digests, or compare them with ones that were written before."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--out", type=Path)
    action.add_argument("--compare", type=Path)
    arguments = parser.parse_args()
    digests = measured()
    if arguments.out is not None:
        report = {"machine": describe(), **digests}
        arguments.out.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
        return
    before = json.loads(arguments.compare.read_text("utf-8"))
    parts = [
        f"{part}/{name}"
        for part, names in digests.items()
        for name in sorted({*names, *before[part]})
        if names.get(name) != before[part].get(name)
    ]
    compared = sum(len(names) for names in digests.values())
    print(f"{compared} digests compared, {len(parts)} differ", *parts, sep="\n")
    raise SystemExit(bool(parts))


if __name__ == "__main__":
    main()
