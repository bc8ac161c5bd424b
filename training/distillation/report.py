"""The report of a distillation: student and teacher compared, and how near they are."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..adaptation.general_text import GeneralText
from ..adaptation.report import REPORT, home, ranks_of
from ..probes.agreement import Agreement
from ..run_data import report

__all__ = ["ranks_of", "write"]


def write(
    out: Path,
    *,
    teacher: NDArray[np.int64],
    student: NDArray[np.int64],
    steps: int,
    best_step: int | None = None,
    general: tuple[GeneralText, Agreement] | None = None,
) -> None:
    """Write report.json into the run's folder, and show it.

    `teacher` and `student` are the ranks of each held-out query's document. `best_step` is where
    validation was best, of a run whose weights it chooses. `general` has the agreement with the
    teacher, of a student in its space.
    """
    figures = {
        name: {"teacher": row["before"], "student": row["after"], "difference": row["gain"]}
        for name, row in home(teacher, student).items()
    }
    facts: dict[str, Any] = {"queries": len(student), **figures, "steps": steps}
    if best_step is not None:
        facts["best_step"] = best_step
    if general is not None:
        texts, agreement = general
        facts["general"] = {"texts": texts.source, "count": len(texts.rows), **asdict(agreement)}
    (out / REPORT).write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
    report(*_lines(figures, facts))


def _lines(figures: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[str]:
    for name, row in figures.items():
        teacher, student, difference = (row[key] for key in ("teacher", "student", "difference"))
        yield (
            f"{name} of held-out queries: teacher {teacher['value']:.3f}, student "
            f"{student['value']:.3f}; difference {difference['value']:+.3f} "
            f"({difference['low']:+.3f} to {difference['high']:+.3f})"
        )
    if general := facts.get("general"):
        yield (
            f"on {general['count']} general texts ({general['texts']}) the student agrees with its "
            f"teacher: mean cosine {general['cosine']:.3f}, Spearman {general['spearman']:.3f}"
        )
    if "best_step" in facts:
        yield (
            f"the weights are those of step {facts['best_step']} of {facts['steps']}, the best on "
            "validation"
        )
