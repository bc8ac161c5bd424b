"""Short texts a second that a static encoder embeds on one core, through the device runtime.

    python -m benchmarks.static --out benchmarks/results/static.json

A minute. The table has all-MiniLM's vocabulary, 256 dimensions and random rows, whose values do not
change the speed; the texts are summary lines of this machine's documentation. Times are CPU seconds
of one thread, the least of several rounds, so that other work stretches them little. Figures are
kept for each instruction set.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attar
from attar.cli.demo.teacher import teacher_folder
from attar.export.text import export_text
from attar.host import describe, instruction_set
from attar.runtime import Encoder
from attar.training.checkpoints.encoder_folder import TextModel
from attar.training.composing import seeded
from attar.training.datasets import docstrings
from attar.training.encoders.static import StaticEncoder
from attar.training.static_init import static_shape

SHORT = range(8, 13)  # tokens of a text, [CLS] and [SEP] among them
PARITY = 64  # texts
RUN = 64  # texts in one run of the graph, timed alone
ROUNDS = 9


def main() -> None:
    """Export a table, time each variant, and keep the figures next to those of other CPUs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out: Path = parser.parse_args().out
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    report = json.loads(out.read_text("utf-8")) if out.exists() else {}
    summaries = [pair.summary for pair in docstrings.read(("numpy", "stdlib"))]
    tokenizer = (teacher_folder() / "tokenizer.json").read_bytes()
    with tempfile.TemporaryDirectory() as folder, seeded(0):
        table = StaticEncoder(static_shape(tokenizer, dim=256)).eval()
        bundle = export_text(
            Path(folder) / "static.attar",
            TextModel(encoder=table, tokenizer=tokenizer),
            name="static",
            texts=summaries[:PARITY],
            probe=None,
            metric=None,
        ).bundle
        report[instruction_set()] = {
            variant.name: {
                "bytes": bundle.manifest.file(variant.file).bytes,
                **timed(attar.load(bundle, variant=variant.name, threads=1), summaries),
            }
            for variant in bundle.manifest.variants
        } | {"tokens": [SHORT.start, SHORT.stop - 1], "machine": describe()}
    out.write_text(json.dumps(report, indent=1) + "\n", "utf-8")


def timed(encoder: Encoder, summaries: list[str]) -> dict[str, Any]:
    """Give the microseconds that a short text takes: all of it, its ids, and its run."""
    rows = encoder.prepare(summaries)
    short = [text for text, row in zip(summaries, rows, strict=True) if row.tokens in SHORT]
    prepared = encoder.prepare(short[:RUN])
    whole = cpu_us(lambda: encoder.embed(short), len(short))
    return {
        "texts": len(short),
        "us": round(whole, 2),
        "prepare_us": round(cpu_us(lambda: encoder.prepare(short), len(short)), 2),
        "infer_us": round(cpu_us(lambda: encoder.infer(prepared), RUN), 2),
        "texts_per_second": round(1e6 / whole),
    }


def cpu_us(work: Callable[[], object], items: int) -> float:
    """Give the least CPU time of several rounds, in microseconds an item."""
    seconds = []
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return min(seconds) / items * 1e6


if __name__ == "__main__":
    main()
