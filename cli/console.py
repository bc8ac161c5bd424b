"""The console: what a bundle says of itself, and what training and export log."""

import logging
from pathlib import Path

from rich.console import Console
from rich.table import Table

from attar.bundle import Bundle

console = Console(highlight=False, markup=False, soft_wrap=True)


def show_bundle(path: Path, *, require_signature: Path | None = None) -> None:
    """Verify a bundle, and its signature by a file of keys; print its facts and a row a variant."""
    bundle = Bundle.open(path, require_signature=require_signature)
    manifest = bundle.manifest
    longest = f"up to {manifest.max_length} tokens" if manifest.max_length else "tensors"
    console.print(f"{manifest.name} {manifest.version}: {manifest.modality}, {longest}")
    gives = "one score" if manifest.scores_pairs else f"{manifest.output.dim} dimensions"
    console.print(f"{gives}, {manifest.fingerprint}")
    if (tokens := manifest.tokens) is not None:
        where = f"a grid of {tokens.grid[0]} x {tokens.grid[1]}" if tokens.grid else "a text"
        console.print(f"token vectors of {tokens.dim} dimensions, those of {where}")
    for entry in manifest.compatible_with:
        figures = f"mean cosine {entry.cosine:.4f}, recall@10 {entry.recall_at_10:.3f}"
        console.print(f"its queries may search {entry.fingerprint}: {figures}")
    if require_signature is not None:
        console.print(f"signed by key {bundle.signed_by}, of {require_signature}")
    names = {"cosine_mean": "cosine mean", "cosine_worst": "worst"}
    if manifest.scores_pairs:
        names = {"difference_worst": "worst difference"}
    measures = names.values()
    table = Table(*("variant", "precision", "attention", "MB", *measures, "p50 ms"), box=None)
    for variant in manifest.variants:
        parity = variant.parity
        table.add_row(
            variant.name,
            variant.precision,
            variant.attention or "",
            f"{manifest.file(variant.file).bytes / 1e6:.1f}",
            *(f"{parity[name]:.6f}" if name in parity else "" for name in names),
            f"{variant.latency.p50_ms:.2f}" if variant.latency else "",
        )
    console.print(table)


def printable(text: str) -> str:
    """Put a space for what a terminal would obey, such as the escape sequences of a payload."""
    return "".join(character if character.isprintable() else " " for character in text)


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """Print a record's message; names of files need not be UTF-8."""
        console.print(record.getMessage().encode("utf-8", "backslashreplace").decode())


def show_log() -> None:
    """Print what training and export log."""
    for name in ("attar.training", "attar.export"):
        log = logging.getLogger(name)
        log.setLevel(logging.INFO)
        log.handlers = [_Lines()]
        log.propagate = False
