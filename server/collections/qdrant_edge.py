"""Qdrant Edge as a store: one folder a collection, a shard and what it was made for.

    <root>/.lock                     held while a store is open: one process at a time
    <root>/NAME/collection.json      schema version, what it was made for, which shard is in use
    <root>/NAME/SHARD/               qdrant_edge's own files
    <root>/NAME/checksums.json       what they are, once it rests: see `sums`
    <root>/.*                        being made or being removed; swept when the store opens

Durability. An update returns once qdrant_edge has it in its log, a mapped file that `load` replays.
So death of the process at any moment, SIGKILL included, loses nothing that was acknowledged; tests
kill it. For the loss of power the log must be on the disk: `sync_log` does that, from any process,
and what it brought there is all that an acknowledged write needs, as far as the disk keeps what it
has confirmed. `flush` syncs the segments too, which cost 4 to 130 ms here, during which no search
can run; the store's process calls it within a second of a write, so that opening replays little. An
update that was not acknowledged is there whole or not at all.

A full disk. qdrant_edge writes through mapped files, and where the disk cannot back them the kernel
kills the process (SIGBUS, seen on a full tmpfs; opening a shard there dies too). So writes are
refused with `DiskFull` while less than a reserve is free, and shards are not opened without some.

Search compares every vector until an index is built. No call of qdrant_edge 0.9 releases the
interpreter, and `optimize` takes minutes; so it runs on a copy of the shard, in a process of its
own, while this store goes on with the old shard and remembers which points were written since. Then
the copy is brought up to date, and `collection.json` changes over to it in one rename.

Payloads are stored as JSON text, next to what filters compare, see `filters`, and the text that
keyword search ranks by, see `text_index`. The engine's own
match of booleans takes true for 1 (0.9.0), and it loses integers beyond 64 bits.
"""

import dataclasses
import fcntl
import json
import os
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import qdrant_edge as edge
from numpy.typing import NDArray

from attar.errors import AlreadyExists, DiskFull, NotFound, Replaced, Unavailable
from attar.values import LANGUAGES, PointId, Quantization, TextIndex

from ..disk import (
    check_name,
    is_name,
    read_file,
    remove,
    require_space,
    sweep,
    sync_folder,
    sync_tree,
    what_is_wrong,
    write_whole,
)
from .checksums import check_sums, finish, forget_sums, of_facts, take_sums, write_sums
from .filters import (
    EVERYTHING,
    TOKENS,
    Between,
    Condition,
    Every,
    Has,
    Not,
    Some,
    comparable,
    paths,
)
from .store import (
    OVERSAMPLING,
    PAGE,
    UNLIMITED,
    Description,
    Hit,
    Page,
    Payload,
    Point,
    Search,
    Size,
    check_ids,
    check_points,
    check_same,
    payload_bytes,
    refuse_large_response,
    similarity,
    unit_vectors,
)
from .text_index import (
    TEXT,
    check_queries,
    index_operation,
    indexed_texts,
    keyword_query,
    require_text_index,
)

COLLECTION_FILE: Final = "collection.json"
LOG_FOLDER: Final = "wal"
_ENGINE_FILE: Final = "edge_config.json"
RESERVE_BYTES: Final = 256 * 2**20  # several times the largest write, with its log
OPENING_BYTES: Final = 64 * 2**20  # what one shard may need to open
_SCHEMA: Final = 2
_TEXT_SCHEMA: Final = 3  # with a text index, of which an older attar would write no words
_DESCRIPTION_BYTES: Final = 2**16
_FACTS: Final = frozenset(
    ("schema_version", "name", "model", "fingerprint", "dims", "quantization", "creation", "shard")
)
_CLOSING_SUMS_S: Final = 15.0  # for the sums of all collections, at the end
_LOCK_S: Final = 10.0  # how long an open store may take to let go: a killed one is gone in less
_PAGE: Final = 1000
_INDEXED_PATHS: Final = 32  # of ranges in one collection; each index costs memory and upserts


@dataclass(slots=True)
class _Collection:
    """An open shard; `dirty` are the points written since its copy was made, if one was."""

    description: Description
    path: Path
    shard: edge.EdgeShard
    indexed: set[str]
    copying: bool = False
    dirty: set[PointId] | None = None
    successor: edge.EdgeShard | None = None
    since: float | None = None  # when it was first written after its last sync
    summed: bool = False  # whether its sums are those of its files
    summing: Generator[None, None, dict[str, int]] | None = None


class EdgeStore:
    """Collections under one root; `open_collection` takes up each of `names`."""

    def __init__(self, root: Path, *, reserve_bytes: int = RESERVE_BYTES) -> None:
        """Lock the root and sweep what was never finished; `Unavailable` when it is locked."""
        root.mkdir(parents=True, exist_ok=True)
        self._root = root
        self._reserve = reserve_bytes
        self._lock = _lock(root / ".lock")
        self._open: dict[str, _Collection] = {}
        sweep(root)

    def names(self) -> list[str]:
        """List the collections on the disk, open or not; what cannot be one's name is not ours."""
        return sorted(path.name for path in self._root.iterdir() if is_name(path.name))

    def open_collection(self, name: str) -> None:
        """Take up a collection from its folder; raises `Unavailable` with what is wrong with it.

        The error's note is for the log: it has the path, and what the engine said.
        """
        folder = self._root / name
        try:
            description, shard = read_folder(folder)
            check_sums(shard)
            forget_sums(shard)  # the engine may change files as it opens them
            opened = _load(description, shard)
        except BaseException as error:  # a panic of the engine is no Exception
            raise damaged(folder, error) from error
        self._open[name] = opened
        sweep(folder)
        _sweep(folder, keep=shard.name)

    def create(self, description: Description) -> None:
        """Make an empty collection, whole or not at all; raises `AlreadyExists`."""
        name = check_name("collection", description.name)
        folder = self._root / name
        if os.path.lexists(folder):
            raise AlreadyExists(f"collection {name} exists; choose another name or delete it")
        require_space(self._root, self._reserve)
        making, shard_name = self._root / f".{uuid.uuid4().hex}", _shard_name()
        (making / shard_name).mkdir(parents=True)
        # The shard is closed before the folder is moved: it keeps the path that it was opened by.
        shard = edge.EdgeShard.create(str(making / shard_name), _config(description))
        shard.update(edge.UpdateOperation.create_field_index(TOKENS, _KEYWORD))
        if description.text_index is not None:
            shard.update(index_operation(description.text_index))
        shard.flush()
        shard.close()
        _write_description(making, description, shard_name)
        sync_tree(making)
        making.rename(folder)
        sync_folder(self._root)
        self.open_collection(name)

    def delete(self, name: str) -> None:
        """Remove a collection and its files, damaged or not; raises `NotFound`."""
        folder = self._root / check_name("collection", name)
        if not os.path.lexists(folder):
            raise self._unknown(name)
        if name in self._open:
            gone = self._open.pop(name)
            gone.shard.close()
            if gone.successor is not None:
                gone.successor.close()
        removing = self._root / f".{uuid.uuid4().hex}"
        folder.rename(removing)
        sync_folder(self._root)
        remove(removing)

    def describe(self, name: str) -> Description:
        """Give what a collection was made for."""
        try:
            return self._open[name].description
        except KeyError:
            if is_name(name) and os.path.lexists(self._root / name):
                raise Unavailable(f"collection {name} is not open; retry") from None
            raise self._unknown(name) from None

    def size(self, of: Description) -> Size:
        """Count a collection's points."""
        shard = self._find(of).shard
        points = shard.count(edge.CountRequest(exact=True))
        # The engine counts a vector as indexed as long as its segment holds it, deleted or not.
        return Size(points, min(shard.info().indexed_vectors_count, points))

    def upsert(
        self,
        of: Description,
        ids: Sequence[PointId],
        vectors: NDArray[np.float32],
        payloads: Sequence[Payload],
    ) -> Size:
        """Add or replace points, all or none: (n, dims) vectors; logged when it returns.

        Gives how many there are about: what was replaced may count twice.
        """
        collection = self._find(of)
        canonical, unit, texts = check_points(collection.description, ids, vectors, payloads)
        indexed = indexed_texts(collection.description, payloads)
        points = [
            edge.Point(point_id, vector.tolist(), {"json": text, **comparable(payload), **words})
            for point_id, vector, text, payload, words in zip(
                canonical, unit, texts, payloads, indexed, strict=True
            )
        ]
        require_space(self._root, self._reserve)
        self._update(collection, edge.UpdateOperation.upsert_points(points), touched=canonical)
        info = collection.shard.info()
        return Size(info.points_count, info.indexed_vectors_count)

    def search(
        self, of: Description, vectors: NDArray[np.float32], search: Search
    ) -> list[list[Hit]]:
        """Give each query's hits, best first, none below the threshold: (n, dims) vectors."""
        collection = self._find(of)
        unit = unit_vectors(vectors, collection.description)
        where = self._filter(collection, search.where)
        params = _params(collection.description, search)
        queries = [
            edge.QueryRequest(
                limit=search.limit,
                offset=search.offset,
                query=edge.Query.Nearest(vector.tolist()),
                filter=where,
                with_payload=_JSON if search.with_payload else False,
                params=params,
            )
            for vector in unit
        ]
        # The engine's own threshold drops scores that equal it; attar's keeps them.
        lowest = -np.inf if search.score_threshold is None else search.score_threshold
        return [
            [
                Hit(_id(point.id), score, *_payload(point.payload))
                for point in best
                if (score := similarity(point.score)) >= lowest
            ]
            for best in collection.shard.query_batch(edge.QueryBatchRequest(queries))
        ]

    def keyword_search(
        self, of: Description, texts: Sequence[str], search: Search
    ) -> list[list[Hit]]:
        """Give the points that have words of each text, best first by BM25."""
        require_text_index(of)
        check_queries(texts)
        collection = self._find(of)
        where = self._filter(collection, search.where)
        queries = [
            edge.QueryRequest(
                limit=search.limit,
                offset=search.offset,
                query=keyword_query(text),
                filter=where,
                with_payload=_JSON if search.with_payload else False,
            )
            for text in texts
        ]
        lowest = -np.inf if search.score_threshold is None else search.score_threshold
        return [
            [
                Hit(_id(point.id), point.score, *_payload(point.payload))
                for point in best
                if point.score >= lowest
            ]
            for best in collection.shard.query_batch(edge.QueryBatchRequest(queries))
        ]

    def retrieve(
        self,
        of: Description,
        ids: Sequence[PointId],
        *,
        with_vectors: bool,
        with_payload: bool = True,
        max_bytes: int = UNLIMITED,
    ) -> list[Point]:
        """Give the points that exist, in the order of `ids`, or refuse above `max_bytes`."""
        shard = self._find(of).shard
        wanted = check_ids(ids)
        points: dict[PointId, Point] = {}
        size = 0
        for first in range(0, len(wanted), PAGE):
            for record in shard.retrieve(
                [*wanted[first : first + PAGE]],
                with_payload=_JSON if with_payload else False,
                with_vector=with_vectors,
            ):
                point = _point(record)
                points[point.id] = point
                size += point.response_bytes
            refuse_large_response(size, max_bytes)
        return [points[point_id] for point_id in wanted if point_id in points]

    def scroll(
        self,
        of: Description,
        *,
        where: Condition,
        limit: int,
        start: PointId | None,
        with_vectors: bool,
        max_bytes: int = UNLIMITED,
    ) -> Page:
        """Give a page of the points that match, from `start` on, which may end at `max_bytes`."""
        collection = self._find(of)
        chosen = self._filter(collection, where)
        points: list[Point] = []
        following: Any = start
        while True:
            records, following = collection.shard.scroll(
                edge.ScrollRequest(
                    offset=following,
                    limit=min(PAGE, limit - len(points)),
                    filter=chosen,
                    with_payload=_JSON,
                    with_vector=with_vectors,
                )
            )
            for record in records:
                point = _point(record)
                max_bytes -= point.response_bytes
                if max_bytes < 0 and points:
                    return Page(tuple(points), point.id)
                points.append(point)
            if following is None or len(points) >= limit:
                return Page(tuple(points), None if following is None else _id(following))

    def count(self, of: Description, where: Condition) -> int:
        """Count the points that match."""
        collection = self._find(of)
        request = edge.CountRequest(exact=True, filter=self._filter(collection, where))
        return collection.shard.count(request)

    def delete_points(self, of: Description, ids: Sequence[PointId]) -> None:
        """Remove those of the points that exist; logged when it returns."""
        collection, wanted = self._find(of), check_ids(ids)
        self._update(collection, edge.UpdateOperation.delete_points([*wanted]), touched=wanted)

    def delete_matching(self, of: Description, where: Condition) -> None:
        """Remove the points that match, all or none; logged when it returns."""
        collection = self._find(of)
        chosen = self._filter(collection, where)
        touched = [] if collection.dirty is None else [*_ids(collection.shard, chosen)]
        everything = edge.Filter(must=[]) if chosen is None else chosen
        self._update(
            collection, edge.UpdateOperation.delete_points_by_filter(everything), touched=touched
        )

    def vectors(self, of: Description, *, limit: int = UNLIMITED) -> NDArray[np.float32]:
        """Give every vector, in the order of ids, up to so many: (points, dims), of unit length."""
        collection = self._find(of)
        points = min(limit, collection.shard.count(edge.CountRequest(exact=True)))
        rows = np.empty((points, collection.description.dims), np.float32)
        records = _records(collection.shard, None, with_vector=True)
        for row, record in enumerate(islice(records, points)):
            rows[row] = record.vector
        return rows

    # ------------------------------------------------------------------ copies

    def begin_copy(self, of: Description, *, follow: bool) -> tuple[Path, Path]:
        """Sync a shard so that it can be copied, until `end_copy`; give it and its folder.

        A copy holds writes back meanwhile, and reads write nothing then. With `follow`,
        what is written from now on is remembered for `catch_up`.
        """
        collection = self._find(of)
        self._sync(collection)
        collection.copying = True
        if follow:
            collection.dirty = set()
        return collection.path, self._root / of.name

    def end_copy(self, of: Description) -> None:
        """Say that the shard is copied and may be written again."""
        self._find(of).copying = False

    def catch_up(self, of: Description, copy: Path, *, limit: int) -> int:
        """Bring up to `limit` remembered writes to a copy; give how many are left."""
        collection = self._find(of)
        if collection.dirty is None:
            raise NotFound(f"collection {of.name} is not being copied; optimise it again")
        require_space(self._root, self._reserve)
        if collection.successor is None:
            collection.successor = _load(collection.description, copy).shard
        for path in collection.indexed - _indexed(collection.successor):
            collection.successor.update(edge.UpdateOperation.create_field_index(path, _FLOAT))
        page = [collection.dirty.pop() for _ in range(min(limit, len(collection.dirty)))]
        if page:
            _repeat(collection.shard, collection.successor, page)
        return len(collection.dirty)

    def change_over(self, of: Description, copy: Path) -> None:
        """Use the copy, which misses nothing, from now on, and remove the old shard."""
        while self.catch_up(of, copy, limit=_PAGE):
            pass
        collection = self._find(of)
        if collection.successor is None:
            raise NotFound(f"collection {of.name} is not being copied; optimise it again")
        collection.successor.flush()
        sync_tree(copy)
        _write_description(self._root / of.name, collection.description, copy.name)
        old = collection.shard
        self._open[of.name] = _Collection(
            collection.description, copy, collection.successor, collection.indexed
        )
        old.close()
        _sweep(self._root / of.name, keep=copy.name)

    def forget_copy(self, of: Description) -> None:
        """Stop remembering writes for a copy that failed, and remove it."""
        collection = self._find(of)
        collection.dirty = None
        if collection.successor is not None:
            collection.successor.close()
            collection.successor = None
        _sweep(self._root / of.name, keep=collection.path.name)

    def adopt(
        self, folder: Path, *, to: str, replace: bool, replacing: Description | None
    ) -> tuple[Description, Size]:
        """Make the collection `to` of a folder with a description and a shard, which is used up.

        With `replace` what has that name is `replacing`, or damaged, or there is nothing.
        The folder lies in the root under a name that is swept, so whatever happens, the collection
        is there as it was or as it becomes.
        """
        name = check_name("collection", to)
        target = self._root / name
        if os.path.lexists(target) and not replace:
            raise AlreadyExists(f"collection {name} exists; restore to another name, or replace it")
        if name in self._open and self.describe(name) != replacing:
            raise Replaced(
                f"collection {name} was made while the snapshot was unpacked, and is as it was;"
                " restore again to replace it"
            )
        try:
            given, shard_name = read_description(folder / COLLECTION_FILE)
            description = dataclasses.replace(given, name=name, creation=uuid.uuid4().hex)
            _load(description, folder / shard_name).shard.close()
        except BaseException as error:  # a panic of the engine is no Exception
            raise Unavailable(
                f"the snapshot does not hold a collection: {what_is_wrong(error)}; restore another"
            ) from error
        if not target.is_dir() or target.is_symlink():
            remove(target)  # a file that somebody put there
            _write_description(folder, description, shard_name)
            folder.rename(target)
            sync_folder(self._root)
            self.open_collection(name)
            return description, self.size(description)
        new = target / _shard_name()
        (folder / shard_name).rename(new)
        opened = _load(description, new)
        _write_description(target, description, new.name)
        if name in self._open:
            old = self._open[name]
            old.shard.close()
            if old.successor is not None:
                old.successor.close()
        self._open[name] = opened
        _sweep(target, keep=new.name)
        return description, self.size(description)

    # ------------------------------------------------------------------ durability

    @property
    def unsynced_since(self) -> float | None:
        """When the oldest write was made that the disk may not have (monotonic, s)."""
        return min((c.since for c in self._open.values() if c.since is not None), default=None)

    def sync(self) -> None:
        """Bring every write to the disk."""
        for collection in self._open.values():
            if collection.since is not None:
                self._sync(collection)

    def close(self) -> None:
        """Close every shard, which syncs it, take its sums, and unlock the root."""
        paths = [collection.path for collection in self._open.values()]
        while self._open:
            collection = self._open.popitem()[1]
            with suppress(OSError):
                forget_sums(collection.path)
                collection.summed = False
            collection.shard.close()
            if collection.successor is not None:
                collection.successor.close()
        ends = time.monotonic() + _CLOSING_SUMS_S
        for path in paths:
            files = finish(take_sums(path), unless=lambda: time.monotonic() > ends)
            with suppress(OSError):
                if files is not None:
                    write_sums(path, files)
        os.close(self._lock)

    def rest(self, *, unless: Callable[[], bool]) -> None:
        """Take the sums of what has been synced since it was written to, unless a call comes."""
        for collection in self._open.values():
            if collection.summed or collection.since is not None or collection.dirty is not None:
                continue
            collection.summing = collection.summing or take_sums(collection.path)
            with suppress(OSError):  # at the next rest, if the disk is better then
                files = finish(collection.summing, unless=unless)
                if files is None:
                    return
                write_sums(collection.path, files)
                collection.summed = True
            collection.summing = None

    def _sync(self, collection: _Collection) -> None:
        since, collection.since = collection.since, None
        try:
            collection.shard.flush()
        except Exception:
            collection.since = since
            raise

    def _update(
        self,
        collection: _Collection,
        operation: edge.UpdateOperation,
        *,
        touched: Sequence[PointId],
    ) -> None:
        require_space(self._root, min(OPENING_BYTES, self._reserve))  # deletions need little
        collection.summing = None
        if collection.summed:
            forget_sums(collection.path)
            collection.summed = False
        if collection.since is None:
            collection.since = time.monotonic()
        if collection.dirty is not None:
            collection.dirty.update(touched)
        collection.shard.update(operation)

    def _filter(self, collection: _Collection, where: Condition) -> edge.Filter | None:
        """Translate a tree; what it compares by ranges is indexed from its first use on."""
        if where == EVERYTHING:
            return None
        for path in paths(where) - collection.indexed:
            if len(collection.indexed) < _INDEXED_PATHS and not collection.copying:
                index = edge.UpdateOperation.create_field_index(path, _FLOAT)
                with suppress(DiskFull):  # it answers without, only slower
                    self._update(collection, index, touched=())
                    collection.indexed.add(path)
        return edge.Filter(must=[_translate(where)])

    def _find(self, of: Description) -> _Collection:
        check_same(self.describe(of.name), of)
        return self._open[of.name]

    def _unknown(self, name: str) -> NotFound:
        known = ", ".join(sorted(self._open)[:20]) or "none"
        return NotFound(f"no collection {name[:80]!r}; this server has {known}")


_KEYWORD: Final = edge.PayloadSchemaType.Keyword
_FLOAT: Final = edge.PayloadSchemaType.Float
_JSON: Final = edge.PayloadSelector.Include(["json"])


def sync_log(folder: Path) -> None:
    """Bring the logs of a collection to the disk, with every update that has returned.

    A log that goes meanwhile is that of a shard whose successor is on the disk.
    """
    for log in folder.glob(f"shard-*/{LOG_FOLDER}"):
        with suppress(FileNotFoundError):
            for path in log.glob("*-[0-9]*"):
                with suppress(FileNotFoundError), path.open("rb") as file:
                    os.fsync(file.fileno())
            sync_folder(log)


def damaged(folder: Path, error: BaseException) -> Unavailable:
    """Say that a collection cannot be opened: to callers without a path, with it in the note."""
    unavailable = Unavailable(
        f"collection {folder.name} is damaged: {what_is_wrong(error)}; its files are kept: restore"
        " a snapshot of it, or its folder from a copy, or delete it"
    )
    unavailable.add_note("; ".join([f"{folder}: {error!r}", *getattr(error, "__notes__", ())]))
    return unavailable


def read_folder(folder: Path) -> tuple[Description, Path]:
    """Give what a collection's folder says that it was made for, and where its shard is.

    Raises what `read_description` does, and ValueError where the folder is no collection's.
    """
    if not folder.is_dir():
        raise ValueError("it is no folder")
    description, shard = read_description(folder / COLLECTION_FILE)
    if description.name != folder.name:
        raise ValueError(f"{COLLECTION_FILE} is of {description.name!r}")
    return description, folder / shard


def read_description(path: Path) -> tuple[Description, str]:
    """Give what a collection's file says: what it was made for, and its shard's folder."""
    facts = json.loads(read_file(path, limit=_DESCRIPTION_BYTES))
    if not isinstance(facts, dict):
        raise ValueError(f"{COLLECTION_FILE} holds no object")
    # One of before 0.1.0 has no sum, and no key but those.
    crc = facts.pop("crc32", None) if not facts.keys() <= _FACTS else of_facts(facts)
    if crc != of_facts(facts):
        raise ValueError(f"{COLLECTION_FILE} is not as it was written")
    text_index = _text_index(facts)
    name, model, fingerprint = facts["name"], facts["model"], facts["fingerprint"]
    quantization: Quantization = facts["quantization"]
    if str(quantization) not in OVERSAMPLING:
        raise ValueError(f"quantization {quantization!r} is unknown")
    dims, shard = facts["dims"], facts["shard"]
    creation = facts.get("creation", "")  # collections of before 0.1.0 have none
    if not isinstance(dims, int) or not isinstance(shard, str) or not isinstance(creation, str):
        raise ValueError(f"{COLLECTION_FILE} has a value of another kind")
    description = Description(
        str(name), str(model), str(fingerprint), dims, quantization, creation, text_index
    )
    return description, check_name("shard", shard)


def _text_index(facts: dict[str, Any]) -> TextIndex | None:
    """Give the text index that a collection's facts have, or ValueError for unknown ones."""
    match facts:
        case {"schema_version": 2}:
            return None
        case {
            "schema_version": 3,
            "text_index": {"field": str(key), "language": str(language)},
        } if language in LANGUAGES:
            return TextIndex(key, language)
        case {"schema_version": 3}:
            raise ValueError(f"text index {facts.get('text_index')!r:.80} is unknown")
    raise ValueError(
        f"schema version {facts['schema_version']}; this attar reads {_SCHEMA} and {_TEXT_SCHEMA}"
    )


def _write_description(folder: Path, description: Description, shard: str) -> None:
    facts: dict[str, Any] = {
        "schema_version": _SCHEMA if description.text_index is None else _TEXT_SCHEMA,
        "name": description.name,
        "model": description.model,
        "fingerprint": description.fingerprint,
        "dims": description.dims,
        "quantization": description.quantization,
        "creation": description.creation,
        "shard": shard,
    }
    if description.text_index is not None:
        facts["text_index"] = dataclasses.asdict(description.text_index)
    facts["crc32"] = of_facts(facts)
    write_whole(folder / COLLECTION_FILE, json.dumps(facts, indent=2).encode())


def _shard_name() -> str:
    return f"shard-{uuid.uuid4().hex}"


def _sweep(folder: Path, *, keep: str) -> None:
    """Remove the shards that are not in use."""
    for path in folder.glob("shard-*"):
        if path.name != keep:
            remove(path)


def _config(description: Description) -> edge.EdgeConfig:
    quantization: Any = None
    if description.quantization == "int8":
        quantization = edge.ScalarQuantizationConfig(type=edge.ScalarType.Int8)
    elif description.quantization == "binary":
        quantization = edge.BinaryQuantizationConfig()
    vectors = edge.EdgeVectorParams(
        size=description.dims,
        distance=edge.Distance.Cosine,
        quantization_config=quantization,
    )
    # A shard has threads of its own, by default four for each core. One store searches one shard at
    # a time, and a shard has one segment: one thread is as fast.
    return edge.EdgeConfig(vectors=vectors, max_search_threads=1)


def _load(description: Description, path: Path) -> _Collection:
    config = json.loads(read_file(path / _ENGINE_FILE, limit=_DESCRIPTION_BYTES))
    if (dims := config["vectors"][""]["size"]) != description.dims:
        raise ValueError(f"its shard has {dims} dims, its description {description.dims}")
    shard = edge.EdgeShard.load(str(path), None)
    if (TEXT in shard.info().payload_schema) != (description.text_index is not None):
        shard.close()
        raise ValueError("its shard and its description differ in whether there is a text index")
    return _Collection(description, path, shard, _indexed(shard))


def _indexed(shard: edge.EdgeShard) -> set[str]:
    return {path for path in shard.info().payload_schema if path not in (TOKENS, TEXT)}


def _params(description: Description, search: Search) -> edge.SearchParams:
    if search.exact:
        unquantised = edge.QuantizationSearchParams(ignore=True)
        return edge.SearchParams(exact=True, quantization=unquantised)
    again = edge.QuantizationSearchParams(
        rescore=True, oversampling=OVERSAMPLING[description.quantization]
    )
    return edge.SearchParams(quantization=again)


def _records(
    shard: edge.EdgeShard, where: edge.Filter | None, *, with_vector: bool
) -> Iterator[Any]:
    offset: Any = None
    while True:
        request = edge.ScrollRequest(
            offset=offset,
            limit=_PAGE,
            filter=where,
            with_payload=False,
            with_vector=with_vector,
        )
        records, offset = shard.scroll(request)
        yield from records
        if offset is None:
            return


def _ids(shard: edge.EdgeShard, where: edge.Filter | None) -> Iterator[PointId]:
    for record in _records(shard, where, with_vector=False):
        yield _id(record.id)


def _repeat(source: edge.EdgeShard, target: edge.EdgeShard, ids: list[PointId]) -> None:
    """Make points of one shard what they are in another: there with the same content, or not."""
    collection = source.retrieve([*ids], with_payload=True, with_vector=True)
    there = [edge.Point(point.id, point.vector or [], point.payload) for point in collection]
    gone = {*ids} - {_id(record.id) for record in collection}
    if there:
        target.update(edge.UpdateOperation.upsert_points(there))
    if gone:
        target.update(edge.UpdateOperation.delete_points([*gone]))


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
                    "another process has the collections of data_dir open; one server at a time can"
                ) from None
            time.sleep(0.02)
        else:
            return descriptor


def _translate(tree: Condition) -> Any:
    match tree:
        case Has():
            return edge.FieldCondition(key=TOKENS, match=edge.MatchAny([*tree.tokens]))
        case Between():
            bounds = edge.RangeFloat(gt=tree.gt, gte=tree.gte, lt=tree.lt, lte=tree.lte)
            return edge.FieldCondition(key=tree.path, range=bounds)
        case Every():
            return edge.Filter(must=[_translate(each) for each in tree.of])
        case Some():
            # The engine takes an empty `should` for one that holds.
            nothing = edge.HasIdCondition(set())
            return edge.Filter(should=[_translate(each) for each in tree.of] or [nothing])
        case Not():
            return edge.Filter(must_not=[_translate(tree.of)])


def _id(value: int | uuid.UUID | str) -> PointId:
    return value if isinstance(value, int) else str(value)


def _point(record: Any) -> Point:
    vector = record.vector
    payload, size = _payload(record.payload)
    return Point(
        _id(record.id),
        payload or {},
        None if vector is None else np.array(vector, np.float32),
        size,
    )


def _payload(stored: Any) -> tuple[Payload | None, int]:
    """Give a payload, and the bytes that it takes in an answer; None where it was not read."""
    if not stored:
        return None, 0
    text = stored["json"]
    return json.loads(text), payload_bytes(text)
