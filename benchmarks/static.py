"""A static encoder next to its teacher: recall on held-out documentation, and texts a second.

    python -m benchmarks.static --out benchmarks/results/static.json

About 20 minutes on one core. The corpus and its 800 held-out summaries are the demo's. The number
of epochs is chosen at the first seed on further documents that are set aside, and then every seed
trains on all that is not held out. `--speed` keeps the figures of quality and measures the speed
alone, in CPU seconds of one thread, so that a busy machine does not stretch them; its rows are kept
for each instruction set.
"""

import argparse
import copy
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import attar
from attar.cli.demo import teacher_folder
from attar.export.exporting import parity_texts
from attar.export.text import export_text
from attar.host import describe, instruction_set
from attar.training.checkpoints.encoder_folder import TextModel
from attar.training.data.pairs import Split, split
from attar.training.datasets import docstrings
from attar.training.encoders.static import StaticEncoder
from attar.training.encoders.text import TextNetwork
from attar.training.huggingface import loading
from attar.training.loop import fit
from attar.training.probes.interval import interval
from attar.training.recipes.text import static
from attar.training.static_init import static_from_teacher, static_shape
from attar.training.text_data import TextData, text_data

SEEDS = (0, 1, 2)
EPOCHS = (5, 15, 30)  # to choose from
VALIDATION = 400  # documents
LENGTHS = (64, 512)  # tokens of a text: what attar's students of layers read, and a static one
TEACHER_LENGTHS = (64, 256)  # the second is its own limit
SHORT = range(8, 13)  # tokens of the texts that speed is measured on
ROUNDS = 7
METRICS = ("recall_at_1", "recall_at_10", "mrr")

Row = dict[str, Any]


def main() -> None:
    """Train, judge and time the students, and write what is known after each step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--speed", action="store_true", help="measure the speed alone")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    out: Path = arguments.out
    report = json.loads(out.read_text("utf-8")) if out.exists() else {"speed": {}}
    parts = split(docstrings.read(per_package=1200), held_out=800)
    teacher = loading.read(teacher_folder())
    if not arguments.speed:
        report |= {"rows": [], "machine": describe()}
        for row in quality(teacher, parts):
            report["rows"].append(row)
            out.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    report["speed"][instruction_set()] = speed(teacher, parts)
    out.write_text(json.dumps(report, indent=1) + "\n", "utf-8")


def quality(teacher: TextModel[TextNetwork], parts: Split) -> Iterator[Row]:
    """Give a row for each encoder and length."""
    inner = split(parts.train, held_out=VALIDATION, seed=1)
    data = text_data(inner, teacher.tokenizer, max_length=LENGTHS[-1])
    start = started(teacher, data)
    validation = {
        epochs: trained(start, data, epochs=epochs, seed=SEEDS[0])["recall_at_10"]
        for epochs in EPOCHS
    }
    epochs = max(validation, key=lambda count: validation[count])
    for length in LENGTHS[::-1]:
        data = text_data(parts, teacher.tokenizer, max_length=length)
        began = time.process_time()
        start = started(teacher, data)
        seconds = time.process_time() - began
        yield row("start", length, [data.probe(start)]) | {"train_seconds": round(seconds, 1)}
        began = time.process_time()
        runs = [trained(start, data, epochs=epochs, seed=seed) for seed in SEEDS]
        seconds = (time.process_time() - began) / len(SEEDS)
        yield row("static", length, runs) | {
            "epochs": epochs,
            "validation": validation,
            "train_seconds": round(seconds, 1),
            "texts_per_second": round(2 * len(parts.train) * epochs / seconds),
        }
    for length in TEACHER_LENGTHS:
        data = text_data(parts, teacher.tokenizer, max_length=length)
        yield row("teacher", length, [data.probe(teacher.encoder)])


def row(encoder: str, length: int, runs: Sequence[Row]) -> Row:
    """Give the means of runs, with their intervals where there are several."""
    figures: Row = {"encoder": encoder, "length": length, "seeds": len(runs)}
    for metric in METRICS:
        values = [run[metric] for run in runs]
        figures[metric] = round(sum(values) / len(values), 4)
        if len(values) > 1:
            between = interval(values)
            figures[f"{metric}_interval"] = [round(between.low, 4), round(between.high, 4)]
    return figures


def started(teacher: TextModel[TextNetwork], data: TextData) -> StaticEncoder:
    """Give the table of the teacher's tokens, before any contrast."""
    corpus = (*data.pairs.first, *data.pairs.second)
    shape = static_shape(teacher.tokenizer, dim=static.SMALL.shape.dim)
    return static_from_teacher(teacher.encoder, teacher.tokenizer, corpus, shape=shape)


def trained(start: StaticEncoder, data: TextData, *, epochs: int, seed: int) -> Row:
    """Train a copy of a table for some epochs; give its figures on what the data holds out."""
    encoder = copy.deepcopy(start)
    steps = epochs * len(data.pairs.first) // static.SMALL.batch_size
    settings = replace(static.SMALL, steps=steps, seed=seed)
    training = replace(static.contrast(data, encoder, settings), probe=None)
    fit(training, accelerator="cpu", progress=False)
    return data.probe(encoder)


def speed(teacher: TextModel[TextNetwork], parts: Split) -> Row:
    """Give the microseconds of CPU that a short text takes through the device runtime, by part."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    data = text_data(parts, teacher.tokenizer, max_length=LENGTHS[-1])
    texts = [
        pair.summary
        for pair, ids in zip(parts.train, data.pairs.first, strict=True)
        if len(ids) in SHORT
    ]
    rows: Row = {"texts": len(texts), "tokens": [SHORT.start, SHORT.stop - 1]}
    with tempfile.TemporaryDirectory() as folder:
        model = TextModel(encoder=started(teacher, data), tokenizer=teacher.tokenizer)
        bundle = export_text(
            Path(folder) / "static.attar",
            model,
            name="static",
            texts=parity_texts(parts),
            probe=None,
            metric=None,
        ).bundle
        for variant in bundle.manifest.variants:
            encoder = attar.load(bundle, variant=variant.name, threads=1)
            whole = cpu_us(lambda: encoder.embed(texts), len(texts))  # noqa: B023
            prepared = encoder.prepare(texts[:64])
            rows[variant.name] = {
                "bytes": bundle.manifest.file(variant.file).bytes,
                "cosine_worst": variant.parity["cosine_worst"],
                "us": round(whole, 2),
                "prepare_us": round(cpu_us(lambda: encoder.prepare(texts), len(texts)), 2),  # noqa: B023
                "infer_us": round(cpu_us(lambda: encoder.infer(prepared), 64), 2),  # noqa: B023
                "texts_per_second": round(1e6 / whole),
            }
    return rows | {"machine": describe()}


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
