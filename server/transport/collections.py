"""Collections over gRPC."""

import numpy as np

from attar import wire
from attar.errors import InvalidInput
from attar.server.errors import about
from attar.server.usecases.search import CollectionInfo, Collections, Hit
from attar.v1 import collections_pb2, collections_pb2_grpc

from . import convert
from .guard import Context

DEFAULT_LIMIT = 10


class CollectionsService(collections_pb2_grpc.CollectionsServicer):
    """attar.v1.Collections."""

    def __init__(self, collections: Collections, *, max_items: int, max_search_limit: int) -> None:
        """Serve these collections."""
        self._collections = collections
        self._max_items = max_items
        self._max_search_limit = max_search_limit

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
            payloads=convert.payloads(request.payloads),
            items=None if embedded else convert.items(request, kind, limit=self._max_items),
            vectors=convert.vectors(request.vectors, limit=self._max_items) if embedded else None,
            fingerprint=request.fingerprint,
            truncation=convert.truncation(request.truncation),
            deadline=convert.deadline(context),
        )
        return collections_pb2.UpsertResponse(
            fingerprint=done.fingerprint, items=convert.statuses(done.items)
        )

    async def Search(  # noqa: D102
        self, request: collections_pb2.SearchRequest, context: Context
    ) -> collections_pb2.SearchResponse:
        kind = request.WhichOneof("input")
        embedded = kind == "vectors"
        most = self._max_search_limit
        limit = request.limit if request.HasField("limit") else min(DEFAULT_LIMIT, most)
        threshold = request.score_threshold if request.HasField("score_threshold") else None
        if threshold is not None and not np.isfinite(threshold):
            with about("score_threshold"):
                raise InvalidInput(f"score_threshold is {threshold}; give a finite number")
        found = await self._collections.search(
            request.collection,
            items=None if embedded else convert.items(request, kind, limit=self._max_items),
            vectors=convert.vectors(request.vectors, limit=self._max_items) if embedded else None,
            fingerprint=request.fingerprint,
            limit=convert.whole_number("limit", limit, low=1, high=most),
            filter=convert.conditions(request.filter),
            score_threshold=threshold,
            with_payload=request.with_payload,
            role=convert.role(request.role, default="query"),
            truncation=convert.truncation(request.truncation),
            deadline=convert.deadline(context),
        )
        return collections_pb2.SearchResponse(
            fingerprint=found.fingerprint,
            results=[collections_pb2.Hits(hits=map(_hit, hits)) for hits in found.hits],
            items=convert.statuses(found.items),
        )

    async def Retrieve(  # noqa: D102
        self,
        request: collections_pb2.RetrieveRequest,
        context: Context,  # noqa: ARG002
    ) -> collections_pb2.RetrieveResponse:
        info = await self._collections.get(request.collection)
        points = await self._collections.retrieve(
            request.collection,
            convert.ids(request.ids, limit=self._max_items),
            with_vectors=request.with_vectors,
        )
        rows = [point.vector for point in points if point.vector is not None]
        return collections_pb2.RetrieveResponse(
            fingerprint=info.fingerprint,
            ids=[wire.to_id(point.id) for point in points],
            payloads=[wire.to_struct(point.payload) for point in points],
            vectors=wire.to_tensor(np.stack(rows)) if rows else None,
        )

    async def DeletePoints(  # noqa: D102
        self,
        request: collections_pb2.DeletePointsRequest,
        context: Context,  # noqa: ARG002
    ) -> collections_pb2.DeletePointsResponse:
        points = convert.ids(request.ids, limit=self._max_items)
        await self._collections.delete_points(request.collection, points)
        return collections_pb2.DeletePointsResponse()

    async def Count(  # noqa: D102
        self,
        request: collections_pb2.CountRequest,
        context: Context,  # noqa: ARG002
    ) -> collections_pb2.CountResponse:
        wanted = convert.conditions(request.filter)
        points = await self._collections.count(request.collection, filter=wanted)
        return collections_pb2.CountResponse(points=points)


def _describe(info: CollectionInfo) -> collections_pb2.CollectionInfo:
    return collections_pb2.CollectionInfo(
        name=info.name,
        model=info.model,
        fingerprint=info.fingerprint,
        dims=info.dims,
        points=info.points,
    )


def _hit(hit: Hit) -> collections_pb2.Hit:
    return collections_pb2.Hit(
        id=wire.to_id(hit.id),
        score=hit.score,
        payload=None if hit.payload is None else wire.to_struct(hit.payload),
    )
