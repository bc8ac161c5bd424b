"""Embed: items in, one encoded row and one status per item out; a bad item fails alone."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attar.encodings import Encoding, Vectors
from attar.errors import AttarError, BackendError
from attar.inputs import Items, Prepared, Role, Truncation
from attar.server.engine.models import Model, Models, Row

__all__ = ["Embedded", "Item", "Items", "Role", "Truncation", "embed"]


@dataclass(frozen=True, slots=True)
class Item:
    """How one item fared: where `error` is None its row is an embedding."""

    error: AttarError | None
    tokens: int
    truncated: bool


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """One row per item, zeros where it failed, and what the model did to get there."""

    vectors: NDArray[Any]  # (n, dims) in the encoding's dtype; (n, dims / 8) uint8 for binary
    items: tuple[Item, ...]
    model: Model
    dims: int
    encoding: Encoding
    queue_s: float  # the longest wait of an item
    tokenize_s: float
    infer_s: float  # the sum over the runs its items were in

    @property
    def good(self) -> list[int]:
        """The positions of the items that did not fail."""
        return [i for i, item in enumerate(self.items) if item.error is None]

    def require_all(self) -> None:
        """Raise the first item's error: for uses in which no item may be missing."""
        for item in self.items:
            if item.error is not None:
                raise item.error


async def embed(
    models: Models,
    *,
    items: Items,
    model: str = "",
    role: Role = "passage",
    dims: int | None = None,
    encoding: Encoding = "f32",
    truncation: Truncation = "truncate",
    deadline: float | None = None,
    wait: bool = False,
) -> Embedded:
    """Embed items with a model (the only one when `model` is empty) by `deadline` (loop time, s).

    `dims` is a width the model declares, `encoding` how a row is stored. Without `wait` a queue
    that lacks room refuses the call with `Overloaded`; with it the call waits for room. Raises
    what is wrong with the call; what is wrong with one item stands in its `Item`.
    """
    chosen = models[model]
    encoder = chosen.encoder
    encoder.finish(np.empty((0, encoder.dim), np.float32), dims=dims, encoding=encoding)  # checks
    start = time.perf_counter()
    prepared = await chosen.prepare(items, role=role, truncation=truncation)
    queued = time.perf_counter()
    runnable = [one for one in prepared if isinstance(one, Prepared)]
    answers = iter(await chosen.rows(runnable, deadline=deadline, wait=wait) if runnable else [])
    outcomes = [next(answers) if isinstance(one, Prepared) else one for one in prepared]

    vectors: Vectors = np.zeros((len(outcomes), encoder.dim), np.float32)
    statuses = []
    for i, (one, outcome) in enumerate(zip(prepared, outcomes, strict=True)):
        error = outcome if isinstance(outcome, AttarError) else None
        if isinstance(outcome, Row):
            if np.isfinite(outcome.vector).all():
                vectors[i] = outcome.vector
            else:
                error = BackendError(
                    f"item {i} became NaN or infinity in variant {encoder.variant.name}; its values"
                    " are out of the encoder's range, or this is a bug in the bundle"
                )
        known = one if isinstance(one, Prepared) else None
        statuses.append(
            Item(error, known.tokens, known.truncated) if known else Item(error, 0, truncated=False)
        )
    encoded = encoder.finish(vectors, dims=dims, encoding=encoding)
    encoded[[i for i, item in enumerate(statuses) if item.error is not None]] = 0
    rows = [outcome for outcome in outcomes if isinstance(outcome, Row)]
    return Embedded(
        vectors=encoded,
        items=tuple(statuses),
        model=chosen,
        dims=dims or encoder.dim,
        encoding=encoding,
        queue_s=max((row.began - queued for row in rows), default=0.0),
        tokenize_s=queued - start,
        infer_s=sum({row.began: row.infer_s for row in rows}.values()),
    )
