"""`attar bench`: the timings as a table, JSON and a plot, and the variant that a budget picks."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from attar.bench import Budget, bench
from attar.errors import InvalidInput

from .console import console


def run(
    path: Path,
    out: Path,
    *,
    variants: Sequence[str],
    lengths: Sequence[int],
    batches: Sequence[int],
    threads: Sequence[int],
    seconds: float,
    budget: str | None,
) -> bool:
    """Time, show, write `out` and a plot next to it; give whether a variant fits the budget."""
    limits = None if budget is None else Budget.parse(budget)
    if out.suffix != ".json" or not out.parent.is_dir():
        raise InvalidInput(f"--out must be a .json file in a folder that exists; got {out}")
    with console.status("every variant runs, in a process of its own"):
        report = bench(
            path,
            variants=variants,
            lengths=lengths,
            batches=batches,
            threads=threads,
            seconds=seconds,
            budget=limits,
        )
    out.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    console.print(_table(report))
    for name, why in report["skipped"].items():
        console.print(f"{name} was not timed to the end: {why}", style="yellow")
    console.print(f"{out} is written; {_plotted(report, out.with_suffix('.png'))}")
    return limits is None or _show_choice(report["choice"])


def _table(report: dict[str, Any]) -> Table:
    names = ("variant", "threads", "batch", "length", "p50_ms", "p95_ms", "p99_ms", "peak_mb")
    table = Table(*names, "items/s", box=None, title=f"{report['bundle']} on {_where(report)}")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in report["rows"]:
        cells = ("" if row[name] is None else str(row[name]) for name in names)
        table.add_row(*cells, f"{row['batch'] / row['p50_ms'] * 1e3:,.0f}")
    return table


def _where(report: dict[str, Any]) -> str:
    host = report["host"]
    return f"{host['cpu']}, {host['cores']} cores, ONNX Runtime {host['onnxruntime']}"


def _show_choice(choice: dict[str, Any]) -> bool:
    for name, why in choice["why"].items():
        console.print(f"{name}: {why}")
    picked = choice["variant"]
    if picked is None:
        console.print("no variant fits the budget", style="yellow")
        return False
    console.print(f"the budget picks {picked}: the best in quality of those that fit")
    return True


def _plotted(report: dict[str, Any], path: Path) -> str:
    """Draw latency against length, or against batch where there is one length; say what was done.

    A device need not have matplotlib: then there is no plot, and it says so.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return "no plot, for matplotlib is not installed: pip install matplotlib"
    rows = report["rows"]
    by = "length" if len({row["length"] for row in rows}) > 1 else "batch"
    other = "batch" if by == "length" else "length"
    figure = Figure(figsize=(7, 4.5), layout="constrained")  # no pyplot: no screen is needed
    axes = figure.subplots()
    lines: dict[tuple[str, int, Any], list[tuple[int, float]]] = {}
    for row in rows:
        line = (row["variant"], row["threads"], row[other])
        lines.setdefault(line, []).append((row[by], row["p50_ms"]))
    for (variant, threads, fixed), points in lines.items():
        label = f"{variant}, {threads} threads" + (f", {other} {fixed}" if fixed else "")
        axes.plot(*zip(*points, strict=True), marker="o", label=label)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel=by,
        ylabel="median latency of a batch, ms",
        title=f"{report['bundle']} on {report['host']['cpu']}",
    )
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=150)
    return f"{path} is its plot"
