"""`attar distill --ladder`: students of every size in a folder, with their rows and a plot."""

import json
from pathlib import Path

import numpy as np
import pytest

import attar
from attar.training.probes.summaries import SummaryRetrieval
from attar.training.run_data import corpus as read_corpus

from ..support.commands import Attar
from ..support.students import trained, write_teacher


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_teacher(tmp_path_factory.mktemp("ladder"))


def test_a_ladder_has_every_student_that_the_teacher_has_layers_for(
    attar_: Attar, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ran = attar_(
        *("distill", folder / "teacher", "--out", out, "--ladder", "--steps", 12),
        *("--data", folder / "pairs.jsonl", "--general", folder / "general.txt", "--widths", 16),
    )
    assert ran.status == 0, ran.err
    assert (out / "ladder.png").stat().st_size > 1000
    assert "1 bit" in ran.out

    report = json.loads((out / "ladder.json").read_text("utf-8"))
    rows = report["rows"]
    points = [(row["encoder"], row["variant"], row["width"], row["vector_bytes"]) for row in rows]
    assert len(points) == len(set(points))
    dim = trained().encoder.dim
    for name in ("teacher", "static", "two_layers"):
        assert (name, "fp32", 16, 64) in points
        assert (name, "fp32", dim, 4 * dim) in points
        assert (name, "fp32", dim, dim // 8) in points
        assert len(attar.load(out / f"{name}.attar").embed(["ba ko"])) == 1
    assert "six_layers" not in {row["encoder"] for row in rows}
    assert all(("train_seconds" in row) == (row["encoder"] != "teacher") for row in rows)
    assert all(
        row["p50_ms"] > 0 and row["low"] <= row["recall_at_10"] <= row["high"] for row in rows
    )

    parts = read_corpus(str(folder / "pairs.jsonl"), what="distill")
    task, encoder = SummaryRetrieval.of(parts), attar.load(out / "two_layers.attar", variant="fp32")
    assert (report["queries"], report["documents"]) == (len(task.queries), len(task.documents))
    recall = task(lambda texts, role: encoder.embed(texts, role=role).vectors)["recall_at_10"]
    at = points.index(("two_layers", "fp32", dim, 4 * dim))
    assert rows[at]["recall_at_10"] == pytest.approx(recall)
    assert np.isfinite([row["bytes"] for row in rows]).all()
