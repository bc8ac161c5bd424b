"""Third-party clients, as they come, against a server of attar: calls, failures, wrong vectors.

    python -m benchmarks.clients --out benchmarks/results/clients.json

It builds an environment of the clients in build/clients (2 GB, from PyPI), which has none of
attar's packages but what the clients bring; starts a server of three bundles here, and another of
one; and runs the suite of tests/clients in that environment, which holds every vector to that of
`attar.load`. Words after `--` go to pytest. It ends with pytest's status.

The clients are told to send no telemetry. LangChain's token ids are those of the vocabulary that
LiteLLM's wheel has, since tiktoken would fetch one.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attar.host import describe

from .environments import environment
from .support.bundles import tiny_bundle, tiny_cross_encoder
from .support.servers import free_port, serving, settings
from .traces import BUNDLES, ROOT, minilm_folder

SUITE = ROOT / "tests" / "clients"
ENVIRONMENT = ROOT / "build" / "clients"
PROMPTS = {"query": "the sun ", "passage": "rain ", "Clustering": "rain rain cat "}
QUIET = {
    "ANONYMIZED_TELEMETRY": "False",
    "DO_NOT_TRACK": "1",
    "HAYSTACK_TELEMETRY_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}


def requirements() -> list[str]:
    """Give the pinned requirements of the suite."""
    lines = (SUITE / "requirements.txt").read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def bundles(folder: Path) -> dict[str, Path]:
    """Write what is served: tiny, with prompts and two widths; all-MiniLM-L6-v2; a reranker."""
    minilm = BUNDLES / "minilm_fp32.attar"
    if not minilm.exists():
        from attar.export.importing import import_folder

        BUNDLES.mkdir(parents=True, exist_ok=True)
        import_folder(minilm_folder(), minilm, name="minilm")
    return {
        "tiny": tiny_bundle(folder / "tiny.attar", prompts=PROMPTS, dims=(8, 16)),
        "minilm": minilm,
        "reranker": tiny_cross_encoder(folder / "reranker.attar"),
    }


def run(python: Path, words: Sequence[str]) -> tuple[int, Mapping[str, Any]]:
    """Run the suite against a new server; give pytest's status and the counts."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, port = Path(scratch), free_port()
        served, counts = bundles(folder), folder / "counts.json"
        chosen = settings(*served.values(), data_dir=folder / "data", http_port=port)
        alone = settings(served["tiny"], data_dir=folder / "alone", http_port=free_port())
        (ranks,) = python.parents[1].glob("lib/*/site-packages/litellm/**/tokenizers")
        with serving(chosen) as target, serving(alone):
            where = {
                "url": f"http://127.0.0.1:{port}",
                "alone": f"http://127.0.0.1:{alone.http_port}",
                "target": target,
                "bundles": {name: str(path) for name, path in served.items()},
            }
            environ = {
                **os.environ,
                **QUIET,
                "ATTAR_COUNTS": str(counts),
                "ATTAR_SERVED": json.dumps(where),
                "PYTHONPATH": str(ROOT / "src"),
                "TIKTOKEN_CACHE_DIR": str(ranks),
            }
            command = [str(python), "-m", "pytest", *(words or [str(SUITE)])]
            done = subprocess.run(command, env=environ, cwd=SUITE, check=False)
        return done.returncode, json.loads(counts.read_text("utf-8"))


def main() -> None:
    """Write the counts of each client."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="the file to write; by default none")
    parser.add_argument("pytest", nargs="*", help="arguments of pytest, after --")
    options = parser.parse_args()
    status, counts = run(environment(ENVIRONMENT, requirements()), options.pytest)
    if options.out is not None:
        report = {"machine": describe(), "clients": counts}
        options.out.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    sys.exit(status)


if __name__ == "__main__":
    main()
