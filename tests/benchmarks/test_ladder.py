"""The rows of the ladder: intervals over queries and seeds, and rows that replace one another."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.ladder_rows import ONE_BIT, estimate, measures, merged
from benchmarks.ladder_tasks import Home, Task, ndcg

DRAW = np.random.default_rng(0)


def test_an_estimate_is_the_mean_of_seeds_inside_its_interval() -> None:
    runs = [DRAW.random(200), DRAW.random(200) + 0.1]
    row = estimate(runs, None, "mrr")
    assert row["value"] == pytest.approx(np.mean(runs), abs=1e-4)
    assert row["by_seed"] == pytest.approx([run.mean() for run in runs], abs=1e-4)
    assert row["low"] < row["value"] < row["high"]
    assert "of_teacher" not in row


def test_an_interval_is_wider_where_seeds_differ() -> None:
    same, other = DRAW.random(400), DRAW.random(400) + 0.5
    narrow, wide = (estimate([same, run], None, "mrr") for run in (same, other))
    assert wide["high"] - wide["low"] > 2 * (narrow["high"] - narrow["low"])


def test_the_ratio_to_the_teacher_is_of_the_same_queries() -> None:
    base = DRAW.random(300)
    row = estimate([1.5 * base], base, "recall_at_10")
    assert (row["of_teacher"], row["of_teacher_low"], row["of_teacher_high"]) == (1.5, 1.5, 1.5)
    assert row["low"] < row["high"]


def test_spearman_is_of_the_queries_and_not_a_mean() -> None:
    scores = np.arange(50.0)
    row = estimate([np.stack([scores**3, scores], axis=1)], None, "spearman")
    assert (row["value"], row["low"], row["high"]) == (1, 1, 1)


def test_ndcg_counts_what_is_relevant_by_its_rank() -> None:
    documents = np.eye(12, dtype=np.float32)
    queries = np.stack([12 - np.arange(12), np.arange(12)]).astype(np.float32)
    relevant = np.zeros((2, 12), np.bool_)
    relevant[0, [0, 2]] = True  # ranks 1 and 3
    relevant[1, 0] = True  # rank 12, which is beyond ten
    best = 1 + 1 / np.log2(3)
    assert ndcg(queries, documents, relevant) == pytest.approx([(1 + 1 / 2) / best, 0])


def test_figures_are_measured_at_each_width_and_of_one_bit() -> None:
    vectors = DRAW.standard_normal((20, 16)).astype(np.float32)
    task = Task(
        corpus="toy",
        queries=("",) * 20,
        documents=("",) * 20,
        measure=lambda queries, documents: {"length": np.linalg.norm(queries + documents, axis=1)},
    )
    figures = measures(task, vectors, vectors, widths=(4, 8, 32))
    assert {*figures} == {("", 16), ("", 4), ("", 8), (ONE_BIT, 16)}
    for by_metric in figures.values():  # of unit length at every width
        np.testing.assert_allclose(by_metric["length"], 2, rtol=1e-5)


def test_a_fresh_row_replaces_the_one_of_its_key_alone() -> None:
    keys = ("corpus", "encoder", "trained_on", "precision", "width", "metric")
    old = [dict(zip(keys, ("c", "e", None, "fp32", width, "m"), strict=True)) for width in (64, 8)]
    fresh = {**old[0], "value": 1}
    assert merged(old, [fresh]) == [old[1], fresh]


def test_what_is_trained_on_is_written_as_lines(tmp_path: Path) -> None:
    home = Home(name="toy", lines=({"text": "one"}, {"text": "two"}), tasks=())
    assert home.write(tmp_path / "x.jsonl").read_text("utf-8").count("\n") == 2
