"""Resizing: a recipe's settings and probe, fitted to a run of so many steps on so many rows."""

from dataclasses import replace
from typing import Any

from .text_data import TextData

PROBED = 1000  # documents of a probe while training


def quick(texts: TextData) -> TextData:
    """Probe among fewer documents, so that a probe on the way costs seconds."""
    documents = texts.probe.documents[: max(PROBED, len(texts.probe.queries))]
    return replace(texts, probe=replace(texts.probe, documents=documents))


def resized(settings: Any, *, steps: int | None, seed: int, items: int | None = None) -> Any:
    """Fit a recipe's settings to a run of `steps` on `items` rows.

    A run too short for its warm-up warms up for half of it; a batch has no more than all rows.
    """
    steps = settings.steps if steps is None else steps
    batch = settings.batch_size if items is None else min(settings.batch_size, items)
    warmup = min(settings.warmup, steps // 2)
    return replace(settings, seed=seed, steps=steps, warmup=warmup, batch_size=batch)
