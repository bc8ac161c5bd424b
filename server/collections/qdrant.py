"""A Qdrant cluster as a store, through qdrant-client: any number of servers may share it.

A collection's description is kept in the collection's own metadata, written with the collection, so
every server that shares the cluster sees the same space; what lacks it is not attar's and is left
alone. Points look as they do in `qdrant_edge`, and are written with `wait`, so what is acknowledged
is in the cluster's log and found by every search after it. An upsert is one operation: of a
collection with one shard everything or nothing is written, of one with several each shard's part.

A collection's vectors are named by its creation, so the cluster itself refuses a write, a search or
a deletion that was meant for another one of the same name. Its snapshots keep that name: a restored
collection is the creation that was kept. Collections of before have vectors without a name.

The cluster builds indexes by itself, and keeps snapshots on its own disks.
"""

import json
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, Self

import grpc
import numpy as np
from numpy.typing import NDArray

from attar.errors import (
    AlreadyExists,
    AttarError,
    BackendError,
    DeadlineExceeded,
    InvalidInput,
    MissingExtra,
    NotFound,
    NotSupported,
    Overloaded,
    Unavailable,
)
from attar.values import PointId, Snapshot

from ..disk import check_name
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

try:
    from qdrant_client import AsyncQdrantClient, models
    from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse
except ImportError as error:
    what = "a Qdrant cluster"
    raise MissingExtra(what, "qdrant") from error

TIMEOUT_S: Final = 30
_KEY: Final = "attar"
_SCHEMA: Final = 1
_JSON: Final = ["json"]  # of a stored payload; the rest is what filters compare
_PAGE: Final = 1000
_INDEXED_PATHS: Final = 1024  # of all collections; each index costs the cluster memory
_ERRORS: Final[Mapping[grpc.StatusCode, type[AttarError]]] = MappingProxyType(
    {
        grpc.StatusCode.NOT_FOUND: NotFound,
        grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
        grpc.StatusCode.INVALID_ARGUMENT: InvalidInput,
        grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
        grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
        grpc.StatusCode.UNAVAILABLE: Unavailable,
        grpc.StatusCode.UNAUTHENTICATED: Unavailable,
        grpc.StatusCode.PERMISSION_DENIED: Unavailable,
    }
)
_HTTP: Final[Mapping[int, type[AttarError]]] = MappingProxyType(
    {
        400: InvalidInput,
        401: Unavailable,
        403: Unavailable,
        404: NotFound,
        409: AlreadyExists,
        429: Overloaded,
        503: Unavailable,
    }
)


class QdrantStore:
    """A `Store` on a Qdrant cluster, or on qdrant-client's own engine."""

    damaged: Mapping[str, str] = MappingProxyType({})

    def __init__(self, client: AsyncQdrantClient, *, url: str = "", api_key: str = "") -> None:
        """Use a client; `url` and `api_key` let the cluster fetch a snapshot from itself."""
        self._client = client
        self._url = url.rstrip("/")
        self._api_key = api_key
        self._indexed: set[tuple[str, str, str]] = set()

    @classmethod
    async def connect(cls, url: str, *, grpc_port: int, api_key: str = "") -> Self:
        """Reach a cluster by the URL of its HTTP port, or raise `Unavailable`."""
        with warnings.catch_warnings():
            # A key over plain HTTP: the operator chose both, and the setting's words warn.
            warnings.simplefilter("ignore", UserWarning)
            client = AsyncQdrantClient(
                url=url,
                grpc_port=grpc_port,
                prefer_grpc=True,
                api_key=api_key or None,
                timeout=TIMEOUT_S,
                check_compatibility=False,
            )
        store = cls(client, url=url, api_key=api_key)
        try:
            await store.names()
        except AttarError:
            await client.close()
            raise
        return store

    async def names(self) -> list[str]:
        """List attar's collections in the cluster."""
        with _typed_errors():
            every = (await self._client.get_collections()).collections
        return sorted(
            [
                collection.name
                for collection in every
                if await self._described(collection.name) is not None
            ]
        )

    async def create(self, description: Description) -> None:
        """Make an empty collection, whole or not at all; raises `AlreadyExists`."""
        name = check_name("collection", description.name)
        if description.text_index is not None:
            raise _no_text_index()
        facts = {
            "schema_version": _SCHEMA,
            "model": description.model,
            "fingerprint": description.fingerprint,
            "dims": description.dims,
            "quantization": description.quantization,
            "creation": description.creation,
        }
        with _typed_errors():
            if await self._client.collection_exists(name):
                raise AlreadyExists(f"collection {name} exists; choose another name or delete it")
            await self._client.create_collection(
                name,
                vectors_config={
                    description.creation: models.VectorParams(
                        size=description.dims, distance=models.Distance.COSINE
                    )
                },
                quantization_config=_quantization(description),
                metadata={_KEY: facts},
            )
            await self._index(name, TOKENS, models.PayloadSchemaType.KEYWORD)

    async def delete(self, name: str) -> None:
        """Remove a collection."""
        await self.describe(check_name("collection", name))
        with _typed_errors():
            await self._client.delete_collection(name)

    async def describe(self, name: str) -> Description:
        """Give what a collection was made for."""
        description = await self._described(name)
        if description is None:
            raise _unknown(name)
        return description

    async def size(self, of: Description) -> Size:
        """Count a collection's points."""
        async with self._same(of):
            points = (await self._client.count(of.name, exact=True)).count
            indexed = (await self._client.get_collection(of.name)).indexed_vectors_count
        return Size(points, min(indexed or 0, points))

    async def upsert(
        self,
        of: Description,
        ids: Sequence[PointId],
        vectors: NDArray[np.float32],
        payloads: Sequence[Payload],
    ) -> None:
        """Add or replace points: (n, dims) vectors."""
        canonical, unit, texts = check_points(of, ids, vectors, payloads)
        points = [
            models.PointStruct(
                id=point_id,
                vector={of.creation: vector.tolist()} if of.creation else vector.tolist(),
                payload={"json": text, **comparable(payload)},
            )
            for point_id, vector, text, payload in zip(
                canonical, unit, texts, payloads, strict=True
            )
        ]
        async with self._same(of):
            await self._client.upsert(of.name, points, wait=True)

    async def search(
        self, of: Description, vectors: NDArray[np.float32], search: Search
    ) -> list[list[Hit]]:
        """Give each query's hits, best first: (n, dims) vectors."""
        where = await self._filter(of, search.where)
        requests = [
            models.QueryRequest(
                query=vector.tolist(),
                using=of.creation or None,
                filter=where,
                params=_params(of, search),
                limit=search.limit,
                offset=search.offset,
                with_payload=_JSON if search.with_payload else False,
            )
            for vector in unit_vectors(vectors, of)
        ]
        async with self._same(of):
            responses = await self._client.query_batch_points(of.name, requests)
        lowest = -np.inf if search.score_threshold is None else search.score_threshold
        return [
            [
                Hit(_id(point.id), score, *_payload(point.payload))
                for point in response.points
                if (score := similarity(point.score)) >= lowest
            ]
            for response in responses
        ]

    async def keyword_search(
        self, of: Description, texts: Sequence[str], search: Search
    ) -> list[list[Hit]]:
        """Refuse: no collection of a cluster has a text index."""
        check_same(await self.describe(of.name), of)
        raise _no_text_index()

    async def retrieve(
        self,
        of: Description,
        ids: Sequence[PointId],
        *,
        with_vectors: bool,
        with_payload: bool = True,
        max_bytes: int = UNLIMITED,
    ) -> list[Point]:
        """Give the points that exist, in the order of `ids`, or refuse above `max_bytes`."""
        wanted = check_ids(ids)
        points: dict[PointId, Point] = {}
        size = 0
        async with self._same(of):
            for first in range(0, len(wanted), PAGE):
                for record in await self._client.retrieve(
                    of.name,
                    wanted[first : first + PAGE],
                    with_payload=_JSON if with_payload else False,
                    with_vectors=with_vectors,
                ):
                    point = _point(record)
                    points[point.id] = point
                    size += point.response_bytes
                refuse_large_response(size, max_bytes)
        return [points[point_id] for point_id in wanted if point_id in points]

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
        """Give a page of the points that match, from `start` on, which may end at `max_bytes`."""
        chosen = await self._filter(of, where)
        points: list[Point] = []
        following: Any = start
        async with self._same(of):
            while True:
                records, following = await self._client.scroll(
                    of.name,
                    scroll_filter=chosen,
                    limit=min(PAGE, limit - len(points)),
                    offset=following,
                    with_payload=_JSON,
                    with_vectors=with_vectors,
                )
                for record in records:
                    point = _point(record)
                    max_bytes -= point.response_bytes
                    if max_bytes < 0 and points:
                        return Page(tuple(points), point.id)
                    points.append(point)
                if following is None or len(points) >= limit:
                    return Page(tuple(points), None if following is None else _id(following))

    async def count(self, of: Description, where: Condition) -> int:
        """Count the points that match."""
        chosen = await self._filter(of, where)
        async with self._same(of):
            return (await self._client.count(of.name, chosen, exact=True)).count

    async def delete_points(self, of: Description, ids: Sequence[PointId]) -> None:
        """Remove those of the points that exist."""
        await self._delete(of, models.HasIdCondition(has_id=[*check_ids(ids)]))

    async def delete_matching(self, of: Description, where: Condition) -> None:
        """Remove the points that match."""
        await self._delete(of, await self._filter(of, where) or models.Filter())

    async def vectors(self, of: Description, *, limit: int = UNLIMITED) -> NDArray[np.float32]:
        """Give every vector, in the order of ids, up to so many: (points, dims)."""
        rows = list[NDArray[np.float32] | None]()
        async with aclosing(self._points(of)) as points:
            async for point in points:
                if len(rows) >= limit:
                    break
                rows.append(point.vector)
        return np.array(rows, np.float32).reshape(len(rows), of.dims)

    async def optimize(self, of: Description) -> None:
        """Do nothing: the cluster builds its indexes by itself."""
        check_same(await self.describe(of.name), of)

    async def snapshot(self, of: Description) -> Snapshot:
        """Keep a collection as it is now, on the cluster's disks."""
        async with self._same(of):
            snapshot_description = await self._client.create_snapshot(of.name, wait=True)
        if snapshot_description is None:
            raise Unavailable(f"the cluster made no snapshot of collection {of.name}; retry")
        return _snapshot(of.name, snapshot_description)

    async def snapshots(self, name: str) -> list[Snapshot]:
        """List a collection's snapshots, oldest first."""
        with _typed_errors():
            descriptions = await self._client.list_snapshots(check_name("collection", name))
        snapshots = (_snapshot(name, snapshot) for snapshot in descriptions)
        return sorted(snapshots, key=lambda snapshot: (snapshot.created_s, snapshot.id))

    async def restore(
        self, name: str, snapshot: str, *, to: str, replace: bool
    ) -> tuple[Description, Size]:
        """Make the collection `to` of a snapshot of `name`; the cluster checks it."""
        await self._require_snapshot(name, snapshot)
        with _typed_errors():
            if await self._client.collection_exists(check_name("collection", to)) and not replace:
                raise AlreadyExists(
                    f"collection {to} exists; restore to another name, or replace it"
                )
            await self._client.recover_snapshot(
                to,
                f"{self._url}/collections/{name}/snapshots/{snapshot}",
                api_key=self._api_key or None,
                priority=models.SnapshotPriority.SNAPSHOT,
                wait=True,
            )
        snapshot_description = await self.describe(to)
        return snapshot_description, await self.size(snapshot_description)

    async def delete_snapshot(self, name: str, snapshot: str) -> None:
        """Remove a snapshot."""
        await self._require_snapshot(name, snapshot)
        with _typed_errors():
            await self._client.delete_snapshot(name, snapshot, wait=True)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _require_snapshot(self, name: str, snapshot: str) -> None:
        """Raise `NotFound` unless the collection has that snapshot: names become part of a URL."""
        if snapshot not in [known.id for known in await self.snapshots(name)]:
            raise NotFound(f"snapshot {snapshot[:80]!r} is not there; list those of the collection")

    async def _described(self, name: str) -> Description | None:
        """Give a collection's description; None for one that is not there or not attar's."""
        with _typed_errors():
            if not await self._client.collection_exists(name):
                return None
            metadata = (await self._client.get_collection(name)).config.metadata or {}
        facts = metadata.get(_KEY)
        if not isinstance(facts, dict) or facts.get("schema_version") != _SCHEMA:
            return None
        return Description(
            name,
            str(facts["model"]),
            str(facts["fingerprint"]),
            int(facts["dims"]),
            facts["quantization"],
            str(facts.get("creation", "")),
        )

    @asynccontextmanager
    async def _same(self, of: Description) -> AsyncIterator[None]:
        """Raise `Replaced` where what the cluster answered, or refused, was about another one.

        No creation comes back, so what is still there afterwards was there all the time.
        """
        with _typed_errors():
            try:
                yield
            except Exception:
                check_same(await self.describe(of.name), of)
                raise
        check_same(await self.describe(of.name), of)

    async def _delete(self, of: Description, chosen: models.Condition) -> None:
        """Remove points that match and have this collection's vector, which no other's have."""
        own = models.HasVectorCondition(has_vector=of.creation)
        selector = models.FilterSelector(filter=models.Filter(must=[own, chosen]))
        async with self._same(of):
            await self._client.delete(of.name, selector, wait=True)

    async def _filter(self, of: Description, where: Condition) -> models.Filter | None:
        """Translate a tree; what it compares by ranges is indexed from its first use on."""
        for path in paths(where):
            indexed = (of.name, of.creation, path)
            if indexed not in self._indexed and len(self._indexed) < _INDEXED_PATHS:
                await self._index(of.name, path, models.PayloadSchemaType.FLOAT)
                self._indexed.add(indexed)
        return None if where == EVERYTHING else models.Filter(must=[_translate(where)])

    async def _index(self, name: str, path: str, kind: models.PayloadSchemaType) -> None:
        with _typed_errors():
            await self._client.create_payload_index(name, path, field_schema=kind)

    async def _points(self, of: Description) -> AsyncGenerator[Point, None]:
        start: PointId | None = None
        while True:
            page = await self.scroll(
                of, where=EVERYTHING, limit=_PAGE, start=start, with_vectors=True
            )
            for point in page.points:
                yield point
            if (start := page.following) is None:
                return


@contextmanager
def _typed_errors() -> Iterator[None]:
    """Raise what the cluster, or the way to it, says in attar's words."""
    try:
        yield
    except grpc.RpcError as error:
        code = error.code()
        message = f"the Qdrant cluster answered {code.name}: {error.details()}"
        if (kind := _ERRORS.get(code, BackendError)) is Unavailable:
            message += "; check qdrant_url, qdrant_grpc_port and the key"
        raise kind(message) from error
    except UnexpectedResponse as error:
        message = f"the Qdrant cluster answered HTTP {error.status_code} {error.reason_phrase}"
        raise _HTTP.get(error.status_code or 0, BackendError)(message) from error
    except ResourceExhaustedResponse as error:
        raise Overloaded(f"the Qdrant cluster refused for now: {error}") from error
    except ResponseHandlingException as error:
        raise Unavailable(f"no Qdrant cluster answers: {error}; check qdrant_url") from error
    except NotImplementedError as error:
        raise NotSupported(f"qdrant-client's own engine cannot do that: {error}") from error


def _no_text_index() -> NotSupported:
    return NotSupported(
        "a Qdrant cluster (qdrant_url) keeps no text index; keep collections in data_dir for"
        " keyword and hybrid searches, or leave text_index out and search with mode dense"
    )


def _unknown(name: str) -> NotFound:
    return NotFound(f"no collection {name[:80]!r} of attar's in the Qdrant cluster; list them")


def _quantization(description: Description) -> models.QuantizationConfig | None:
    match description.quantization:
        case "int8":
            return models.ScalarQuantization(
                scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8)
            )
        case "binary":
            return models.BinaryQuantization(binary=models.BinaryQuantizationConfig())
        case _:
            return None


def _params(description: Description, search: Search) -> models.SearchParams:
    if search.exact:
        unquantised = models.QuantizationSearchParams(ignore=True)
        return models.SearchParams(exact=True, quantization=unquantised)
    again = models.QuantizationSearchParams(
        rescore=True, oversampling=OVERSAMPLING[description.quantization]
    )
    return models.SearchParams(quantization=again)


def _translate(tree: Condition) -> Any:
    match tree:
        case Has():
            return models.FieldCondition(key=TOKENS, match=models.MatchAny(any=[*tree.tokens]))
        case Between():
            bounds = models.Range(gt=tree.gt, gte=tree.gte, lt=tree.lt, lte=tree.lte)
            return models.FieldCondition(key=tree.path, range=bounds)
        case Every():
            return models.Filter(must=[_translate(each) for each in tree.of])
        case Some():
            # Qdrant takes an empty `should` for one that holds.
            nothing = models.HasIdCondition(has_id=[])
            return models.Filter(should=[_translate(each) for each in tree.of] or [nothing])
        case Not():
            return models.Filter(must_not=[_translate(tree.of)])


def _snapshot(name: str, snapshot_description: models.SnapshotDescription) -> Snapshot:
    created = (
        datetime.fromisoformat(snapshot_description.creation_time)
        if snapshot_description.creation_time
        else None
    )
    seconds = created.replace(tzinfo=created.tzinfo or UTC).timestamp() if created else 0.0
    return Snapshot(snapshot_description.name, name, seconds, snapshot_description.size)


def _id(value: Any) -> PointId:
    return value if isinstance(value, int) else str(value)


def _point(record: models.Record) -> Point:
    vector: Any = record.vector
    if isinstance(vector, dict):  # under the collection's creation
        (vector,) = vector.values()
    payload, size = _payload(record.payload)
    return Point(
        _id(record.id),
        payload or {},
        None if vector is None else np.asarray(vector, np.float32),
        size,
    )


def _payload(stored: Any) -> tuple[Payload | None, int]:
    """Give a payload, and the bytes that it takes in an answer; None where it was not read."""
    if not stored:
        return None, 0
    text = stored["json"]
    return json.loads(text), payload_bytes(text)
