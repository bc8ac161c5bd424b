"""The rungs of a ladder: students of several sizes, exported, by recall and latency."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from attar.encodings import decode, encode, slice_dims
from attar.host import describe
from attar.inputs import Role
from attar.runtime import Encoder, load
from attar.training.checkpoints.encoder_folder import TextModel, token_transformer
from attar.training.data.pairs import Split
from attar.training.distilling import distill
from attar.training.encoders.students import STATIC
from attar.training.encoders.text import TextEncoder
from attar.training.pretrained import load_text_checkpoint
from attar.training.probes.interval import bootstrap
from attar.training.probes.retrieval import ranks
from attar.training.probes.summaries import SummaryRetrieval
from attar.training.run_data import corpus, named, report

from .exporting import parity_texts
from .text import export_text

LADDER: Final = "ladder.json"
TEACHER: Final = "teacher"
STATIC_RUNG: Final = "static"
LAYERS: Mapping[str, int] = {"two_layers": 2, "six_layers": 6}
"""The other students by name, with how many of the teacher's layers each has."""

WIDTHS = (64, 128, 256)
TIMED = 50  # queries
K = 10

Vectors = NDArray[np.float32]
Row = dict[str, Any]


def ladder(
    teacher_folder: str | Path,
    out: str | Path,
    *,
    data: str = "docstrings",
    reading: Sequence[str] = (),
    widths: Sequence[int] = (),
    general: Path | None = None,
    steps: int | None = None,
    seed: int = 0,
    restart: bool = False,
) -> Path:
    """Distil a teacher into students of every size, export and measure them; give `ladder.json`.

    The students are a static encoder, one of two of the teacher's layers and one of six, where the
    teacher has as many. `teacher_folder`, `data`, `reading`, `general`, `steps`, `seed` and
    `restart` are as `attar.training.distill` takes them; `widths` are 64, 128 and 256 by default.
    `out` gets a folder and a bundle of each, a bundle of the teacher, and `ladder.json`: a row for
    each variant, at each width and the full one, and for one bit a dimension, with recall@10 of the
    held-out queries and its interval, the median time of a query on one thread, and bytes. Raises
    the errors of `distill`.
    """
    folder, out = Path(teacher_folder), Path(out)
    teacher = token_transformer(load_text_checkpoint(folder))
    _warn_of_adapted(teacher)
    widths = widths or WIDTHS
    parts = corpus(named(data), reading, what="distill", least=4)
    shared: dict[str, Any] = {"data": data, "reading": reading, "steps": steps, "seed": seed}
    rows = _rows(TEACHER, folder, out, parts, widths=widths)
    for name, options in _students(teacher.encoder, widths=widths, general=general).items():
        began = time.perf_counter()
        distill(folder, out / name, restart=restart, **shared, **options)
        seconds = round(time.perf_counter() - began, 1)
        own = _rows(name, out / name, out, parts, widths=widths)
        rows += [{**row, "train_seconds": seconds} for row in own]
    _write(out / LADDER, SummaryRetrieval.of(parts), data, rows)
    return out / LADDER


def _warn_of_adapted(teacher: TextModel[TextEncoder]) -> None:
    """Report that a teacher which was adapted may have seen what is held out."""
    if teacher.lineage.get("recipe") == "adapt":
        report(
            "the teacher is adapted: where it was to these documents, it has seen some of those "
            "that are held out here, and its recall is too high"
        )


def _write(path: Path, task: SummaryRetrieval, data: str, rows: Sequence[Row]) -> None:
    facts = {
        "data": data,
        "queries": len(task.queries),
        "documents": len(task.documents),
        "threads": 1,
        "machine": describe(),
        "rows": rows,
    }
    path.write_text(json.dumps(facts, indent=2) + "\n", "utf-8")


def _students(
    teacher: TextEncoder, *, widths: Sequence[int], general: Path | None
) -> dict[str, dict[str, Any]]:
    """Give the arguments of each student's distillation, by its name."""
    depth = teacher.shape.transformer.depth
    return {STATIC_RUNG: {"student": "static", "dim": min(STATIC.dim, teacher.dim)}} | {
        name: {"layers": layers, "widths": widths, "general": general}
        for name, layers in LAYERS.items()
        if layers <= depth
    }


@dataclass(frozen=True, slots=True)
class _Recorder:
    """A probe that keeps the embeddings of queries and documents by the name of the variant."""

    task: SummaryRetrieval
    vectors: dict[str, tuple[Vectors, Vectors]] = field(default_factory=dict)

    def __call__(self, encoder: Encoder) -> Mapping[str, float]:
        by_role: dict[Role, Vectors] = {}

        def embed(texts: Sequence[str], role: Role) -> Vectors:
            by_role[role] = encoder.embed(texts, role=role).vectors
            return by_role[role]

        figures = self.task(embed)
        self.vectors[encoder.variant.name] = by_role["query"], by_role["passage"]
        return figures


def _rows(name: str, folder: Path, out: Path, parts: Split, *, widths: Sequence[int]) -> list[Row]:
    """Export an encoder, and give a row for each variant, width and encoding of its vectors."""
    report(f"{name} is exported and measured")
    recorder = _Recorder(SummaryRetrieval.of(parts))
    out.mkdir(parents=True, exist_ok=True)
    bundle = export_text(
        out / f"{name}.attar",
        load_text_checkpoint(folder),
        name=name,
        texts=parity_texts(parts),
        probe=recorder,
        metric="recall_at_10",
        variants=("int8",),
        overwrite=True,
    ).bundle
    rows = []
    for variant in bundle.manifest.variants:
        about = {
            "encoder": name,
            "variant": variant.name,
            "bytes": bundle.manifest.file(variant.file).bytes,
            "p50_ms": _p50_ms(load(bundle, variant=variant.name, threads=1), recorder.task.queries),
        }
        rows += [{**about, **row} for row in _widths(*recorder.vectors[variant.name], widths)]
    return rows


def _widths(queries: Vectors, documents: Vectors, widths: Sequence[int]) -> list[Row]:
    """Give recall at each width, and of one bit a dimension at the full one."""
    dim = queries.shape[1]
    rows = [
        {"width": width, "vector_bytes": 4 * width}
        | _recall(slice_dims(queries, width), slice_dims(documents, width))
        for width in (*(width for width in sorted(widths) if width < dim), dim)
    ]
    if dim % 8 == 0:
        signs = [decode(encode(vectors, "binary"), "binary") for vectors in (queries, documents)]
        rows.append({"width": dim, "vector_bytes": dim // 8} | _recall(*signs))
    return rows


def _recall(queries: Vectors, documents: Vectors) -> Row:
    """Give recall@10 with its interval; query i should find document i."""
    hits = ranks(queries, documents, np.arange(len(queries))) <= K
    recall = bootstrap(hits.astype(np.float64))
    return {"recall_at_10": recall.mean, "low": recall.low, "high": recall.high}


def _p50_ms(encoder: Encoder, queries: Sequence[str]) -> float:
    """Time single queries, from text to embedding: the median, once warm."""
    seconds = []
    for query in (*queries[:1], *queries[:TIMED]):
        began = time.perf_counter()
        encoder.embed([query], role="query")
        seconds.append(time.perf_counter() - began)
    return round(float(np.median(seconds[1:])) * 1e3, 3)
