"""Qdrant Edge as a store: one folder a collection, a shard and what it was made for.

    <root>/.lock                     held while a store is open: one process at a time
    <root>/NAME/collection.json      schema version, name, model, fingerprint, dims
    <root>/NAME/shard/               qdrant_edge's own files
    <root>/.*                        being made or being removed; swept when the store opens

Durability. An update returns once qdrant_edge has it in its log, a mapped file that `load` replays.
So death of the process at any moment, SIGKILL included, loses nothing that was acknowledged; tests
kill it. Power loss is another matter: `flush` syncs log and segments to the disk (msync and fsync,
seen with strace), and the store's process calls it within a second of a write, so power loss takes
at most that second's acknowledged writes, as far as the disk keeps what it has confirmed; that is
not tested. A sync on every update cost 4 to 130 ms here, during which no search could run. An
update that was not acknowledged is there whole or not at all.

Search compares every vector, so it is exact. qdrant_edge would build an HNSW index in `optimize`,
which holds the interpreter for its whole run (34 s for 100,000 vectors of 64 dims on two cores):
this store does not call it. No call of qdrant_edge 0.9 releases the interpreter, which is why
`attar.server.collections.process` gives this store a process of its own.

Payloads are kept as JSON text beside the tokens that filters look for, in an indexed field. The
engine's own match of booleans takes true for 1 (0.9.0), and it loses integers beyond 64 bits.
"""

import fcntl
import json
import os
import shutil
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import qdrant_edge as edge
from numpy.typing import NDArray

from attar.errors import AlreadyExists, InvalidInput, NotFound, ShapeError, Unavailable

from .disk import check_name, sync_folder, write_whole
from .store import (
    Description,
    Filter,
    Hit,
    Payload,
    Point,
    PointId,
    check_ids,
    filter_tokens,
    payload_json,
    payload_tokens,
)

_SCHEMA: Final = 1
_LOCK_S: Final = 10.0  # how long an open store may take to let go: a killed one is gone in less
_PAGE: Final = 1000


class EdgeStore:
    """Collections under one root; `open_collection` takes up each of `names`."""

    def __init__(self, root: Path) -> None:
        """Lock the root and sweep what was never finished; `Unavailable` when it is locked."""
        root.mkdir(parents=True, exist_ok=True)
        self._root = root
        self._lock = _lock(root / ".lock")
        self._shards: dict[str, tuple[Description, edge.EdgeShard]] = {}
        self._unsynced: dict[str, float] = {}  # when a collection was first written since its sync
        for leftover in root.glob(".*"):
            if leftover.is_dir():
                shutil.rmtree(leftover)

    def names(self) -> list[str]:
        """List the collections on the disk, open or not."""
        return sorted(p.name for p in self._root.iterdir() if p.is_dir() and p.name[0] != ".")

    def open_collection(self, name: str) -> None:
        """Take up a collection from its folder; raises `Unavailable` with what is wrong with it."""
        folder = self._root / name
        try:
            description = _read(folder / "collection.json")
            if description.name != name:
                raise ValueError(f"collection.json is of {description.name!r}")
            shard = edge.EdgeShard.load(str(folder / "shard"), None)
        except BaseException as error:  # a panic of the engine is no Exception
            raise Unavailable(
                f"collection {name} is damaged: {error}; restore {folder} from a copy, or delete it"
            ) from error
        self._shards[name] = (description, shard)

    def create(self, description: Description) -> None:
        """Make an empty collection, whole or not at all; raises `AlreadyExists`."""
        name = check_name("collection", description.name)
        folder = self._root / name
        if folder.exists():
            raise AlreadyExists(f"collection {name} exists; choose another name or delete it")
        making = self._root / f".{uuid.uuid4().hex}"
        (making / "shard").mkdir(parents=True)
        # The shard is closed before the folder is moved: it keeps the path that it was opened by.
        vectors = edge.EdgeVectorParams(size=description.dims, distance=edge.Distance.Cosine)
        shard = edge.EdgeShard.create(str(making / "shard"), edge.EdgeConfig(vectors=vectors))
        shard.update(
            edge.UpdateOperation.create_field_index("tokens", edge.PayloadSchemaType.Keyword)
        )
        shard.flush()
        shard.close()
        facts = {
            "schema_version": _SCHEMA,
            "name": name,
            "model": description.model,
            "fingerprint": description.fingerprint,
            "dims": description.dims,
        }
        write_whole(making / "collection.json", json.dumps(facts, indent=2).encode())
        making.rename(folder)
        sync_folder(self._root)
        self.open_collection(name)

    def delete(self, name: str) -> None:
        """Remove a collection and its files, damaged or not; raises `NotFound`."""
        folder = self._root / check_name("collection", name)
        if not folder.is_dir():
            raise self._unknown(name)
        if name in self._shards:
            self._shards.pop(name)[1].close()
            self._unsynced.pop(name, None)
        removing = self._root / f".{uuid.uuid4().hex}"
        folder.rename(removing)
        sync_folder(self._root)
        shutil.rmtree(removing)

    def describe(self, name: str) -> tuple[Description, int]:
        """Give what a collection was made for and how many points it has."""
        description, shard = self._open(name)
        return description, shard.count(edge.CountRequest(exact=True))

    def upsert(
        self,
        name: str,
        ids: Sequence[PointId],
        vectors: NDArray[np.float32],
        payloads: Sequence[Payload],
    ) -> None:
        """Add or replace points, all or none: (n, dims) vectors; logged when it returns."""
        description, _ = self._open(name)
        ids = check_ids(ids)
        _check_vectors(vectors, description)
        if not len(ids) == len(vectors) == len(payloads):
            raise InvalidInput(
                f"ids, vectors and payloads must be as many; got {len(ids)}, {len(vectors)} and"
                f" {len(payloads)}"
            )
        points = [
            edge.Point(
                point_id,
                vector.tolist(),
                {"json": payload_json(payload, i), "tokens": payload_tokens(payload)},
            )
            for i, (point_id, vector, payload) in enumerate(
                zip(ids, vectors, payloads, strict=True)
            )
        ]
        self._update(name, edge.UpdateOperation.upsert_points(points))

    def search(
        self,
        name: str,
        vectors: NDArray[np.float32],
        *,
        limit: int,
        where: Filter,
        score_threshold: float | None,
        with_payload: bool,
    ) -> list[list[Hit]]:
        """Give each query's best hits, best first, none below the threshold: (n, dims) vectors."""
        description, shard = self._open(name)
        _check_vectors(vectors, description)
        if limit < 1:
            raise InvalidInput(f"limit must be at least 1; got {limit}")
        queries = [
            edge.QueryRequest(
                limit=limit,
                query=edge.Query.Nearest(vector.tolist()),
                filter=_filter(where),
                with_payload=with_payload,
            )
            for vector in vectors
        ]
        # The engine's own threshold drops scores that equal it; attar's keeps them.
        lowest = -np.inf if score_threshold is None else score_threshold
        return [
            [
                Hit(_id(point.id), point.score, _payload(point.payload) if with_payload else None)
                for point in found
                if point.score >= lowest
            ]
            for found in shard.query_batch(edge.QueryBatchRequest(queries))
        ]

    def retrieve(self, name: str, ids: Sequence[PointId], *, with_vectors: bool) -> list[Point]:
        """Give those of the points that exist, in the order asked."""
        _, shard = self._open(name)
        wanted = check_ids(ids)
        found = {
            _id(record.id): record
            for record in shard.retrieve([*wanted], with_payload=True, with_vector=with_vectors)
        }
        return [
            Point(
                point_id,
                _payload(found[point_id].payload),
                np.array(found[point_id].vector, np.float32) if with_vectors else None,
            )
            for point_id in wanted
            if point_id in found
        ]

    def delete_points(self, name: str, ids: Sequence[PointId]) -> None:
        """Remove those of the points that exist; logged when it returns."""
        self._open(name)
        self._update(name, edge.UpdateOperation.delete_points([*check_ids(ids)]))

    def count(self, name: str, where: Filter) -> int:
        """Count the points that match."""
        _, shard = self._open(name)
        return shard.count(edge.CountRequest(exact=True, filter=_filter(where)))

    def vectors(self, name: str) -> NDArray[np.float32]:
        """Give every vector, in the order of ids: (points, dims), rows of unit length."""
        description, shard = self._open(name)
        rows: list[Any] = []
        offset: Any = None
        while True:
            records, offset = shard.scroll(
                edge.ScrollRequest(offset=offset, limit=_PAGE, with_payload=False, with_vector=True)
            )
            rows.extend(record.vector for record in records)
            if offset is None:
                return np.array(rows, np.float32).reshape(len(rows), description.dims)

    @property
    def unsynced_since(self) -> float | None:
        """When the oldest write was made that the disk may not have (monotonic, s)."""
        return min(self._unsynced.values(), default=None)

    def sync(self) -> None:
        """Bring every write to the disk."""
        while self._unsynced:
            name, since = self._unsynced.popitem()
            try:
                self._shards[name][1].flush()
            except Exception:
                self._unsynced[name] = since
                raise

    def close(self) -> None:
        """Close every shard, which syncs it, and unlock the root."""
        while self._shards:
            self._shards.popitem()[1][1].close()
        os.close(self._lock)

    def _update(self, name: str, operation: edge.UpdateOperation) -> None:
        self._unsynced.setdefault(name, time.monotonic())
        self._shards[name][1].update(operation)

    def _open(self, name: str) -> tuple[Description, edge.EdgeShard]:
        try:
            return self._shards[name]
        except KeyError:
            raise self._unknown(name) from None

    def _unknown(self, name: str) -> NotFound:
        known = ", ".join(sorted(self._shards)[:20]) or "none"
        return NotFound(f"no collection {name[:80]!r}; this server has {known}")


def _lock(path: Path) -> int:
    """Hold a file's lock until the descriptor is closed or the process ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + _LOCK_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise Unavailable(
                    f"another process has {path.parent} open; one server at a time can"
                ) from None
            time.sleep(0.02)
        else:
            return descriptor


def _read(path: Path) -> Description:
    facts = json.loads(path.read_bytes())
    if facts["schema_version"] != _SCHEMA:
        raise ValueError(f"schema version {facts['schema_version']}; this attar reads {_SCHEMA}")
    name, model, fingerprint = facts["name"], facts["model"], facts["fingerprint"]
    return Description(str(name), str(model), str(fingerprint), int(facts["dims"]))


def _check_vectors(vectors: NDArray[np.float32], description: Description) -> None:
    expected = f"(n, {description.dims}) float32, the dims of collection {description.name}"
    if vectors.dtype != np.float32 or vectors.shape[1:] != (description.dims,):
        raise ShapeError(f"vectors must be {expected}; got {vectors.shape} {vectors.dtype}")
    usable = np.isfinite(vectors).all(axis=1) & vectors.any(axis=1)
    if not usable.all():
        row = int(np.flatnonzero(~usable)[0])
        raise InvalidInput(f"vectors[{row}] is zero or not finite; it has no direction to compare")


def _filter(where: Filter) -> edge.Filter | None:
    if not where:
        return None
    return edge.Filter(
        must=[
            edge.FieldCondition(key="tokens", match=edge.MatchAny(tokens))
            for tokens in filter_tokens(where)
        ]
    )


def _id(given: int | uuid.UUID | str) -> PointId:
    return given if isinstance(given, int) else str(given)


def _payload(stored: Any) -> Payload:
    payload: Payload = json.loads(stored["json"])
    return payload
