"""A ladder of encoders on several corpora: recall, what is lost abroad, speed, bytes and training.

    python -m benchmarks.ladder --data DATA --out benchmarks/results/ladder.json

DATA is a folder with text-retrieval-cranfield, text-clinc150 and text-stsb. All of it takes hours
on one core, so it runs in parts: `--home`, `--encoder` and `--seeds` choose, encoders and
embeddings are kept in `--work`, and each row is written when it is known, or written again when
there is another seed.

Home is the corpus that an encoder was trained on: held-out docstrings by item or by whole module,
Cranfield's judged queries, CLINC150's intents. Abroad are the others, and STS-B. The teacher is
all-MiniLM-L6-v2, from which adapted encoders start. Students are distilled from the adapted encoder
of their seed; its seconds of training are in its own rows. Asymmetric search takes queries of the
student of two layers to the adapted encoder's vectors in fp32. Rivals train on the same
pairs, in an environment of their own, and fetch no weights: what fastembed has must be in
FASTEMBED_CACHE_PATH, and a rival that cannot be run is among `skipped` with the reason.

A row has the mean over seeds with its 95 % interval, by a bootstrap over queries and seeds, and the
ratio to the teacher's figure of the same queries. Speed and training are CPU seconds of one thread.
"""

import argparse
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attar.cli.demo.teacher import teacher_folder
from attar.host import describe

from .ladder_encoders import (
    BUILDERS,
    REQUIREMENTS,
    ROOT,
    TRAINED,
    WIDTHS,
    Variant,
    Work,
    build,
    notes_of,
    variants,
)
from .ladder_rows import Row, estimate, measures, merged
from .ladder_tasks import Figures, Home, Task, Vectors, homes

RESULTS = Path("benchmarks/results/ladder.json")
ENCODERS = (*BUILDERS, "asymmetric")
ASYMMETRIC = ("two_layers", "adapted")  # what embeds the queries, and what the documents


@dataclass(frozen=True, slots=True)
class Embedded:
    """The embeddings of a task's texts, with what is known of the encoder."""

    queries: Vectors
    documents: Vectors
    seconds: float
    bytes: int


def main() -> None:
    """Build and judge what is chosen, and write the rows after each task."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder of data sets")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "ladder")
    parser.add_argument("--home", nargs="+", default=["docstrings_modules"])
    parser.add_argument("--task", nargs="+", help="corpora to judge on (default: all)")
    parser.add_argument("--encoder", nargs="+", choices=ENCODERS, default=ENCODERS)
    parser.add_argument("--precision", nargs="+", default=["fp32", "int8"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    work = Work(folder=arguments.work, teacher=teacher_folder(), threads=1)
    read = homes(arguments.data)
    for name in arguments.home:
        home = read[name]()
        tasks = tuple(
            t for t in home.tasks if arguments.task in (None, []) or t.corpus in arguments.task
        )
        for encoder in arguments.encoder:
            try:
                for task in embedded(encoder, replace(home, tasks=tasks), work, arguments):
                    write(arguments.out, rows_of(encoder, home, task, work))
            except Exception as error:  # noqa: BLE001 -- what stops a rung is what is reported of it
                why = f"{type(error).__name__}: {error}"
                skip(arguments.out, {"encoder": encoder, "home": name, "why_not": why})


def embedded(encoder: str, home: Home, work: Work, chosen: argparse.Namespace) -> Iterator[Task]:
    """Build an encoder at each seed and embed each task's texts; give a task when it is done."""
    if encoder == "asymmetric":  # its embeddings are those of others
        yield from (task for task in home.tasks if task.corpus == home.name)
        return
    for seed in chosen.seeds if encoder in TRAINED else (0,):
        folder = build(encoder, home, seed, work)
        loaded = variants(encoder, folder, work, home, chosen.precision)
        for task in home.tasks:
            for variant in loaded:
                embed(folder, variant, task)
            print(encoder, home.name, seed, task.corpus, flush=True)
            yield task


def embed(folder: Path, variant: Variant, task: Task) -> None:
    """Embed a task's texts, unless they are."""
    path = vectors_file(folder, variant.precision, task.corpus)
    if path.exists():
        return
    path.parent.mkdir(exist_ok=True)
    queries, first = variant.embed(task.queries, "query")
    documents, second = variant.embed(task.documents, "passage")
    draft = path.with_name(f"draft-{path.name}")
    np.savez(
        draft, queries=queries, documents=documents, seconds=first + second, bytes=variant.bytes
    )
    draft.replace(path)


def vectors_file(folder: Path, precision: str, corpus: str) -> Path:
    """Say where the embeddings of a task are kept."""
    return folder / "vectors" / f"{precision}-{corpus}.npz"


def read_vectors(folder: Path, precision: str, corpus: str) -> Embedded | None:
    """Read the embeddings of a task; None where there are none."""
    path = vectors_file(folder, precision, corpus)
    if not path.exists():
        return None
    with np.load(path) as file:
        return Embedded(
            file["queries"], file["documents"], float(file["seconds"]), int(file["bytes"])
        )


def runs_of(
    encoder: str, home: str | None, precision: str, corpus: str, work: Work
) -> list[tuple[Embedded, float]]:
    """Give the embeddings of a task at each seed, with the seconds of training."""
    queries, documents = ASYMMETRIC if encoder == "asymmetric" else (encoder, encoder)
    runs = []
    for seed in work.seeds(queries, home):
        folder = work.of(queries, home, seed)
        run = read_vectors(folder, precision, corpus)
        if encoder == "asymmetric" and run:
            index = read_vectors(work.of(documents, home, seed), "fp32", corpus)
            run = replace(run, documents=index.documents) if index else None
        if run:
            runs.append((run, float(notes_of(folder)["train_seconds"])))
    return runs


def rows_of(encoder: str, home: Home, task: Task, work: Work) -> list[Row]:
    """Give the rows of an encoder on a task, over all seeds that are there."""
    trained_on = home.name if encoder in (*TRAINED, "asymmetric") else None
    at_home = task.corpus == home.name and encoder in ENCODERS
    base = _base(task, work)
    rows: list[Row] = []
    for precision in ("fp32", "int8"):
        runs = runs_of(encoder, trained_on, precision, task.corpus, work)
        if not runs:
            continue
        about = {
            "texts_per_second": round(
                (len(task.queries) + len(task.documents)) / np.mean([r.seconds for r, _ in runs]), 1
            ),
            "bytes": runs[0][0].bytes,
            "train_seconds": round(float(np.mean([seconds for _, seconds in runs])), 1),
            "seeds": len(runs),
        }
        widths = WIDTHS if at_home else ()
        by_run = [measures(task, run.queries, run.documents, widths=widths) for run, _ in runs]
        rows += [
            {
                "corpus": task.corpus,
                "encoder": encoder,
                "trained_on": trained_on,
                "precision": precision + suffix,
                "width": width,
                "metric": metric,
                **estimate(
                    [run[suffix, width][metric] for run in by_run], base.get(metric), metric
                ),
                **about,
            }
            for (suffix, width), figures in by_run[0].items()
            for metric in figures
        ]
    return rows


def _base(task: Task, work: Work) -> dict[str, Figures]:
    """Give the teacher's figures in fp32 at full width, none where it was not judged."""
    run = read_vectors(work.of("teacher", None, 0), "fp32", task.corpus)
    return {} if run is None else dict(task.measure(run.queries, run.documents))


def write(out: Path, rows: Sequence[Row]) -> None:
    """Put rows into the file, in place of earlier ones of the same encoder, task and width."""
    fresh = {(row["encoder"], row["trained_on"]) for row in rows}
    with updated(out) as report:
        report["rows"] = merged(report["rows"], rows)
        report["skipped"] = [
            skipped
            for skipped in report["skipped"]
            if not {(skipped["encoder"], skipped["home"]), (skipped["encoder"], None)} & fresh
        ]


def skip(out: Path, skipped: Row) -> None:
    """Put into the file why an encoder is not in it."""
    print(json.dumps(skipped), flush=True)
    own = (skipped["encoder"], skipped["home"])
    with updated(out) as report:
        others = [row for row in report["skipped"] if (row["encoder"], row["home"]) != own]
        report["skipped"] = [*others, skipped]


@contextmanager
def updated(out: Path) -> Iterator[dict[str, Any]]:
    """Give what the file has, to be changed, and write it; one process at a time."""
    with out.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = json.loads(out.read_text("utf-8")) if out.exists() else {}
        report = {
            "command": "python -m benchmarks.ladder --data DATA --out " + str(RESULTS),
            "machine": describe(),
            "threads": 1,
            "requirements": {name: list(lines) for name, lines in REQUIREMENTS.items()},
            "rows": before.get("rows", []),
            "skipped": before.get("skipped", []),
        }
        yield report
        draft = out.with_suffix(".partial")
        draft.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
        draft.replace(out)


if __name__ == "__main__":
    main()
