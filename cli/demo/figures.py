"""The demo's figures: a table of encoders, one of detectors, and a plot."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.table import Table

ENCODERS = {
    "teacher": "all-MiniLM-L6-v2, the teacher",
    "adapted": "the teacher, adapted",
    "student": "student of two layers",
    "static": "static student",
}
DETECTORS = {"knn": "kNN", "mahalanobis": "Mahalanobis"}


def encoders(report: dict[str, Any]) -> Table:
    """Give a row for each encoder: how well it finds, how large and how fast it is."""
    table = Table(
        *("", "recall@1", "recall@10", "MRR", "variant", "MB", "texts/s"),
        box=None,
        title=f"{report['corpus']['held_out']} held-out summaries find their bodies among "
        f"{report['corpus']['searched']:,}",
    )
    for name, title in ENCODERS.items():
        row = report[name]
        table.add_row(
            title,
            *(f"{row[metric]:.3f}" for metric in ("recall_at_1", "recall_at_10", "mrr")),
            row["variant"],
            f"{row['bytes'] / 1e6:.1f}",
            f"{row['texts_per_second']:,.0f}",
        )
    table.caption = "texts a second of the processor's time, one thread, tokenised and embedded"
    return table


def detectors(report: dict[str, Any]) -> Table:
    """Give a row for each detector: AUROC, and what its thresholds flag."""
    anomaly = report["anomaly"]
    rates = [row["requested"] for row in anomaly["adapted"]["knn"]["thresholds"]]
    table = Table(
        *("detector", "encoder", "AUROC", *(f"at {rate:.0%}" for rate in rates)),
        box=None,
        title=f"{anomaly['foreign']} foreign documents among {anomaly['ordinary']} ordinary ones",
    )
    for model in ("adapted", "student"):
        for name, title in DETECTORS.items():
            row = anomaly[model][name]
            table.add_row(
                title,
                model,
                f"{row['auroc']:.3f}",
                *(
                    f"{threshold['false_alarms']:.1%}, {threshold['detected']:.1%}"
                    for threshold in row["thresholds"]
                ),
            )
    table.caption = "at a rate of false alarms: the rate that there was, and the share detected"
    return table


def plot(report: dict[str, Any], path: Path) -> None:
    """Draw quality against speed, a point for each encoder, the area its size in bytes."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")  # no pyplot: no screen is needed
    axes = figure.subplots()
    rows = {title: report[name] for name, title in ENCODERS.items()}
    largest = max(row["bytes"] for row in rows.values())
    for title, row in rows.items():
        point = (row["texts_per_second"], row["recall_at_10"])
        axes.scatter(*point, s=900 * row["bytes"] / largest, alpha=0.5)
        axes.annotate(
            f"{title}, {row['bytes'] / 1e6:.0f} MB",
            point,
            xytext=(0, 18),  # above the largest circle
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
    axes.set(
        xscale="log",
        xlabel="texts a second (one thread)",
        ylabel="recall@10 of held-out summaries",
        title="Quality against speed",
    )
    axes.margins(0.3, 0.35)
    figure.savefig(path, dpi=150)
