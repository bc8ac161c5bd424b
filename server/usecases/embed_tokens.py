"""Embed tokens: items in, the vectors of each one's tokens out; a bad item fails alone."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attar.encodings import Encoding, Vectors
from attar.errors import AttarError, InvalidInput
from attar.inputs import Items, Prepared, Priority, Role, Truncation
from attar.runtime import Encoder
from attar.token_vectors import Grid, Pooling, check_pooling

from ..cooperative import off_the_loop
from ..engine.models import Model, Models, Row
from ..limits.fair_shares import room
from ..request_context import Phase, current
from .embed import STATUS_BYTES, Item, by_item, infinite, seconds_of_runs, statuses


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedTokens:
    """The token vectors of all items, in their order, and what the model did to get there."""

    vectors: NDArray[Any]  # (sum of lengths, token_dim) in the encoding's dtype
    lengths: list[int]  # of each item; 0 where it failed
    grid: Grid | None
    items: tuple[Item, ...]
    model: Model
    encoding: Encoding
    queue_s: float  # the longest wait of an item
    tokenize_s: float
    infer_s: float  # the sum over the runs its items were in


async def embed_tokens(
    models: Models,
    *,
    items: Items,
    model: str = "",
    version: str = "",
    role: Role = "passage",
    pooling: Pooling = "none",
    grid: Grid | None = None,
    encoding: Encoding = "f32",
    truncation: Truncation = "truncate",
    priority: Priority = "interactive",
    deadline: float | None = None,
) -> EmbeddedTokens:
    """Embed the tokens of items with a model by `deadline` (loop time, s).

    `pooling` and `grid` are those of `Encoder.embed_tokens`, the rest is as `embed` takes it. The
    vectors are made in float32, in which they are held to `max_answer_bytes` before any item is
    run. Raises NotSupported for a model without token vectors, and what else is wrong with the
    call; what is wrong with one item stands in its `Item`.
    """
    chosen = models.get(model, version)
    with chosen.held() as tally:
        encoder = chosen.encoder
        _, (rows, columns) = check_pooling(encoder.manifest, pooling, grid)
        encoder.finish_tokens(np.zeros((1, encoder.token_dim), np.float32), encoding=encoding)
        chosen.refuse_if_full()
        call = current()
        call.foresee(len(items))
        start = time.perf_counter()
        prepared = await chosen.prepare(items, role=role, truncation=truncation)
        queued = time.perf_counter()
        call.begin(len(items), prepared.tokens)
        count = rows * columns * len(prepared.good) or prepared.good_tokens
        size = 4 * count * encoder.token_dim
        _refuse_large(size, count, limit=chosen.max_answer_bytes)
        await room().take(size + len(items) * STATUS_BYTES)
        outcomes = (
            await chosen.tokens(
                prepared.good, pooling=pooling, grid=grid, deadline=deadline, priority=priority
            )
            if prepared.good
            else []
        )
        finish = partial(_finish, encoder, prepared.each, outcomes, encoding=encoding)
        vectors, lengths, fared = await off_the_loop(size, finish)
        runs = seconds_of_runs(outcomes)
        ran = max([queued, *runs])  # a shared run may be older
        call.spent(
            prepared.good_tokens,
            Phase("tokenize", start, queued),
            Phase("queue", queued, ran),
            *(Phase("infer", began, began + seconds) for began, seconds in runs.items()),
        )
        embedded = EmbeddedTokens(
            vectors=vectors,
            lengths=lengths,
            grid=(rows, columns) if rows else None,
            items=fared,
            model=chosen,
            encoding=encoding,
            queue_s=ran - queued,
            tokenize_s=queued - start,
            infer_s=sum(runs.values()),
        )
        tally.succeeded(
            time.perf_counter() - start,
            queue_s=embedded.queue_s,
            tokenize_s=embedded.tokenize_s,
            infer_s=embedded.infer_s,
        )
        return embedded


def _refuse_large(size: int, count: int, *, limit: int) -> None:
    if size > limit:
        raise InvalidInput(
            f"the answer would have {count} token vectors, {size} bytes in float32, more than "
            f"max_answer_bytes, {limit}; send fewer items a request, or pool images to a coarser "
            "grid"
        )


def _finish(
    encoder: Encoder,
    prepared: Sequence[Prepared | InvalidInput],
    rows: Sequence[Row | AttarError],
    *,
    encoding: Encoding,
) -> tuple[NDArray[Any], list[int], tuple[Item, ...]]:
    """Encode the vectors of the items that did not fail; give how many each has, and its fate."""
    none: Vectors = np.empty((0, encoder.token_dim), np.float32)
    parts, errors = list[Vectors](), list[AttarError | None]()
    for i, outcome in enumerate(by_item(prepared, rows)):
        error = outcome if isinstance(outcome, AttarError) else None
        part = outcome.vector if isinstance(outcome, Row) else none
        if not np.isfinite(part).all():
            part, error = none, infinite(i, encoder)
        parts.append(part)
        errors.append(error)
    encoded = encoder.finish_tokens(np.concatenate([none, *parts]), encoding=encoding)
    return encoded, [len(part) for part in parts], statuses(prepared, errors)
