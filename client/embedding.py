"""Calls of the service Embedding."""

import functools
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

import numpy as np

from attar import wire
from attar.encodings import Encoding
from attar.errors import AttarError, InvalidInput
from attar.inputs import Priority, Role, Truncation, is_token_ids, listed
from attar.token_vectors import Grid, Pooling
from attar.v1 import embedding_pb2, item_pb2
from attar.values import Embedded, EmbeddedTokens

from .call import (
    DEADLINE_S,
    Call,
    Items,
    TokenIds,
    enum_number,
    error_from,
    item_errors,
    items_fields,
    make_call,
    seconds,
    truncated_flags,
)

Batches: TypeAlias = Iterable[Items | TokenIds] | AsyncIterable[Items | TokenIds]

STREAM: Final = "/attar.v1.Embedding/EmbedStream"


def embed(
    items: Items | TokenIds,
    *,
    model: str = "",
    version: str = "",
    role: Role = "passage",
    dims: int | None = None,
    encoding: Encoding = "f32",
    truncation: Truncation = "truncate",
    priority: Priority = "interactive",
    partial: bool = False,
    deadline_s: float = DEADLINE_S,
) -> Call[Embedded]:
    """The embeddings of a batch, (items, dims), in the order of its items.

    `role` is "passage", "query" or another name of the model's prompts, and `dims` one of its
    widths, by default the whole. `encoding` is how a number is stored: "f32", "f16", "int8" or one
    bit ("binary"). Items may be token ids, lists of numbers, where they can be the output of the
    model's tokenizer or the server is set to take any. With `priority` "bulk" they let interactive
    ones pass.
    """
    request = embed_request(
        items,
        model=model,
        version=version,
        role=role,
        dims=dims,
        encoding=encoding,
        truncation=truncation,
        priority=priority,
    )

    def decode(response: embedding_pb2.EmbedResponse) -> Embedded:
        return embedded(response, partial=partial)

    return make_call("Embedding/Embed", request, embedding_pb2.EmbedResponse, decode, deadline_s)


def embed_tokens(
    items: Items | TokenIds,
    *,
    model: str = "",
    version: str = "",
    role: Role = "passage",
    pooling: Pooling = "none",
    grid: Grid | None = None,
    encoding: Encoding = "f32",
    truncation: Truncation = "truncate",
    priority: Priority = "interactive",
    partial: bool = False,
    deadline_s: float = DEADLINE_S,
) -> Call[EmbeddedTokens]:
    """The vectors of each item's tokens, of unit length: an image's patches or a text's tokens.

    With `pooling` "grid" an image has the means of the cells of `grid`, (rows, columns); those that
    a model's tokens lie in are in `info`. `encoding` and `priority` are those of `embed`. Raises
    NotSupported for a model without token vectors.
    """
    request = wire.message(
        embedding_pb2.EmbedTokensRequest,
        model=model,
        version=version,
        role=enum_number("role", role, wire.ROLES),
        pooling=enum_number("pooling", pooling, wire.POOLINGS),
        grid=None if grid is None else _grid(grid),
        encoding=enum_number("encoding", encoding, wire.ENCODINGS),
        truncation=enum_number("truncation", truncation, wire.TRUNCATIONS),
        priority=enum_number("priority", priority, wire.PRIORITIES),
        **_embeddable(items),
    )

    def decode(response: embedding_pb2.EmbedTokensResponse) -> EmbeddedTokens:
        return _embedded_tokens(response, partial=partial)

    kind = embedding_pb2.EmbedTokensResponse
    return make_call("Embedding/EmbedTokens", request, kind, decode, deadline_s)


def _grid(grid: object) -> item_pb2.Grid:
    if not isinstance(grid, tuple | list) or len(grid) != 2:
        raise InvalidInput(f"grid is {grid!r:.80}; give (rows, columns)")
    return wire.message(item_pb2.Grid, rows=grid[0], columns=grid[1])


def _embedded_tokens(
    response: embedding_pb2.EmbedTokensResponse, *, partial: bool
) -> EmbeddedTokens:
    names = {number: name for name, number in wire.ENCODINGS.items()}
    has_vectors, has_grid = response.HasField("vectors"), response.HasField("grid")
    return EmbeddedTokens(
        vectors=(
            wire.from_tensor(response.vectors)
            if has_vectors
            else np.empty((0, response.dim), np.float32)
        ),
        lengths=np.array(response.lengths, np.int32),
        truncated=truncated_flags(response.items),
        errors=item_errors(response.items, partial=partial),
        grid=(response.grid.rows, response.grid.columns) if has_grid else None,
        encoding=names[response.encoding],
        dim=response.dim,
        fingerprint=response.fingerprint,
        model=response.model,
        variant=response.variant,
        queue_s=response.timings.queue_us / 1e6,
        tokenize_s=response.timings.tokenize_us / 1e6,
        infer_s=response.timings.infer_us / 1e6,
    )


def embed_request(
    items: Items | TokenIds,
    *,
    model: str,
    version: str,
    role: Role,
    dims: int | None,
    encoding: Encoding,
    truncation: Truncation,
    priority: Priority,
) -> embedding_pb2.EmbedRequest:
    """One request of Embed or EmbedStream."""
    return wire.message(
        embedding_pb2.EmbedRequest,
        model=model,
        **_role(role),
        dims=dims,
        encoding=enum_number("encoding", encoding, wire.ENCODINGS),
        truncation=enum_number("truncation", truncation, wire.TRUNCATIONS),
        priority=enum_number("priority", priority, wire.PRIORITIES),
        version=version,
        **_embeddable(items),
    )


def _role(role: object) -> dict[str, object]:
    """Give the fields of a role: its number on the wire, or the name of another prompt."""
    if isinstance(role, str) and role not in wire.ROLES:
        return {"prompt": role}
    return {"role": enum_number("role", role, wire.ROLES)}


def size_of(request: embedding_pb2.EmbedRequest) -> int:
    """How many items a request has."""
    if request.HasField("tensor"):
        return request.tensor.shape[0] if request.tensor.shape else 0
    return len(request.tokens.lengths) or len(request.texts.values)


def embedded(
    response: embedding_pb2.EmbedResponse, *, partial: bool, size: int | None = None
) -> Embedded:
    """One answer of Embed or EmbedStream.

    A request that failed as a whole raises its error; with `partial`, on a stream, each of its
    `size` items has it.
    """
    if response.HasField("error"):
        error = error_from(response.error)
        if not partial or size is None:
            raise error
        return _failed(error, size)
    names = {number: name for name, number in wire.ENCODINGS.items()}
    return Embedded(
        vectors=wire.from_tensor(response.embeddings),
        tokens=np.array([item.tokens for item in response.items], np.int32),
        truncated=truncated_flags(response.items),
        errors=item_errors(response.items, partial=partial),
        encoding=names[response.encoding],
        dims=response.dims,
        fingerprint=response.fingerprint,
        model=response.model,
        variant=response.variant,
        queue_s=response.timings.queue_us / 1e6,
        tokenize_s=response.timings.tokenize_us / 1e6,
        infer_s=response.timings.infer_us / 1e6,
    )


def embed_stream(
    batches: Batches,
    *,
    model: str = "",
    version: str = "",
    role: Role = "passage",
    dims: int | None = None,
    encoding: Encoding = "f32",
    truncation: Truncation = "truncate",
    priority: Priority = "interactive",
    partial: bool = False,
    deadline_s: float | None = None,
) -> "EmbedStream":
    """The embeddings of each batch, in order, while later batches are read and sent.

    `dims`, `encoding` and `priority` are those of `embed`. A full queue makes the stream wait.
    There is no deadline by default: only the caller knows how long the stream is. With `partial`, a
    batch that failed as a whole has its error at every item; without, it ends the stream.
    """
    make = functools.partial(
        embed_request,
        model=model,
        version=version,
        role=role,
        dims=dims,
        encoding=encoding,
        truncation=truncation,
        priority=priority,
    )
    return EmbedStream(batches, make, partial=partial, deadline_s=deadline_s)


class EmbedStream:
    """One EmbedStream: its requests, and its responses in the same order."""

    def __init__(
        self,
        batches: Batches,
        make: Callable[[Items | TokenIds], embedding_pb2.EmbedRequest],
        *,
        partial: bool,
        deadline_s: float | None,
    ) -> None:
        """Take the batches, and what makes the request of one."""
        self.batches = batches
        self._deadline_s = deadline_s
        self._make = make
        self._partial = partial
        self._sizes: deque[int] = deque()  # of requests without a response
        self._held: Exception | None = None

    @property
    def timeout_s(self) -> float | None:
        """Seconds until the stream must have ended; raises InvalidInput for what is no time."""
        return None if self._deadline_s is None else seconds("deadline_s", self._deadline_s)

    def request(self, batch: Items | TokenIds) -> embedding_pb2.EmbedRequest:
        """Give the request of the next batch."""
        request = self._make(batch)
        self._sizes.append(size_of(request))
        return request

    def decode(self, response: embedding_pb2.EmbedResponse) -> Embedded:
        """Give the embeddings of the first batch that has no response yet."""
        return embedded(response, partial=self._partial, size=self._sizes.popleft())

    @contextmanager
    def holding_errors(self) -> Iterator[None]:
        """End the requests at an error of theirs, which the caller meets after the responses."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 (gRPC's thread would only log it)
            self._held = error

    def raise_held(self) -> None:
        """Raise the error that ended the requests, if there was one."""
        if self._held is not None:
            raise self._held


def _embeddable(items: object) -> dict[str, Any]:
    given = listed(items)
    return {"tokens": wire.to_tokens(given)} if is_token_ids(given) else items_fields(given)


def _failed(error: AttarError, size: int) -> Embedded:
    return Embedded(
        vectors=np.zeros((size, 0), np.float32),
        tokens=np.zeros(size, np.int32),
        truncated=np.zeros(size, np.bool_),
        errors=(error,) * size,
        encoding="f32",
        dims=0,
        fingerprint="",
        model="",
        variant="",
        queue_s=0.0,
        tokenize_s=0.0,
        infer_s=0.0,
    )
