"""The whole of attar once, on the documentation that is already on this machine.

A teacher is imported and adapted to docstrings, two students learn from it, all are exported behind
their gates, and a server searches, detects and classifies.  No label is used; a retrieval task
judges the encoders: a held-out summary must find its own body.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from attar.client import Client
from attar.export.importing import import_folder
from attar.host import describe
from attar.training import adapt, distill
from attar.training.data.pairs import Split
from attar.training.datasets import docstrings
from attar.training.precision import best_precision

from ..console import show_log
from . import anomalies, figures, ladder, serving, teacher
from .corpus import WORDS, read_corpus, searched, write_corpus, write_general
from .ladder import Rung
from .stopwatch import Stopwatch

TIMED_TEXTS = 256
TRAINED = ("adapted", "student", "static")  # and exported, each in a folder of its name
REPORT, PLOT = "report.json", "plot.png"

console = Console()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much work the demo does; where it is None, the command decides."""

    packages: tuple[str, ...] = docstrings.PACKAGES
    per_package: int = 1200  # documents
    held_out: int = 800
    searched: int = 2000  # bodies, with the held-out ones
    parity_texts: int = 100
    adapt_steps: int | None = 25
    distill_steps: int | None = 30
    static_steps: int | None = None
    general_texts: int | None = None  # of no subject in particular
    min_cosine: float | None = None  # of the student to its teacher
    detector_texts: int = 600  # that a detector is fitted on
    rates: tuple[float, ...] = (0.01, 0.05, 0.1)  # of false alarms


QUICK = Scale(
    packages=("numpy", "rich"),  # of few files, so that they are read in seconds
    per_package=40,  # which leaves 40 pairs to train on: all that a stage reads
    held_out=40,
    searched=80,
    parity_texts=30,
    adapt_steps=2,
    distill_steps=2,
    static_steps=2,
    general_texts=20,
    min_cosine=-1,  # so few steps bring a student nowhere
    rates=(0.05, 0.1),  # 40 texts are too few to hold 1 %
)


def run(out: Path, *, seed: int = 0, quick: bool = False) -> None:
    """Run every stage and leave the bundles, report.json and plot.png in `out`."""
    scale = QUICK if quick else Scale()
    show_log()
    out.mkdir(parents=True, exist_ok=True)
    for name in (REPORT, PLOT):  # which would be of an earlier run until this one ends
        (out / name).unlink(missing_ok=True)
    watch = Stopwatch(console)
    with watch.stage("total", "attar, from documents to a server"):
        facts = _stages(out, scale, watch, seed=seed)
    report = {
        **facts,
        "seconds": watch.seconds,
        "cpu_seconds": watch.cpu_seconds,
        "precision": best_precision(),
        "machine": describe(),
    }
    show(report, out)


def _stages(out: Path, scale: Scale, watch: Stopwatch, *, seed: int) -> dict[str, Any]:
    with watch.stage("corpus", "The corpus: docstrings on this machine"):
        splits = read_corpus(
            scale.packages, per_package=scale.per_package, held_out=scale.held_out, seed=seed
        )
        write_corpus(splits.train, out / "corpus.jsonl")
        documents = len(splits.train) + len(splits.held_out)
        console.print(f"{documents:,} documents; {len(splits.held_out)} summaries are held out")
        some = searched(splits, scale.searched)  # so that the teacher embeds them in a minute
    with watch.stage("import", "1. Import a teacher: all-MiniLM-L6-v2"):
        imported, parity = import_teacher(out, some, texts=scale.parity_texts)
    train(out, scale, watch, seed=seed)
    with watch.stage("export", "4. Export them, each variant behind its gates"):
        rungs = {
            "teacher": imported,
            "adapted": ladder.export(out / "adapted", some, variant="fp32"),
            "student": ladder.export(out / "student", some, variant="int8"),
            "static": ladder.export(out / "static", some, variant="int8"),
        }
        rows = ladder.rows(rungs, [pair.body for pair in splits.held_out[:TIMED_TEXTS]])
    with watch.stage("serve", "5. Serve two of them, and use them through the client only"):
        served = serve_and_use(out, rungs, splits, scale)
    return {
        "corpus": {
            "documents": documents,
            "held_out": len(splits.held_out),
            "searched": len(some.train) + len(some.held_out),
            "words": WORDS,
        },
        **rows,
        "variants": {name: ladder.variant_rows(rungs[name]) for name in TRAINED},
        "refused": refused(rungs),
        "import": parity,
        "adaptation": json.loads((out / "adapted" / REPORT).read_text("utf-8")),
        "distillation": json.loads((out / "student" / REPORT).read_text("utf-8")),
        **served,
    }


def import_teacher(out: Path, splits: Split, *, texts: int) -> tuple[Rung, dict[str, float]]:
    """Import the teacher's folder, and say how near the bundle is to sentence-transformers."""
    folder = teacher.teacher_folder()
    exported = import_folder(folder, out / "minilm.attar", name="all-minilm-l6-v2", overwrite=True)
    path = exported.bundle.path
    some = teacher.mixed_texts(splits, texts)
    parity = teacher.sentence_transformers_parity(folder, path, some)
    console.print(f"worst cosine to sentence-transformers: {parity['cosine_worst']:.7f}")
    return ladder.imported(exported, splits), parity


def train(out: Path, scale: Scale, watch: Stopwatch, *, seed: int) -> None:
    """Adapt the teacher to the corpus, and distil it into a student of each kind."""
    data = str(out / "corpus.jsonl")
    general = None
    if scale.general_texts is not None:
        general = out / "general.txt"
        write_general(scale.general_texts, general)
    with watch.stage("adapt", "2. Adapt it to the corpus, without labels"):
        adapted = adapt(
            teacher.teacher_folder(),
            out / "adapted",
            data=data,
            general=general,
            steps=scale.adapt_steps,
            seed=seed,
            restart=True,
        )
    with watch.stage("distill", "3. Distil it into a student of two layers"):
        distill(
            adapted,
            out / "student",
            data=data,
            general=general,
            steps=scale.distill_steps,
            min_cosine=scale.min_cosine,
            seed=seed,
            restart=True,
        )
    with watch.stage("static", "   and into a table of tokens"):
        distill(
            adapted,
            out / "static",
            student="static",
            data=data,
            steps=scale.static_steps,
            seed=seed,
            restart=True,
        )


def refused(rungs: Mapping[str, Rung]) -> dict[str, list[str]]:
    """Give why variants were not written, by encoder and variant."""
    return {
        f"{name} {variant}": list(reasons)
        for name, rung in rungs.items()
        for variant, reasons in rung.exported.refused.items()
    }


def serve_and_use(
    out: Path, rungs: Mapping[str, Rung], splits: Split, scale: Scale
) -> dict[str, Any]:
    """Serve the student and the adapted teacher; search, detect and classify by a client."""
    served = ("student", "adapted")
    bundles = [rungs[name].path for name in served]
    with serving.server(bundles, out / "server") as target, Client(target) as client:
        names = [f"{model.name} as {model.variant}" for model in client.info().models]
        console.print(f"{target} serves {' and '.join(names)}")
        task = anomalies.AnomalyTask.of(splits, fitted=scale.detector_texts, rates=scale.rates)
        return {
            "search": serving.search(client, "student", searched(splits, scale.searched)),
            "parity": serving.parity(client, "student", rungs["student"].path, splits),
            "anomaly": {
                "ordinary": len(task.ordinary),
                "foreign": len(task.foreign),
                **{name: anomalies.anomalies(client, name, task) for name in served},
            },
            "classify": serving.classify(client, "student", splits),
        }


def show(report: dict[str, Any], out: Path) -> None:
    """Write report.json and plot.png into `out`, and print the report."""
    (out / REPORT).write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    figures.plot(report, out / PLOT)
    console.rule("[bold]6. The report")
    console.print(figures.encoders(report))
    for name, reasons in report["refused"].items():
        console.print(f"{name} was not written: {'; '.join(reasons)}", style="yellow")
    console.print(figures.detectors(report))
    general = report["adaptation"]["abroad"]
    console.print(
        f"On {general['count']} texts of no subject in particular, similarities by the adapted "
        f"teacher agree with the teacher's: Spearman {general['spearman']:.3f}"
    )
    console.print(
        f"Served: recall@10 {report['search']['recall_at_10']:.3f}, package of origin "
        f"{report['classify']['accuracy']:.3f} (majority {report['classify']['majority']:.3f})"
    )
    console.print(f"{out / REPORT}, {out / PLOT}; {report['seconds']['total']:.0f} s")
    console.print("Keep serving: [bold]make serve")
