"""The rungs of the demo: each encoder as a bundle, how well it finds, and how fast it is."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import attar
from attar.export.bundling import Exported
from attar.export.exporting import parity_texts, through_runtime
from attar.export.text import export_text
from attar.training.data.pairs import Split
from attar.training.pretrained import load_text_checkpoint
from attar.training.probes.summaries import SummaryRetrieval

METRICS = ("recall_at_1", "recall_at_10", "mrr")
ROUNDS = 5

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rung:
    """An encoder as a bundle, the variant of it that is compared, and how well that one finds."""

    exported: Exported
    variant: str
    quality: Mapping[str, float]

    @property
    def path(self) -> Path:
        """Where the bundle is."""
        return self.exported.bundle.path

    @property
    def variants(self) -> Figures:
        """The figures of each variant that passed its gates."""
        measured: Any = self.exported.bundle.report["variants"]
        return {name: row for name, row in measured.items() if row["written"]}


def imported(exported: Exported, splits: Split) -> Rung:
    """Give an imported encoder; the import did not measure retrieval, so this does."""
    probe = through_runtime(SummaryRetrieval.of(splits))
    return Rung(exported, "fp32", probe(attar.load(exported.bundle.path, variant="fp32")))


def export(folder: Path, splits: Split, *, variant: str) -> Rung:
    """Write an encoder's folder to a bundle of the same name, each variant behind its gates.

    Where `variant` does not pass, the reference is compared instead.
    """
    exported = export_text(
        folder.with_suffix(".attar"),
        load_text_checkpoint(folder),
        name=folder.name,
        texts=parity_texts(splits),
        probe=through_runtime(SummaryRetrieval.of(splits)),
        metric="recall_at_10",
        variants=() if variant == "fp32" else (variant,),
        overwrite=True,
    )
    compared = "fp32" if variant in exported.refused else variant
    return Rung(exported, compared, exported.measured[compared].probe)


def rows(rungs: Mapping[str, Rung], texts: Sequence[str]) -> dict[str, Figures]:
    """Give a row of the report for each rung; speed is measured on `texts`."""
    speed = texts_per_second(rungs, texts)
    return {
        name: {
            **{metric: rung.quality[metric] for metric in METRICS},
            "bytes": rung.variants[rung.variant]["bytes"],
            "texts_per_second": round(speed[name], 1),
            "variant": rung.variant,
        }
        for name, rung in rungs.items()
    }


def variant_rows(rung: Rung) -> dict[str, Figures]:
    """Give a row of the report for each variant of a rung's bundle."""
    return {
        name: {
            **{metric: row["probe"][metric] for metric in METRICS},
            "cosine_mean": row["cosine_mean"],
            "cosine_worst": row["cosine_worst"],
            "bytes": row["bytes"],
            "p50_ms": row["latency"]["p50_ms"],
        }
        for name, row in rung.variants.items()
    }


def texts_per_second(rungs: Mapping[str, Rung], texts: Sequence[str]) -> dict[str, float]:
    """Measure the encoders on the same texts, one thread each, from text to embedding.

    Seconds are the processor's, of all threads together, so that other work on the machine does not
    stretch them. Rounds alternate, and each figure is a median.
    """
    encoders = {
        name: attar.load(rung.path, variant=rung.variant, threads=1) for name, rung in rungs.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in encoders}
    for _ in range(ROUNDS):
        for name, encoder in encoders.items():
            began = time.process_time()
            encoder.embed(texts)
            seconds[name].append(time.process_time() - began)
    return {name: len(texts) / float(np.median(times)) for name, times in seconds.items()}
