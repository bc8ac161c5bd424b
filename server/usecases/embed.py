"""Embed: items in, one encoded row and one status per item out; a bad item fails alone."""

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from attar.encodings import Encoding, Vectors
from attar.errors import AttarError, BackendError, InvalidInput
from attar.inputs import Items, Prepared, Priority, Role, Truncation
from attar.runtime import Encoder

from ..cooperative import off_the_loop
from ..engine.models import Model, Models, Row
from ..limits.fair_shares import room
from ..request_context import Phase, current

__all__ = ["Embedded", "Form", "Item", "Items", "Priority", "Role", "Truncation", "embed"]

Form: TypeAlias = Literal["bytes", "base64", "json"]
"""How numbers are written in an answer."""

_JSON_NUMBER_BYTES: Final = 24  # a sign, a point, 17 digits, an exponent, a comma

STATUS_BYTES: Final = 64  # of an item in an answer


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
        _raise_first(item.error for item in self.items)


async def embed(
    models: Models,
    *,
    items: Items,
    model: str = "",
    version: str = "",
    role: Role = "passage",
    dims: int | None = None,
    encoding: Encoding = "f32",
    truncation: Truncation = "truncate",
    priority: Priority = "interactive",
    deadline: float | None = None,
    wait: bool = False,
    all_or_nothing: bool = False,
    form: Form | None = None,
) -> Embedded:
    """Embed items with a model (the only one when `model` is empty) by `deadline` (loop time, s).

    Items are texts, the tokenizer's own token ids or arrays. Without a `version` it is the model's
    newest. `dims` is a width the model declares, `encoding` how a row is stored. Items of `bulk`
    priority let interactive ones pass for a while. Without `wait` a queue that lacks room refuses
    the call with `Overloaded`; with it the call waits for room. Raises what is wrong with the call;
    what is wrong with one item stands in its `Item`, or with `all_or_nothing` fails the call,
    before any item is run where the host's step can tell. `form` is how the caller's protocol
    writes the rows, of which `max_answer_bytes` takes so many; without one no answer has them.
    """
    chosen = models.get(model, version)
    chosen.encoder.manifest.require_encoder("this call")
    return await run(
        chosen,
        items=items,
        role=role,
        dims=dims,
        encoding=encoding,
        truncation=truncation,
        priority=priority,
        deadline=deadline,
        wait=wait,
        all_or_nothing=all_or_nothing,
        form=form,
    )


async def run(
    chosen: Model,
    *,
    items: Items,
    role: Role = "passage",
    dims: int | None = None,
    encoding: Encoding = "f32",
    truncation: Truncation = "truncate",
    priority: Priority = "interactive",
    deadline: float | None = None,
    wait: bool = False,
    all_or_nothing: bool = False,
    form: Form | None = None,
) -> Embedded:
    """Run items through a model; of a cross-encoder they are pairs, and a row is one logit.

    The arguments and errors are those of `embed`.
    """
    with chosen.held() as tally:
        encoder = chosen.encoder
        nothing = np.empty((0, encoder.dim), np.float32)
        # Refuses bad ones before any work.
        written = encoder.finish(nothing, dims=dims, encoding=encoding)
        size = _written_bytes(len(items), written, form or "bytes")
        if form is not None:
            refuse_large_response(size, limit=chosen.max_answer_bytes)
        call = current()
        if not wait:
            chosen.refuse_if_full()
        call.foresee(len(items))
        await room().take(size + len(items) * STATUS_BYTES)
        start = time.perf_counter()
        prepared = await chosen.prepare(items, role=role, truncation=truncation)
        queued = time.perf_counter()
        call.begin(len(items), prepared.tokens)
        if all_or_nothing:  # what was prepared is counted, though nothing is run
            _raise_first(
                outcome if isinstance(outcome, InvalidInput) else None for outcome in prepared.each
            )
        rows = (
            await chosen.rows(prepared.good, deadline=deadline, wait=wait, priority=priority)
            if prepared.good
            else []
        )
        finish = partial(_finish, encoder, prepared.each, rows, dims=dims, encoding=encoding)
        encoded, statuses, runs = await off_the_loop(4 * len(items) * encoder.dim, finish)
        ran = max([queued, *runs])  # a shared run may be older
        call.spent(
            prepared.good_tokens,
            Phase("tokenize", start, queued),
            Phase("queue", queued, ran),
            *(Phase("infer", began, began + seconds) for began, seconds in runs.items()),
        )
        embedded = Embedded(
            vectors=encoded,
            items=statuses,
            model=chosen,
            dims=dims or encoder.dim,
            encoding=encoding,
            queue_s=ran - queued,
            tokenize_s=queued - start,
            infer_s=sum(runs.values()),
        )
        if all_or_nothing:
            embedded.require_all()
        tally.succeeded(
            time.perf_counter() - start,
            queue_s=embedded.queue_s,
            tokenize_s=embedded.tokenize_s,
            infer_s=embedded.infer_s,
        )
        return embedded


def refuse_large_response(size: int, *, limit: int) -> None:
    """Raise InvalidInput for an answer of more bytes than `limit`, before it is worked on."""
    if size > limit:
        raise InvalidInput(
            f"the answer would have {size} bytes, more than max_answer_bytes, {limit}; send fewer "
            "items a request, or take fewer dimensions or a smaller encoding"
        )


def _written_bytes(rows: int, nothing: NDArray[Any], form: Form) -> int:
    """How many bytes rows like those of `nothing`, (0, d), are written as."""
    width: int = nothing.shape[1]
    row = width * int(nothing.itemsize)
    match form:
        case "bytes":
            return rows * row
        case "base64":
            return rows * 4 * math.ceil(row / 3)
        case "json":
            return rows * width * _JSON_NUMBER_BYTES


def _raise_first(errors: Iterable[AttarError | None]) -> None:
    for error in errors:
        if error is not None:
            raise error


def _finish(
    encoder: Encoder,
    prepared: Sequence[Prepared | InvalidInput],
    rows: Sequence[Row | AttarError],  # of those that are prepared, in their order
    *,
    dims: int | None,
    encoding: Encoding,
) -> tuple[NDArray[Any], tuple[Item, ...], dict[float, float]]:
    """Encode the rows, zeros where there is none, and say how each item fared.

    Gives the seconds of each run, too, by when it began.
    """
    outcomes = by_item(prepared, rows)
    vectors: Vectors = np.zeros((len(outcomes), encoder.dim), np.float32)
    errors = [outcome if isinstance(outcome, AttarError) else None for outcome in outcomes]
    for i, outcome in enumerate(outcomes):
        if isinstance(outcome, Row):
            vectors[i] = outcome.vector
    finite = np.isfinite(vectors)
    for i in [] if finite.all() else np.flatnonzero(~finite.all(axis=1)).tolist():
        vectors[i] = 0
        errors[i] = infinite(i, encoder)
    encoded = encoder.finish(vectors, dims=dims, encoding=encoding)
    encoded[[i for i, error in enumerate(errors) if error is not None]] = 0
    return encoded, statuses(prepared, errors), seconds_of_runs(rows)


def by_item(
    prepared: Sequence[Prepared | InvalidInput], rows: Sequence[Row | AttarError]
) -> list[Row | AttarError]:
    """Put the rows where the items are that were prepared."""
    following = iter(rows)
    return [next(following) if isinstance(one, Prepared) else one for one in prepared]


def statuses(
    prepared: Sequence[Prepared | InvalidInput], errors: Sequence[AttarError | None]
) -> tuple[Item, ...]:
    """Say how each item fared."""
    return tuple(
        Item(error, outcome.tokens, outcome.truncated)
        if isinstance(outcome, Prepared)
        else Item(error, 0, truncated=False)
        for outcome, error in zip(prepared, errors, strict=True)
    )


def seconds_of_runs(rows: Sequence[Row | AttarError]) -> dict[float, float]:
    """Give how long each run took, by when it began."""
    return {row.began: row.infer_s for row in rows if isinstance(row, Row)}


def infinite(item: int, encoder: Encoder) -> BackendError:
    """Say that an item's vectors are not finite."""
    return BackendError(
        f"item {item} became NaN or infinity in variant {encoder.variant.name}; its values"
        " are out of the encoder's range, or this is a bug in the bundle"
    )
