"""Collections over gRPC."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import numpy as np
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from attar import wire
from attar.errors import InvalidInput
from attar.server.errors import about, to_status
from attar.server.usecases.search import (
    Budget,
    CollectionInfo,
    Collections,
    Hit,
    Point,
    Snapshot,
)
from attar.v1 import collections_pb2, collections_pb2_grpc, info_pb2, tensor_pb2

from . import convert
from .guard import Context

DEFAULT_LIMIT = 10
DEFAULT_PAGE = 100
R = TypeVar("R")

_AT_ONCE: Final = 4096  # bytes of payloads that are converted on the loop


class CollectionsService(collections_pb2_grpc.CollectionsServicer):
    """attar.v1.Collections."""

    def __init__(self, collections: Collections, limits: info_pb2.Limits) -> None:
        """Serve these collections within the limits that Info tells of."""
        self._collections = collections
        self._limits = limits
        self._max_items = limits.max_items

    async def Create(  # noqa: D102 (collections.proto says each)
        self,
        request: collections_pb2.CreateCollectionRequest,
        context: Context,  # noqa: ARG002 (gRPC's signature)
    ) -> collections_pb2.CollectionInfo:
        return _describe(
            await self._collections.create(
                request.name,
                model=request.model,
                dims=request.dims if request.HasField("dims") else None,
                quantization=convert.quantization(request.quantization),
            )
        )

    async def Delete(  # noqa: D102
        self,
        request: collections_pb2.DeleteCollectionRequest,
        context: Context,  # noqa: ARG002
    ) -> collections_pb2.DeleteCollectionResponse:
        await self._collections.delete(request.name)
        return collections_pb2.DeleteCollectionResponse()

    async def List(  # noqa: D102
        self,
        request: collections_pb2.ListCollectionsRequest,  # noqa: ARG002
        context: Context,  # noqa: ARG002
    ) -> collections_pb2.ListCollectionsResponse:
        found = await self._collections.list()
        return collections_pb2.ListCollectionsResponse(collections=map(_describe, found))

    async def Get(  # noqa: D102
        self,
        request: collections_pb2.GetCollectionRequest,
        context: Context,  # noqa: ARG002
    ) -> collections_pb2.CollectionInfo:
        return _describe(await self._collections.get(request.name))

    async def Upsert(  # noqa: D102
        self, request: collections_pb2.UpsertRequest, context: Context
    ) -> collections_pb2.UpsertResponse:
        kind = request.WhichOneof("input")
        embedded = kind == "vectors"
        done = await self._collections.upsert(
            request.collection,
            ids=convert.ids(request.ids, limit=self._max_items),
            payloads=await _apart(
                request.ByteSize(),
                lambda: convert.payloads(
                    request.payloads, limit=self._max_items, limits=self._limits
                ),
            ),
            items=None if embedded else convert.items(request, kind, limit=self._max_items),
            vectors=convert.vectors(request.vectors, limit=self._max_items) if embedded else None,
            fingerprint=request.fingerprint,
            truncation=convert.truncation(request.truncation),
            all_or_nothing=request.all_or_nothing,
            deadline=convert.deadline(context),
        )
        return collections_pb2.UpsertResponse(
            fingerprint=done.fingerprint, items=convert.statuses(done.items)
        )

    async def Search(  # noqa: D102
        self, request: collections_pb2.SearchRequest, context: Context
    ) -> collections_pb2.SearchResponse:
        return await self._search(request, convert.deadline(context), self._collections.budget())

    async def SearchBatch(  # noqa: D102
        self, request: collections_pb2.SearchBatchRequest, context: Context
    ) -> collections_pb2.SearchBatchResponse:
        queries = sum(map(_queries, request.searches))
        with about("searches"):
            if not 1 <= max(queries, len(request.searches)) <= self._max_items:
                raise InvalidInput(
                    f"searches are {len(request.searches)} with {queries} queries; give at least"
                    f" one, and at most {self._max_items} together"
                )
            convert.filters_within([one.filter for one in request.searches], self._limits)
        deadline, budget = convert.deadline(context), self._collections.budget()

        async def one(search: collections_pb2.SearchRequest) -> collections_pb2.SearchResult:
            try:
                response = await self._search(search, deadline, budget)
            except Exception as error:  # noqa: BLE001 (each search ends as its own call would)
                status = to_status(error, fields=convert.fields(search))
                return collections_pb2.SearchResult(error=status)
            return collections_pb2.SearchResult(response=response)

        return collections_pb2.SearchBatchResponse(
            results=await asyncio.gather(*map(one, request.searches))
        )

    async def Retrieve(  # noqa: D102
        self,
        request: collections_pb2.RetrieveRequest,
        context: Context,  # noqa: ARG002
    ) -> collections_pb2.RetrieveResponse:
        found = await self._collections.retrieve(
            request.collection,
            convert.ids(request.ids, limit=self._max_items),
            with_vectors=request.with_vectors,
        )
        return await _apart(
            sum(point.answer_bytes for point in found.points),
            lambda: collections_pb2.RetrieveResponse(
                fingerprint=found.fingerprint,
                ids=[wire.to_id(point.id) for point in found.points],
                payloads=[wire.to_struct(point.payload) for point in found.points],
                vectors=_rows(found.points),
            ),
        )

    async def Scroll(  # noqa: D102
        self,
        request: collections_pb2.ScrollRequest,
        context: Context,  # noqa: ARG002
    ) -> collections_pb2.ScrollResponse:
        most = self._max_items
        limit = request.limit if request.HasField("limit") else min(DEFAULT_PAGE, most)
        page = await self._collections.scroll(
            request.collection,
            filter=await self._conditions(request.filter),
            limit=convert.whole_number("limit", limit, low=1, high=most),
            cursor=request.cursor,
            with_vectors=request.with_vectors,
        )
        return await _apart(
            sum(point.answer_bytes for point in page.points),
            lambda: collections_pb2.ScrollResponse(
                fingerprint=page.fingerprint,
                ids=[wire.to_id(point.id) for point in page.points],
                payloads=[wire.to_struct(point.payload) for point in page.points],
                vectors=_rows(page.points),
                cursor=page.cursor,
            ),
        )

    async def DeletePoints(  # noqa: D102
        self,
        request: collections_pb2.DeletePointsRequest,
        context: Context,  # noqa: ARG002
    ) -> collections_pb2.DeletePointsResponse:
        if request.HasField("filter"):
            with about("filter"):
                if request.ids:
                    raise InvalidInput("give either ids or filter, and not both")
                wanted = await self._conditions(request.filter) or {}
            await self._collections.delete_matching(request.collection, wanted)
        else:
            points = convert.ids(request.ids, limit=self._max_items)
            await self._collections.delete_points(request.collection, points)
        return collections_pb2.DeletePointsResponse()

    async def Count(  # noqa: D102
        self,
        request: collections_pb2.CountRequest,
        context: Context,  # noqa: ARG002
    ) -> collections_pb2.CountResponse:
        wanted = await self._conditions(request.filter)
        points = await self._collections.count(request.collection, filter=wanted)
        return collections_pb2.CountResponse(points=points)

    async def Optimize(  # noqa: D102
        self,
        request: collections_pb2.OptimizeRequest,
        context: Context,  # noqa: ARG002
    ) -> collections_pb2.CollectionInfo:
        return _describe(await self._collections.optimize(request.collection))

    async def Snapshot(  # noqa: D102
        self,
        request: collections_pb2.SnapshotRequest,
        context: Context,  # noqa: ARG002
    ) -> collections_pb2.SnapshotInfo:
        return _snapshot(await self._collections.snapshot(request.collection))

    async def ListSnapshots(  # noqa: D102
        self,
        request: collections_pb2.ListSnapshotsRequest,
        context: Context,  # noqa: ARG002
    ) -> collections_pb2.ListSnapshotsResponse:
        found = await self._collections.snapshots(request.collection)
        return collections_pb2.ListSnapshotsResponse(snapshots=map(_snapshot, found))

    async def DeleteSnapshot(  # noqa: D102
        self,
        request: collections_pb2.DeleteSnapshotRequest,
        context: Context,  # noqa: ARG002
    ) -> collections_pb2.DeleteSnapshotResponse:
        await self._collections.delete_snapshot(request.collection, request.id)
        return collections_pb2.DeleteSnapshotResponse()

    async def Restore(  # noqa: D102
        self,
        request: collections_pb2.RestoreRequest,
        context: Context,  # noqa: ARG002
    ) -> collections_pb2.CollectionInfo:
        return _describe(
            await self._collections.restore(
                request.collection, request.id, to=request.to, replace=request.replace
            )
        )

    async def _conditions(self, given: Struct) -> dict[str, Any] | None:
        return await _apart(given.ByteSize(), lambda: convert.conditions(given, self._limits))

    async def _search(
        self, request: collections_pb2.SearchRequest, deadline: float | None, budget: Budget
    ) -> collections_pb2.SearchResponse:
        kind = request.WhichOneof("input")
        given = kind in ("vectors", "ids")
        most = self._limits.max_search_limit
        limit = request.limit if request.HasField("limit") else min(DEFAULT_LIMIT, most)
        limit = convert.whole_number("limit", limit, low=1, high=most)
        threshold = request.score_threshold if request.HasField("score_threshold") else None
        if threshold is not None and not np.isfinite(threshold):
            with about("score_threshold"):
                raise InvalidInput(f"score_threshold is {threshold}; give a finite number")
        items = self._max_items
        found = await self._collections.search(
            request.collection,
            items=None if given else convert.items(request, kind, limit=items),
            vectors=convert.vectors(request.vectors, limit=items) if kind == "vectors" else None,
            ids=convert.ids(request.ids.values, limit=items) if kind == "ids" else None,
            fingerprint=request.fingerprint,
            limit=limit,
            offset=convert.whole_number("offset", request.offset, low=0, high=most - limit),
            filter=await self._conditions(request.filter),
            score_threshold=threshold,
            with_payload=request.with_payload,
            exact=request.exact,
            role=convert.role(request.role, default="query"),
            truncation=convert.truncation(request.truncation),
            deadline=deadline,
            budget=budget,
        )
        return await _apart(
            sum(hit.answer_bytes for hits in found.hits for hit in hits),
            lambda: collections_pb2.SearchResponse(
                fingerprint=found.fingerprint,
                results=[collections_pb2.Hits(hits=map(_hit, hits)) for hits in found.hits],
                items=convert.statuses(found.items),
            ),
        )


async def _apart(size: int, job: Callable[[], R]) -> R:
    """Do what takes milliseconds, of so many bytes, in a thread, and the rest at once."""
    return job() if size <= _AT_ONCE else await asyncio.to_thread(job)


def _queries(search: collections_pb2.SearchRequest) -> int:
    """How many queries a search claims to have, before it is looked at."""
    match search.WhichOneof("input"):
        case "texts":
            return len(search.texts.values)
        case "ids":
            return len(search.ids.values)
        case "vectors":
            return max(0, *search.vectors.shape[:1])
        case "tensor":
            return max(0, *search.tensor.shape[:1])
        case _:
            return 0


def _rows(points: Sequence[Point]) -> tensor_pb2.Tensor | None:
    rows: list[NDArray[np.float32]] = [p.vector for p in points if p.vector is not None]
    return wire.to_tensor(np.stack(rows)) if rows else None


def _describe(info: CollectionInfo) -> collections_pb2.CollectionInfo:
    return collections_pb2.CollectionInfo(
        name=info.name,
        model=info.model,
        fingerprint=info.fingerprint,
        dims=info.dims,
        points=info.points,
        quantization=wire.QUANTIZATIONS[info.quantization],
        indexed=info.indexed,
    )


def _snapshot(one: Snapshot) -> collections_pb2.SnapshotInfo:
    created = Timestamp()
    created.FromMilliseconds(int(one.created_s * 1000))
    return collections_pb2.SnapshotInfo(
        id=one.id, collection=one.collection, created=created, size_bytes=one.size_bytes
    )


def _hit(hit: Hit) -> collections_pb2.Hit:
    return collections_pb2.Hit(
        id=wire.to_id(hit.id),
        score=hit.score,
        payload=None if hit.payload is None else wire.to_struct(hit.payload),
    )
