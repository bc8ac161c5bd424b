"""`attar distill --ladder`: the table and the plot of students of every size."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.table import Table

from attar.errors import InvalidInput
from attar.export.rungs import ladder

from .console import console

Row = dict[str, Any]


def run(teacher: Path, out: Path, single: Mapping[str, object], **options: Any) -> None:
    """Distil every student, and show the table; the rows and their plot are in `out`.

    Raises InvalidInput where an option of one student, in `single` by name, is given.
    """
    for name, value in single.items():
        if value not in (None, "layers"):
            flag = f"--{name.replace('_', '-')}"
            raise InvalidInput(f"--ladder makes students of every size; leave {flag} out")
    path = ladder(teacher, out, **options)
    report = json.loads(path.read_text("utf-8"))
    console.print(table(report))
    plot(report, path.with_suffix(".png"))
    console.print(f"{path} has every row, and {path.with_suffix('.png')} is their plot")


def table(report: Row) -> Table:
    """Give a row an encoder and variant, with its recall at each width and of one bit."""
    widths = sorted({row["width"] for row in report["rows"]})
    result = Table(
        "",
        "variant",
        *(f"{width} wide" for width in widths),
        "1 bit",
        "p50 ms",
        "MB",
        "s of training",
        box=None,
        title=f"recall@10 of {report['queries']:,} held-out queries",
    )
    for column in result.columns[2:]:
        column.justify = "right"
    for (name, variant), own in _by_variant(report).items():
        floats = {row["width"]: row for row in own if not _is_one_bit(row)}
        bits = [f"{row['recall_at_10']:.3f}" for row in own if _is_one_bit(row)]
        result.add_row(
            name,
            variant,
            *(f"{floats[w]['recall_at_10']:.3f}" if w in floats else "" for w in widths),
            *(bits or [""]),
            f"{own[0]['p50_ms']:.2f}",
            f"{own[0]['bytes'] / 1e6:.1f}",
            f"{own[0]['train_seconds']:.0f}" if "train_seconds" in own[0] else "",
        )
    return result


def plot(report: Row, path: Path) -> None:
    """Draw recall against latency, a line an encoder and variant; its points are the widths."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for (name, variant), own in _by_variant(report).items():
        times = [row["p50_ms"] for row in own]
        recalls = [row["recall_at_10"] for row in own]
        axes.plot(times, recalls, marker="o", label=f"{name}, {variant}")
        for row in own:
            label = "1 bit" if _is_one_bit(row) else str(row["width"])
            point = row["p50_ms"], row["recall_at_10"]
            axes.annotate(label, point, xytext=(5, -3), textcoords="offset points", fontsize=7)
    axes.set(
        xscale="log",
        xlabel="median latency of a query, ms (1 thread)",
        ylabel="recall@10 of held-out queries",
        title="Recall against latency; at each point the width of the vectors",
    )
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=150)


def _by_variant(report: Row) -> dict[tuple[str, str], list[Row]]:
    """Give the rows of each encoder and variant, in their order."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in report["rows"]:
        groups.setdefault((row["encoder"], row["variant"]), []).append(row)
    return groups


def _is_one_bit(row: Row) -> bool:
    return bool(row["vector_bytes"] < row["width"])
