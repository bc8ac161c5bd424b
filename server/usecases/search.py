"""Collections: named sets of vectors in one embedding space, searched by meaning."""

import builtins
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attar.errors import InvalidInput, SpaceMismatch, Unavailable
from attar.server.collections.disk import check_name
from attar.server.collections.process import StoreProcess
from attar.server.collections.qdrant_edge import EdgeStore
from attar.server.collections.store import Description, Filter, Hit, Payload, Point, PointId
from attar.server.engine.models import Model, Models

from .embed import Item, Items, Role, Truncation, embed

__all__ = ["CollectionInfo", "Collections", "Filter", "Found", "Hit", "Payload", "Point", "PointId"]


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """What a collection was made for, and how many points it has."""

    name: str
    model: str
    fingerprint: str
    dims: int
    points: int


@dataclass(frozen=True, slots=True)
class Upserted:
    """One status for each id: where there is no error, the point is durable."""

    items: tuple[Item, ...]
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Found:
    """One tuple of hits for each query, best first; empty where the query failed."""

    hits: tuple[tuple[Hit, ...], ...]
    items: tuple[Item, ...]
    fingerprint: str


class Collections:
    """Every collection under <data_dir>/collections, each bound to the space it was made for."""

    def __init__(self, data_dir: Path, models: Models) -> None:
        """Open what is there, which blocks; `damaged` says what could not be opened and why."""
        self._models = models
        self._store = StoreProcess(data_dir / "collections")
        self.damaged = self._store.damaged

    async def create(
        self, name: str, *, model: str = "", dims: int | None = None
    ) -> CollectionInfo:
        """Make an empty collection for a model's embeddings, of one of the dims it declares."""
        check_name("collection", name)
        encoder = self._models[model].encoder
        width = encoder.dim if dims is None else dims
        if width not in encoder.dims:
            raise InvalidInput(
                f"dims must be one that {encoder.manifest.name} was trained for,"
                f" {list(encoder.dims)}; got {dims}"
            )
        description = Description(name, encoder.manifest.name, encoder.fingerprint, width)
        await self._store.call(EdgeStore.create, description)
        return _info(description, 0)

    async def delete(self, name: str) -> None:
        """Remove a collection and its files; this is also the way to be rid of a damaged one."""
        await self._store.call(EdgeStore.delete, name)
        self.damaged.pop(name, None)

    async def list(self) -> tuple[CollectionInfo, ...]:
        """Describe every collection that is open, by name."""
        names = await self._store.call(EdgeStore.names)
        return tuple([await self.get(name) for name in names if name not in self.damaged])

    async def get(self, name: str) -> CollectionInfo:
        """Describe a collection."""
        self._refuse_damaged(name)
        return _info(*await self._store.call(EdgeStore.describe, name))

    async def upsert(
        self,
        name: str,
        *,
        ids: Sequence[PointId],
        payloads: Sequence[Payload] | None = None,
        items: Items | None = None,
        vectors: NDArray[np.float32] | None = None,
        fingerprint: str = "",
        truncation: Truncation = "truncate",
        deadline: float | None = None,
        wait: bool = False,
    ) -> Upserted:
        """Add points, or replace those of the same id: items to embed, or vectors of a known space.

        An item that cannot be embedded fails alone; the rest is written as one, and is durable when
        this returns. `fingerprint` says in which space `vectors` are: there it must be given.
        """
        description = await self._describe(name)
        payloads = [{}] * len(ids) if payloads is None else payloads
        given = _one_input(items, vectors)
        if not len(ids) == len(given) == len(payloads):
            raise InvalidInput(
                f"ids, payloads and items or vectors must be as many; got {len(ids)},"
                f" {len(payloads)} and {len(given)}"
            )
        rows, statuses = await self._vectors(
            description,
            items,
            vectors,
            fingerprint=fingerprint,
            role="passage",
            truncation=truncation,
            deadline=deadline,
            wait=wait,
        )
        good = [i for i, item in enumerate(statuses) if item.error is None]
        if good:
            await self._store.call(
                EdgeStore.upsert,
                name,
                [ids[i] for i in good],
                rows[good],
                [payloads[i] for i in good],
            )
        return Upserted(statuses, description.fingerprint)

    async def search(
        self,
        name: str,
        *,
        items: Items | None = None,
        vectors: NDArray[np.float32] | None = None,
        fingerprint: str = "",
        limit: int = 10,
        filter: Filter | None = None,  # noqa: A002 - the word of the wire
        score_threshold: float | None = None,
        with_payload: bool = True,
        role: Role = "query",
        truncation: Truncation = "truncate",
        deadline: float | None = None,
    ) -> Found:
        """Give each query's `limit` most similar points: queries to embed, or vectors.

        Scores are cosine similarities; `score_threshold` is the lowest that counts. A query that
        cannot be embedded fails alone.
        """
        description = await self._describe(name)
        _one_input(items, vectors)
        rows, statuses = await self._vectors(
            description,
            items,
            vectors,
            fingerprint=fingerprint,
            role=role,
            truncation=truncation,
            deadline=deadline,
            wait=False,
        )
        good = [i for i, item in enumerate(statuses) if item.error is None]
        hits: builtins.list[tuple[Hit, ...]] = [()] * len(statuses)
        if good:
            found = await self._store.call(
                EdgeStore.search,
                name,
                rows[good],
                limit=limit,
                where=filter or {},
                score_threshold=score_threshold,
                with_payload=with_payload,
            )
            for i, best in zip(good, found, strict=True):
                hits[i] = tuple(best)
        return Found(tuple(hits), statuses, description.fingerprint)

    async def retrieve(
        self, name: str, ids: Sequence[PointId], *, with_vectors: bool = False
    ) -> tuple[Point, ...]:
        """Give those of the points that exist, in the order asked."""
        self._refuse_damaged(name)
        return tuple(
            await self._store.call(EdgeStore.retrieve, name, ids, with_vectors=with_vectors)
        )

    async def delete_points(self, name: str, ids: Sequence[PointId]) -> None:
        """Remove those of the points that exist; durable when this returns."""
        self._refuse_damaged(name)
        await self._store.call(EdgeStore.delete_points, name, ids)

    async def count(self, name: str, *, filter: Filter | None = None) -> int:  # noqa: A002 - the word of the wire
        """Count the points that match."""
        self._refuse_damaged(name)
        return await self._store.call(EdgeStore.count, name, filter or {})

    async def all_vectors(self, name: str) -> tuple[Description, NDArray[np.float32]]:
        """Give what a collection was made for and every vector in it: (points, dims), unit rows."""
        description = await self._describe(name)
        return description, await self._store.call(EdgeStore.vectors, name)

    async def close(self) -> None:
        """Flush and close every collection."""
        await self._store.close()

    async def _describe(self, name: str) -> Description:
        self._refuse_damaged(name)
        description, _ = await self._store.call(EdgeStore.describe, name)
        return description

    def _refuse_damaged(self, name: str) -> None:
        if name in self.damaged:
            raise Unavailable(self.damaged[name])

    async def _vectors(
        self,
        description: Description,
        items: Items | None,
        vectors: NDArray[np.float32] | None,
        *,
        fingerprint: str,
        role: Role,
        truncation: Truncation,
        deadline: float | None,
        wait: bool,
    ) -> tuple[NDArray[np.float32], tuple[Item, ...]]:
        """Give a row for each item or vector, all of the collection's space, or refuse."""
        if vectors is not None:
            if not fingerprint:
                raise InvalidInput(
                    "vectors come with the fingerprint of their space, which every answer that"
                    " carries embeddings has; got none"
                )
            _same_space(description, f"the vectors are of {fingerprint}", fingerprint)
            return vectors, (Item(None, 0, truncated=False),) * len(vectors)
        model = self._models[description.model]
        same_space(description, model)
        embedded = await embed(
            self._models,
            items=items if items is not None else [],
            model=model.name,
            role=role,
            dims=description.dims,
            truncation=truncation,
            deadline=deadline,
            wait=wait,
        )
        return embedded.vectors, embedded.items


def same_space(description: Description, model: Model) -> None:
    """Refuse a model whose space is no longer the one that the collection was made for."""
    fingerprint = model.encoder.fingerprint
    _same_space(description, f"model {model.name} now embeds into {fingerprint}", fingerprint)


def _same_space(description: Description, what: str, fingerprint: str) -> None:
    if fingerprint != description.fingerprint:
        raise SpaceMismatch(
            f"collection {description.name} is in the space {description.fingerprint}, and {what};"
            " make a new collection and embed again"
        )


def _one_input(items: Items | None, vectors: NDArray[np.float32] | None) -> Items:
    if (items is None) == (vectors is None):
        raise InvalidInput("give either items to embed or vectors, and not both")
    return vectors if items is None and vectors is not None else items if items is not None else []


def _info(description: Description, points: int) -> CollectionInfo:
    return CollectionInfo(
        description.name, description.model, description.fingerprint, description.dims, points
    )
