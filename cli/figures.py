"""The demo's figures: one table, one plot."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.table import Table

ROWS = {
    "teacher": "all-MiniLM-L6-v2, the teacher",
    "pretrained": "student, pretrained only",
    "distilled": "student, distilled only",
    "pretrained_distilled": "student, pretrained then distilled",
}


def table(report: dict[str, Any]) -> Table:
    """Give a row an encoder and a row a variant of the student."""
    result = Table(
        "",
        "recall@1",
        "recall@10",
        "parameters",
        "MB",
        "p50 ms",
        box=None,
        title="held-out summaries",
    )
    for key, title in ROWS.items():
        row = report[key]
        result.add_row(
            title,
            f"{row['recall_at_1']:.3f}",
            f"{row['recall_at_10']:.3f}",
            f"{row['parameters'] / 1e6:.1f} M",
            "",
            "",
        )
    result.add_section()
    for name, row in report["variants"].items():
        result.add_row(
            f"student as {name}",
            f"{row['recall_at_1']:.3f}",
            f"{row['recall_at_10']:.3f}",
            "",
            f"{row['bytes'] / 1e6:.1f}",
            f"{row['p50_ms']:.2f}",
        )
    for name in report["refused"]:
        result.add_row(f"student as {name}", "not written", "", "", "", "")
    result.caption = (
        f"{report['throughput']['ratio']:.1f} times the teacher's throughput (fp32, 1 thread); "
        f"anomaly AUROC {report['anomaly']['auroc']:.3f}; "
        f"package accuracy {report['classify']['accuracy']:.3f}"
    )
    return result


def plot(report: dict[str, Any], path: Path) -> None:
    """Draw quality against latency, a point a variant, the area its size in bytes."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")  # no pyplot: no screen is needed
    axes = figure.subplots()
    largest = max(row["bytes"] for row in report["variants"].values())
    for name, row in report["variants"].items():
        axes.scatter(row["p50_ms"], row["recall_at_10"], s=900 * row["bytes"] / largest, alpha=0.5)
        axes.annotate(
            f"{name}, {row['bytes'] / 1e6:.0f} MB",
            (row["p50_ms"], row["recall_at_10"]),
            xytext=(0, 18),  # above the largest circle
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
    axes.axhline(report["teacher"]["recall_at_10"], color="grey", linestyle="--", linewidth=1)
    axes.annotate(
        "teacher",
        (0.01, report["teacher"]["recall_at_10"]),
        xycoords=("axes fraction", "data"),
        va="bottom",
    )
    axes.set(
        xlabel="median latency, ms (one text, 1 thread)",
        ylabel="recall@10 of held-out summaries",
        title="Quality against latency of the student's variants",
    )
    axes.margins(0.25, 0.35)
    figure.savefig(path, dpi=150)
