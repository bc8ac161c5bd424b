"""Collections over gRPC."""

import asyncio
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

import numpy as np
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.status_pb2 import Status
from numpy.typing import NDArray

from attar import wire
from attar.errors import InvalidInput
from attar.v1 import collections_pb2, collections_pb2_grpc, info_pb2, tensor_pb2
from attar.values import (
    DEFAULT_CANDIDATES,
    DEFAULT_LIMIT,
    DEFAULT_PAGE,
    Collection,
    PointId,
    SearchMode,
    Snapshot,
    TextIndex,
)

from ..cooperative import off_the_loop, request_bytes
from ..errors import about, to_status
from ..usecases.collections import (
    Budget,
    Collections,
    Hit,
    Point,
    SearchResults,
)
from ..usecases.embed import Items
from ..usecases.hybrid_search import FUSED, Fusion
from ..usecases.reranked_search import Reranker
from . import incremental_protobuf, messages
from .interceptor import Context

R = TypeVar("R")

_STATUS_BYTES: Final = 16  # of one item


class CollectionsService(collections_pb2_grpc.CollectionsServicer):
    """attar.v1.Collections."""

    def __init__(self, collections: Collections, limits: info_pb2.Limits) -> None:
        """Serve these collections within the limits that Info reports."""
        self._collections = collections
        self._limits = limits
        self._max_items = limits.max_items

    async def Create(
        self,
        request: collections_pb2.CreateCollectionRequest,
        context: Context,
    ) -> collections_pb2.CollectionInfo:
        return _describe(
            await self._collections.create(
                request.name,
                model=request.model,
                dims=request.dims if request.HasField("dims") else None,
                quantization=messages.quantization(request.quantization),
                text_index=self._text_index(request),
            )
        )

    async def Delete(
        self,
        request: collections_pb2.DeleteCollectionRequest,
        context: Context,
    ) -> collections_pb2.DeleteCollectionResponse:
        await self._collections.delete(request.name)
        return collections_pb2.DeleteCollectionResponse()

    async def List(
        self,
        request: collections_pb2.ListCollectionsRequest,
        context: Context,
    ) -> collections_pb2.ListCollectionsResponse:
        search_results = await self._collections.list()
        return collections_pb2.ListCollectionsResponse(
            collections=map(_describe, search_results), damaged=self._collections.damaged
        )

    async def Get(
        self,
        request: collections_pb2.GetCollectionRequest,
        context: Context,
    ) -> collections_pb2.CollectionInfo:
        return _describe(await self._collections.get(request.name))

    async def Upsert(
        self, request: collections_pb2.UpsertRequest, context: Context
    ) -> collections_pb2.UpsertResponse:
        ids, payloads, items, vectors = await _apart(lambda: self._points(request))
        done = await self._collections.upsert(
            request.collection,
            ids=ids,
            payloads=payloads,
            items=items,
            vectors=vectors,
            fingerprint=request.fingerprint,
            truncation=messages.truncation(request.truncation),
            all_or_nothing=request.all_or_nothing,
            deadline=messages.deadline(context),
        )
        fingerprint, statuses = done.fingerprint, done.items
        return await incremental_protobuf.serialize(
            collections_pb2.UpsertResponse,
            _STATUS_BYTES * len(statuses),
            lambda: [
                collections_pb2.UpsertResponse(
                    fingerprint=fingerprint, items=messages.statuses(statuses)
                )
            ],
        )

    async def Search(
        self, request: collections_pb2.SearchRequest, context: Context
    ) -> collections_pb2.SearchResponse:
        budget = self._collections.budget()
        search_results = await self._search(request, messages.deadline(context), budget)
        return await incremental_protobuf.serialize(
            collections_pb2.SearchResponse, _size(search_results), lambda: _response(search_results)
        )

    async def SearchBatch(
        self, request: collections_pb2.SearchBatchRequest, context: Context
    ) -> collections_pb2.SearchBatchResponse:
        queries = sum(map(_queries, request.searches))
        with about("searches"):
            if not 1 <= max(queries, len(request.searches)) <= self._max_items:
                raise InvalidInput(
                    f"searches are {len(request.searches)} with {queries} queries; give at least"
                    f" one, and at most {self._max_items} together"
                )
            filters = [search.filter for search in request.searches]
            await _apart(lambda: messages.filters_within(filters, self._limits))
        deadline, budget = messages.deadline(context), self._collections.budget()

        async def run(search: collections_pb2.SearchRequest) -> SearchResults | Status:
            try:
                return await self._search(search, deadline, budget)
            except Exception as error:
                return to_status(error, fields=messages.fields(search))

        results: list[SearchResults | Status] = []
        for first in range(0, len(request.searches), 16):
            results += await asyncio.gather(*map(run, request.searches[first : first + 16]))
        return await incremental_protobuf.serialize(
            collections_pb2.SearchBatchResponse,
            sum(map(_size, results)),
            lambda: map(_result, results),
        )

    async def Retrieve(
        self,
        request: collections_pb2.RetrieveRequest,
        context: Context,
    ) -> collections_pb2.RetrieveResponse:
        search_results = await self._collections.retrieve(
            request.collection,
            await _apart(lambda: messages.ids(request.ids, limit=self._max_items)),
            with_vectors=request.with_vectors,
        )
        response = collections_pb2.RetrieveResponse(fingerprint=search_results.fingerprint)
        return await incremental_protobuf.serialize(
            collections_pb2.RetrieveResponse,
            sum(point.response_bytes for point in search_results.points),
            lambda: itertools.chain([response], _page(type(response), search_results.points)),
        )

    async def Scroll(
        self,
        request: collections_pb2.ScrollRequest,
        context: Context,
    ) -> collections_pb2.ScrollResponse:
        most = self._max_items
        limit = request.limit if request.HasField("limit") else min(DEFAULT_PAGE, most)
        page = await self._collections.scroll(
            request.collection,
            filter=await self._conditions(request.filter),
            limit=messages.whole_number("limit", limit, low=1, high=most),
            cursor=request.cursor,
            with_vectors=request.with_vectors,
        )
        response = collections_pb2.ScrollResponse(fingerprint=page.fingerprint, cursor=page.cursor)
        return await incremental_protobuf.serialize(
            collections_pb2.ScrollResponse,
            sum(point.response_bytes for point in page.points),
            lambda: itertools.chain([response], _page(type(response), page.points)),
        )

    async def DeletePoints(
        self,
        request: collections_pb2.DeletePointsRequest,
        context: Context,
    ) -> collections_pb2.DeletePointsResponse:
        if request.HasField("filter"):
            with about("filter"):
                if request.ids:
                    raise InvalidInput("give either ids or filter, and not both")
                wanted = await self._conditions(request.filter) or {}
            await self._collections.delete_matching(request.collection, wanted)
        else:
            points = await _apart(lambda: messages.ids(request.ids, limit=self._max_items))
            await self._collections.delete_points(request.collection, points)
        return collections_pb2.DeletePointsResponse()

    async def Count(
        self,
        request: collections_pb2.CountRequest,
        context: Context,
    ) -> collections_pb2.CountResponse:
        wanted = await self._conditions(request.filter)
        points = await self._collections.count(request.collection, filter=wanted)
        return collections_pb2.CountResponse(points=points)

    async def Optimize(
        self,
        request: collections_pb2.OptimizeRequest,
        context: Context,
    ) -> collections_pb2.CollectionInfo:
        return _describe(await self._collections.optimize(request.collection))

    async def Snapshot(
        self,
        request: collections_pb2.SnapshotRequest,
        context: Context,
    ) -> collections_pb2.SnapshotInfo:
        return _snapshot(await self._collections.snapshot(request.collection))

    async def ListSnapshots(
        self,
        request: collections_pb2.ListSnapshotsRequest,
        context: Context,
    ) -> collections_pb2.ListSnapshotsResponse:
        search_results = await self._collections.snapshots(request.collection)
        return collections_pb2.ListSnapshotsResponse(snapshots=map(_snapshot, search_results))

    async def DeleteSnapshot(
        self,
        request: collections_pb2.DeleteSnapshotRequest,
        context: Context,
    ) -> collections_pb2.DeleteSnapshotResponse:
        await self._collections.delete_snapshot(request.collection, request.id)
        return collections_pb2.DeleteSnapshotResponse()

    async def Restore(
        self,
        request: collections_pb2.RestoreRequest,
        context: Context,
    ) -> collections_pb2.CollectionInfo:
        return _describe(
            await self._collections.restore(
                request.collection, request.id, to=request.to, replace=request.replace
            )
        )

    async def _conditions(self, struct: Struct) -> dict[str, Any] | None:
        return await _apart(lambda: messages.conditions(struct, self._limits))

    def _points(
        self, request: collections_pb2.UpsertRequest
    ) -> tuple[
        list[PointId], list[dict[str, Any]] | None, Items | None, NDArray[np.float32] | None
    ]:
        """The points' ids and payloads, and the items or the vectors that they have."""
        most, kind = self._max_items, request.WhichOneof("input")
        embedded = kind == "vectors"
        return (
            messages.ids(request.ids, limit=most),
            messages.payloads(request.payloads, limit=most, limits=self._limits),
            None if embedded else messages.items(request, kind, limit=most),
            messages.vectors(request.vectors, limit=most) if embedded else None,
        )

    def _queried(
        self, request: collections_pb2.SearchRequest
    ) -> tuple[Items | None, NDArray[np.float32] | None, list[PointId] | None]:
        """What a search is for: items, vectors or points."""
        most, kind = self._max_items, request.WhichOneof("input")
        return (
            None if kind in ("vectors", "ids") else messages.items(request, kind, limit=most),
            messages.vectors(request.vectors, limit=most) if kind == "vectors" else None,
            messages.ids(request.ids.values, limit=most) if kind == "ids" else None,
        )

    async def _search(
        self, request: collections_pb2.SearchRequest, deadline: float | None, budget: Budget
    ) -> SearchResults:
        most = self._limits.max_search_limit
        limit = request.limit if request.HasField("limit") else min(DEFAULT_LIMIT, most)
        limit = messages.whole_number("limit", limit, low=1, high=most)
        threshold = request.score_threshold if request.HasField("score_threshold") else None
        if threshold is not None and not np.isfinite(threshold):
            with about("score_threshold"):
                raise InvalidInput(f"score_threshold is {threshold}; give a finite number")
        mode = messages.search_mode(request.mode)
        items, vectors, ids = await _apart(lambda: self._queried(request))
        return await self._collections.search(
            request.collection,
            items=items,
            vectors=vectors,
            ids=ids,
            fingerprint=request.fingerprint,
            model=request.model,
            limit=limit,
            offset=messages.whole_number("offset", request.offset, low=0, high=most - limit),
            filter=await self._conditions(request.filter),
            score_threshold=threshold,
            with_payload=request.with_payload,
            exact=request.exact,
            role=messages.role(request.role, default="query"),
            truncation=messages.truncation(request.truncation),
            deadline=deadline,
            budget=budget,
            mode=mode,
            fusion=_fusion(request, mode, most=most),
            reranker=self._reranker(request, limit=limit, most=most),
        )

    def _text_index(self, request: collections_pb2.CreateCollectionRequest) -> TextIndex | None:
        if not request.HasField("text_index"):
            return None
        most = self._limits.max_payload_key_bytes
        return messages.text_index(request.text_index, limit=most)

    def _reranker(
        self, request: collections_pb2.SearchRequest, *, limit: int, most: int
    ) -> Reranker | None:
        if not request.HasField("rerank"):
            return None
        rerank = request.rerank
        queries = max(1, _queries(request))
        wanted = limit + request.offset
        candidates = min(DEFAULT_CANDIDATES, self._max_items // queries, most)
        candidates = max(candidates, wanted)
        if rerank.HasField("candidates"):
            candidates = messages.whole_number(
                "rerank.candidates", rerank.candidates, low=wanted, high=most
            )
        if queries * candidates > self._max_items:
            with about("rerank.candidates"):
                raise InvalidInput(
                    f"candidates are {candidates} for each of {queries} queries, more than"
                    f" max_items, {self._max_items}, together; send fewer queries, or rank fewer"
                )
        return Reranker(
            model=rerank.model,
            version=rerank.version,
            field=messages.short(
                "rerank.field", rerank.field, limit=self._limits.max_payload_key_bytes
            )
            or "text",
            candidates=candidates,
        )


async def _apart(job: Callable[[], R]) -> R:
    """Convert what a request has, in a thread where it is a long one."""
    return await off_the_loop(request_bytes(), job)


def _fusion(request: collections_pb2.SearchRequest, mode: SearchMode, *, most: int) -> Fusion:
    """How a search fuses two rankings: only a hybrid one has an alpha."""
    with about("alpha"):
        alpha = request.alpha if request.HasField("alpha") else None
        if alpha is not None and mode != "hybrid":
            raise InvalidInput(f"alpha is {alpha}, and a {mode} search fuses nothing; leave it out")
        return Fusion(alpha=alpha, candidates=min(FUSED, most))


def _size(search_results: SearchResults | Status) -> int:
    """About how many bytes a search's answer has."""
    if isinstance(search_results, Status):
        return _STATUS_BYTES
    return _STATUS_BYTES * len(search_results.items) + sum(
        hit.response_bytes for hits in search_results.hits for hit in hits
    )


def _response(search_results: SearchResults) -> Iterator[Message | bytes]:
    """A search's answer in parts."""
    kind = collections_pb2.SearchResponse
    yield kind(
        fingerprint=search_results.fingerprint, items=messages.statuses(search_results.items)
    )
    for hits in search_results.hits:
        each = (collections_pb2.Hits(hits=[_hit(hit)]) for hit in hits)
        yield incremental_protobuf.nested(kind, "results", each)


def _result(search_results: SearchResults | Status) -> bytes:
    """One search of several, as a part of their answer."""
    kind = collections_pb2.SearchResult
    result: Message | bytes = (
        kind(error=search_results)
        if isinstance(search_results, Status)
        else incremental_protobuf.nested(kind, "response", _response(search_results))
    )
    return incremental_protobuf.nested(collections_pb2.SearchBatchResponse, "results", [result])


def _page(
    kind: type[collections_pb2.RetrieveResponse | collections_pb2.ScrollResponse],
    points: Sequence[Point],
) -> Iterator[Message]:
    """Points in parts of an answer."""
    for point in points:
        yield kind(ids=[wire.to_id(point.id)], payloads=[wire.to_struct(point.payload)])
    yield kind(vectors=_rows(points))


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


def _describe(info: Collection) -> collections_pb2.CollectionInfo:
    return collections_pb2.CollectionInfo(
        name=info.name,
        model=info.model,
        fingerprint=info.fingerprint,
        dims=info.dims,
        points=info.points,
        quantization=wire.QUANTIZATIONS[info.quantization],
        indexed=info.indexed,
        text_index=None if info.text_index is None else wire.to_text_index(info.text_index),
    )


def _snapshot(snapshot: Snapshot) -> collections_pb2.SnapshotInfo:
    created = Timestamp()
    created.FromMilliseconds(int(snapshot.created_s * 1000))
    return collections_pb2.SnapshotInfo(
        id=snapshot.id,
        collection=snapshot.collection,
        created=created,
        size_bytes=snapshot.size_bytes,
    )


def _hit(hit: Hit) -> collections_pb2.Hit:
    return collections_pb2.Hit(
        id=wire.to_id(hit.id),
        score=hit.score,
        payload=None if hit.payload is None else wire.to_struct(hit.payload),
        parts=hit.parts,
    )
