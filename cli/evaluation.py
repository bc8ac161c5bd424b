"""What `attar evaluate` prints: figures, and the tables of the suite."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from attar.training import evaluate, evaluate_suite

from .console import console

SLICES = 10  # of a kind that are printed, the worst ones


def show_figures(encoder: str, data: str, *, reading: Sequence[str]) -> None:
    """Print the figures of the probes, one a line."""
    for name, value in evaluate(encoder, data, reading=reading).items():
        console.print(f"{name} {value:.4f}")


def show_suite(
    encoder: str, data: str, *, reading: Sequence[str], groups: Path | None, out: Path | None
) -> None:
    """Judge an encoder by the suite, and print its tables; the whole is in `out`, if given."""
    facts = evaluate_suite(encoder, data, reading=reading, groups=groups, out=out)
    console.print(f"{facts['images']:,} images; each figure with its 95 % interval")
    if "accuracy" in facts:
        console.print(f"20-NN accuracy {_limits(facts['accuracy'])}")
        for kind, rows in facts["slices"].items():
            shown = ((row["name"], str(row["count"]), _limits(row)) for row in rows[:SLICES])
            _show(f"by {kind}, the worst first", (kind, "images", "accuracy"), shown)
        gaps = (
            (kind, row["worst"], row["best"], _limits(row)) for kind, row in facts["gaps"].items()
        )
        _show("gaps", ("slices", "worst", "best", "difference"), gaps)
    figure = "accuracy" if "accuracy" in facts else "cosine"
    severities = [str(row["severity"]) for row in next(iter(facts["corruptions"].values()))]
    corruptions = (
        (name, *(_limits(row[figure]) for row in rows))
        for name, rows in facts["corruptions"].items()
    )
    _show(f"{figure} on corrupted images, by severity", ("", *severities), corruptions)
    copies = (
        (kind, _limits(row["recall_at_1"]), _limits(row["mrr"]))
        for kind, row in facts["copies"].items()
    )
    _show("copies that find their original", ("copy", "recall@1", "MRR"), copies)
    if out is not None:
        console.print(f"{out} has every figure")


def _show(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = Table(*columns, box=None, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _limits(row: Mapping[str, Any]) -> str:
    return f"{row['mean']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
