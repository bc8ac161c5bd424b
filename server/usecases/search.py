"""Collections: named sets of vectors in one embedding space, searched by meaning."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from collections.abc import Mapping, Sequence


# server/collections/store.py
PointId = int | str  # unsigned 64-bit, or a UUID's text
Payload = Mapping[str, Any]  # JSON object
Value = str | int | bool
Filter = Mapping[str, Value | Sequence[Value]]  # payload key -> equal to, or any of


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    name: str
    model: str
    fingerprint: str
    dims: int
    points: int


@dataclass(frozen=True, slots=True)
class Hit:
    id: PointId
    score: float
    payload: Payload | None


@dataclass(frozen=True, slots=True)
class Point:
    id: PointId
    payload: Payload
    vector: Any  # NDArray float32 (dims,) or None


# server/usecases/search.py
@dataclass(frozen=True, slots=True)
class Upserted:
    items: tuple[Item, ...]  # one per id; where error is None the point is durable
    fingerprint: str
    truncated: bool


@dataclass(frozen=True, slots=True)
class Found:
    hits: tuple[tuple[Hit, ...], ...]  # best first, one tuple per query; () where the query failed
    items: tuple[Item, ...]
    fingerprint: str


class Collections:
    """`damaged` maps the names that could not be opened to why."""

    damaged: Mapping[str, str]

    def __init__(self, data_dir: Path, models: Models) -> None: ...  # blocks: opens <data_dir>/collections/*

    async def create(self, name: str, *, model: str = "", dims: int | None = None) -> CollectionInfo: ...
    async def delete(self, name: str) -> None: ...
    async def list(self) -> tuple[CollectionInfo, ...]: ...
    async def get(self, name: str) -> CollectionInfo: ...
    async def upsert(self, name: str, *, ids: Sequence[PointId], payloads: Sequence[Payload] | None = None,
        items: Items | None = None, vectors: NDArray[np.float32] | None = None, fingerprint: str = "",
        truncation: Truncation = "truncate", deadline: float | None = None, wait: bool = False) -> Upserted: ...
    async def search(self, name: str, *, items: Items | None = None, vectors: NDArray[np.float32] | None = None,
        fingerprint: str = "", limit: int = 10, filter: Filter | None = None, score_threshold: float | None = None,
        with_payload: bool = True, role: Role = "query", truncation: Truncation = "truncate",
        deadline: float | None = None) -> Found: ...
    async def retrieve(self, name: str, ids: Sequence[PointId], *, with_vectors: bool = False) -> tuple[Point, ...]: ...  # those that exist
    async def delete_points(self, name: str, ids: Sequence[PointId]) -> None: ...
    async def count(self, name: str, *, filter: Filter | None = None) -> int: ...
    async def close(self) -> None: ...
