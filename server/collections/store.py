"""What a vector store holds and gives back, and what it accepts: one contract for every engine.

An id is an unsigned 64-bit integer or a UUID. A payload is a JSON object. Vectors are compared by
cosine similarity and come back with unit length. A write is acknowledged when its method returns;
from then on every read sees it.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from attar.encodings import slice_dims
from attar.errors import InvalidInput, Replaced, ShapeError
from attar.values import PointId, Quantization, Snapshot, TextIndex

from .filters import EVERYTHING, Condition

Payload: TypeAlias = Mapping[str, Any]

POINT_BYTES: Final = 64  # of an answer, and more in memory, for a point without its payload
UNLIMITED: Final = 2**63
PAGE: Final = 256  # points whose payloads are read at a time
# How many times `limit` quantised candidates are scored again by their whole vectors.
OVERSAMPLING: Final[Mapping[Quantization, float]] = {"none": 1.0, "int8": 2.0, "binary": 8.0}


@dataclass(frozen=True, slots=True)
class Description:
    """What a collection was made for; it never changes.

    `creation` distinguishes it from a later one of the same name: every creation has its own,
    and what was made before there were any has an empty one.
    """

    name: str
    model: str
    fingerprint: str
    dims: int
    quantization: Quantization = "none"
    creation: str = field(default_factory=lambda: uuid.uuid4().hex)
    text_index: TextIndex | None = None


@dataclass(frozen=True, slots=True)
class Size:
    """How many points a collection has, and how many of them its index knows."""

    points: int
    indexed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Which points a search gives: `limit` best after the `offset` best, none below the score.

    `exact` compares every vector; otherwise an index may miss a few of the best.
    """

    limit: int
    offset: int = 0
    where: Condition = EVERYTHING
    score_threshold: float | None = None
    with_payload: bool = True
    exact: bool = False

    def __post_init__(self) -> None:
        """Refuse what no page can be."""
        if self.limit < 1:
            raise InvalidInput(f"limit must be at least 1; got {self.limit}")
        if self.offset < 0:
            raise InvalidInput(f"offset must be at least 0; got {self.offset}")


@dataclass(frozen=True, slots=True)
class Hit:
    """A point that a search found, and its score: cosine similarity, or BM25's of its words.

    Where a search fused or reranked, `parts` has the scores that it was made of by name.
    """

    id: PointId
    score: float
    payload: Payload | None
    payload_bytes: int = 0  # see `payload_bytes`
    parts: Mapping[str, float] = field(default_factory=dict)

    @property
    def response_bytes(self) -> int:
        """About how many bytes the hit takes in an answer."""
        return POINT_BYTES + self.payload_bytes


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """A stored point."""

    id: PointId
    payload: Payload
    vector: NDArray[np.float32] | None  # (dims,), of unit length
    payload_bytes: int = 0  # see `payload_bytes`

    @property
    def response_bytes(self) -> int:
        """About how many bytes the point takes in an answer."""
        return POINT_BYTES + self.payload_bytes + (0 if self.vector is None else self.vector.nbytes)


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """Some points in the order of ids, and the id at which the next page begins, if one does."""

    points: tuple[Point, ...]
    following: PointId | None


class Store(Protocol):
    """Collections; a name that is not there raises `NotFound`, a lost engine `Unavailable`.

    What works on a collection is given the description of it that the caller knows. Where another
    collection has that name by the time of the work, `Replaced` is raised and nothing is done.
    """

    @property
    def damaged(self) -> Mapping[str, str]:
        """Which collections cannot be used, and why."""

    async def names(self) -> list[str]:
        """List the collections, damaged ones too."""

    async def create(self, description: Description) -> None:
        """Make an empty collection, whole or not at all; raises `AlreadyExists`."""

    async def delete(self, name: str) -> None:
        """Remove whatever has that name, damaged or not."""

    async def describe(self, name: str) -> Description:
        """Give what a collection was made for."""

    async def size(self, of: Description) -> Size:
        """Count a collection's points."""

    async def upsert(
        self,
        of: Description,
        ids: Sequence[PointId],
        vectors: NDArray[np.float32],
        payloads: Sequence[Payload],
    ) -> None:
        """Add or replace points, all or none: (n, dims) vectors."""

    async def search(
        self, of: Description, vectors: NDArray[np.float32], search: Search
    ) -> list[list[Hit]]:
        """Give each query's hits, best first: (n, dims) vectors."""

    async def keyword_search(
        self, of: Description, texts: Sequence[str], search: Search
    ) -> list[list[Hit]]:
        """Give the points that have words of each text, best first by BM25.

        Raises `InvalidInput` where the collection has no text index. `exact` says nothing here:
        every point with one of the words is compared.
        """

    async def retrieve(
        self,
        of: Description,
        ids: Sequence[PointId],
        *,
        with_vectors: bool,
        with_payload: bool = True,
        max_bytes: int = UNLIMITED,
    ) -> list[Point]:
        """Give those of the points that exist, in the order of `ids`.

        Raises `InvalidInput` where they take more than `max_bytes` of an answer.
        """

    async def scroll(
        self,
        of: Description,
        *,
        where: Condition,
        limit: int,
        start: PointId | None,
        with_vectors: bool,
        max_bytes: int = UNLIMITED,
    ) -> Page:
        """Give a page of the points that match, from the id `start` on.

        It ends before the point that takes it above `max_bytes`, unless that is its first.
        """

    async def count(self, of: Description, where: Condition) -> int:
        """Count the points that match."""

    async def delete_points(self, of: Description, ids: Sequence[PointId]) -> None:
        """Remove those of the points that exist."""

    async def delete_matching(self, of: Description, where: Condition) -> None:
        """Remove the points that match."""

    async def vectors(self, of: Description, *, limit: int = UNLIMITED) -> NDArray[np.float32]:
        """Give every vector, in the order of ids, up to so many: (points, dims)."""

    async def optimize(self, of: Description) -> None:
        """Build the collection's index and return when it is in use; reads and writes go on."""

    async def snapshot(self, of: Description) -> Snapshot:
        """Keep a collection as it is now; reads go on."""

    async def snapshots(self, name: str) -> list[Snapshot]:
        """List a collection's snapshots, oldest first, also when it was deleted since."""

    async def restore(
        self, name: str, snapshot: str, *, to: str, replace: bool
    ) -> tuple[Description, Size]:
        """Make the collection `to` of a snapshot of `name`, whole or not at all; give what it is.

        Without `replace` a collection `to` that is there raises `AlreadyExists`; with it, one that
        was made while the snapshot was unpacked raises `Replaced`.
        """

    async def delete_snapshot(self, name: str, snapshot: str) -> None:
        """Remove a snapshot."""

    async def close(self) -> None:
        """Let what runs finish and let go."""


def refuse_large_response(size: int, max_bytes: int) -> None:
    """Raise `InvalidInput` where an answer would have more bytes than it may."""
    if size > max_bytes:
        raise InvalidInput(
            f"the answer would have more bytes than max_answer_bytes, {max_bytes}; ask for fewer"
            " hits or points at a time, or without payloads or vectors"
        )


def payload_bytes(text: str) -> int:
    """About how many bytes a payload, stored as JSON, takes in an answer.

    There each value, and the key of each, has a header, and a number has eight bytes.
    """
    return len(text.encode()) + 12 * (text.count(",") + text.count(":") + 1)


def check_same(current: Description, expected: Description) -> None:
    """Raise `Replaced` unless a collection is the one that a call began with."""
    if current != expected:
        raise Replaced(
            f"collection {expected.name} was replaced while the call was under way: it was of"
            f" {expected.model}, {expected.fingerprint}, and is another one of {current.model},"
            f" {current.fingerprint}. Nothing was done; send the call again if it is meant for that"
        )


def check_ids(ids: Sequence[PointId]) -> list[PointId]:
    """Give ids in canonical form, each one once, or raise `InvalidInput` that names the bad one."""
    seen: dict[PointId, int] = {}
    for index, given in enumerate(ids):
        canonical = _canonical(given, index)
        if canonical in seen:
            raise InvalidInput(
                f"ids[{index}] is {given!r}, as is ids[{seen[canonical]}]; give each point once"
            )
        seen[canonical] = index
    return list(seen)


def unit_vectors(vectors: NDArray[np.float32], description: Description) -> NDArray[np.float32]:
    """Give rows unit length, or raise `ShapeError` or `InvalidInput` where one has no direction.

    Engines compute lengths in float32, in which those of very long and very short rows are lost.
    """
    expected = f"(n, {description.dims}) float32, the dims of collection {description.name}"
    if vectors.dtype != np.float32 or vectors.shape[1:] != (description.dims,):
        raise ShapeError(f"vectors must be {expected}; got {vectors.shape} {vectors.dtype}")
    usable = np.isfinite(vectors).all(axis=1) & vectors.any(axis=1)
    if not usable.all():
        row = int(np.flatnonzero(~usable)[0])
        raise InvalidInput(f"vectors[{row}] is zero or not finite; it has no direction to compare")
    return slice_dims(vectors, description.dims)


def similarity(score: float) -> float:
    """Give an engine's cosine in [-1, 1] and to six digits: float32 leaves it off by some 1e-7.

    So a point's own vector finds it at a threshold of 1.
    """
    return min(1.0, max(-1.0, round(score, 6)))


def check_points(
    description: Description,
    ids: Sequence[PointId],
    vectors: NDArray[np.float32],
    payloads: Sequence[Payload],
) -> tuple[list[PointId], NDArray[np.float32], list[str]]:
    """Give canonical ids, unit rows and payloads as JSON, or raise for what cannot be stored."""
    canonical = check_ids(ids)
    unit = unit_vectors(vectors, description)
    if not len(ids) == len(vectors) == len(payloads):
        raise InvalidInput(
            f"ids, vectors and payloads must be as many; got {len(ids)}, {len(vectors)} and"
            f" {len(payloads)}"
        )
    return canonical, unit, [payload_json(payload, i) for i, payload in enumerate(payloads)]


def payload_json(payload: Payload, index: int) -> str:
    """Write a payload as JSON, or raise `InvalidInput`: it must be an object without NaN."""
    if not all(isinstance(key, str) for key in payload):
        raise InvalidInput(
            f"payloads[{index}] must have strings as keys; got {list(payload)!r:.80}"
        )
    try:
        text = json.dumps(dict(payload), allow_nan=False, ensure_ascii=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"payloads[{index}] is not JSON: {error}") from None
    return text


def _canonical(value: object, index: int) -> PointId:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64:
        return value
    if isinstance(value, str):
        try:
            return str(uuid.UUID(value))
        except ValueError:
            pass
    raise InvalidInput(
        f"ids[{index}] must be an integer from 0 to 2^64 - 1 or a UUID; got {value!r:.80}"
    )
