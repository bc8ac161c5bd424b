"""Calls of the service Collections."""

from collections.abc import Iterable, Iterator, Sized
from itertools import islice
from typing import Any, Final, TypeAlias, cast
from uuid import UUID

import numpy as np
from google.protobuf.struct_pb2 import Struct
from numpy.typing import NDArray

from attar import wire
from attar.errors import AttarError, InvalidInput, ShapeError
from attar.inputs import Role, Truncation
from attar.v1 import collections_pb2, tensor_pb2
from attar.values import (
    DEFAULT_LIMIT,
    DEFAULT_PAGE,
    LANGUAGES,
    Collection,
    Hit,
    Listing,
    Page,
    Point,
    PointId,
    Quantization,
    SearchMode,
    SearchResults,
    Snapshot,
    TextIndex,
    Upserted,
)

from .call import (
    DEADLINE_S,
    LONG_S,
    MATRIX_AXES,
    Call,
    Filter,
    Items,
    Payload,
    Vectors,
    among,
    decode_nothing,
    enum_number,
    error_from,
    item_errors,
    items_fields,
    make_call,
    row_of,
    stack,
    truncated_flags,
)

Part: TypeAlias = tuple[int, Call[Upserted]]
"""A call of a long write, and how many points it writes."""

_POINT: Final = 3  # id, item and payload


def create_collection(
    name: str,
    *,
    model: str = "",
    dims: int | None = None,
    quantization: Quantization = "none",
    text_index: TextIndex | None = None,
    deadline_s: float = DEADLINE_S,
) -> Call[Collection]:
    """A new collection in the space of `model`; AlreadyExists when the name is taken.

    `dims` is the width of its vectors, one of the model's, by default the whole. With
    `quantization` the quantised vectors only choose candidates: whole ones score them. With a
    `text_index`, such as `TextIndex(field="text", language="english")`, each point's payload has a
    text, by whose words keyword and hybrid searches rank.
    """
    request = wire.message(
        collections_pb2.CreateCollectionRequest,
        name=name,
        model=model,
        dims=dims,
        quantization=enum_number("quantization", quantization, wire.QUANTIZATIONS),
        text_index=None if text_index is None else wire.to_text_index(text_index),
    )
    response = collections_pb2.CollectionInfo
    return make_call("Collections/Create", request, response, _collection, deadline_s)


def delete_collection(name: str, *, deadline_s: float = DEADLINE_S) -> Call[None]:
    """Delete a collection and all its points."""
    request = wire.message(collections_pb2.DeleteCollectionRequest, name=name)
    response = collections_pb2.DeleteCollectionResponse
    return make_call("Collections/Delete", request, response, decode_nothing, deadline_s)


def collection(name: str, *, deadline_s: float = DEADLINE_S) -> Call[Collection]:
    """One collection; NotFound names those that exist."""
    request = wire.message(collections_pb2.GetCollectionRequest, name=name)
    return make_call(
        "Collections/Get", request, collections_pb2.CollectionInfo, _collection, deadline_s
    )


def collections(*, deadline_s: float = DEADLINE_S) -> Call[Listing[Collection]]:
    """Every collection that can be used; its `damaged` names the others, and why."""

    def decode(response: collections_pb2.ListCollectionsResponse) -> Listing[Collection]:
        return Listing(map(_collection, response.collections), response.damaged)

    request = collections_pb2.ListCollectionsRequest()
    response = collections_pb2.ListCollectionsResponse
    return make_call("Collections/List", request, response, decode, deadline_s)


def upsert(
    collection: str,
    ids: Iterable[PointId | UUID],
    items: Items | None = None,
    *,
    vectors: Vectors | None = None,
    fingerprint: str = "",
    payloads: Iterable[Payload] | None = None,
    truncation: Truncation = "truncate",
    all_or_nothing: bool = False,
    partial: bool = False,
    deadline_s: float = DEADLINE_S,
) -> Call[Upserted]:
    """Write points by id, from items or from vectors that were embedded before.

    `ids` has one for each item: a whole number below 2^64 or a UUID. Vectors and payloads are
    written together, as one; an item that cannot be embedded is left out, or with `all_or_nothing`
    nothing is written. `vectors` are (n, dims) floats and need the `fingerprint` of their space; an
    `Embedded` brings its own. It is repeated after a failure: points are kept by id, so writing one
    twice does no harm.
    """
    request = wire.message(
        collections_pb2.UpsertRequest,
        collection=collection,
        ids=_ids(ids),
        payloads=_payloads(payloads, ids),
        truncation=enum_number("truncation", truncation, wire.TRUNCATIONS),
        all_or_nothing=all_or_nothing,
        **_input(items, vectors, fingerprint),
    )

    def decode(response: collections_pb2.UpsertResponse) -> Upserted:
        errors = item_errors(response.items, partial=partial)
        return Upserted(errors, truncated_flags(response.items), response.fingerprint)

    hint = "or send fewer points a call, as upsert_all does"
    response = collections_pb2.UpsertResponse
    return make_call("Collections/Upsert", request, response, decode, deadline_s, hint=hint)


def search(
    collection: str,
    items: Items | None = None,
    *,
    vectors: Vectors | None = None,
    ids: Iterable[PointId | UUID] | None = None,
    fingerprint: str = "",
    model: str = "",
    limit: int = DEFAULT_LIMIT,
    offset: int = 0,
    filter: Filter | None = None,
    score_threshold: float | None = None,
    with_payload: bool = True,
    exact: bool = False,
    role: Role = "query",
    truncation: Truncation = "truncate",
    mode: SearchMode = "dense",
    alpha: float | None = None,
    rerank: str | None = None,
    rerank_field: str = "text",
    candidates: int | None = None,
    partial: bool = False,
    deadline_s: float = DEADLINE_S,
) -> Call[SearchResults]:
    """The `limit` best points of each query, after the first `offset`: the nearest by cosine.

    With `mode` "keyword" they are the best by BM25 of the query's words, and with "hybrid" by both:
    by the sum of 1 / (60 + rank), or where `alpha` is given by the sum of alpha times the dense and
    1 - alpha times the keyword score, each scaled to [0, 1]. `parts` of a hybrid hit has the scores
    and ranks by name. Both take texts, and a collection with a `text_index`.

    Queries are items, vectors, (n, dims) floats with the `fingerprint` of their space, or the ids
    of points, which do not find themselves. No hit scores below `score_threshold`. Without
    `with_payload` hits have empty payloads. `filter` keeps
    points whose payload has each value, or one of each list of values, or lies in a range such as
    `{"price": {"gte": 5}}`; `$all`, `$any` and `$not` combine filters. `exact` compares every
    vector, where an index may miss a few.

    `model` embeds the items, by default the collection's own. Another model, or vectors of another
    space, are taken where the server has a bundle of that space whose `compatible_with` names the
    collection's; SpaceMismatch otherwise.

    `rerank` names a model that ranks the `candidates` nearest points of each text anew, by default
    50 at most, by the text that each has in its payload at `rerank_field`. A hit's score is then
    the reranker's, and its `parts` have the similarity too.
    """
    request = wire.message(
        collections_pb2.SearchRequest,
        collection=collection,
        mode=enum_number("mode", mode, wire.SEARCH_MODES),
        alpha=alpha,
        rerank=_rerank(rerank, rerank_field, candidates),
        model=model,
        limit=limit,
        offset=offset,
        filter=_filter(filter),
        score_threshold=score_threshold,
        with_payload=with_payload,
        exact=exact,
        role=enum_number("role", role, wire.ROLES),
        truncation=enum_number("truncation", truncation, wire.TRUNCATIONS),
        **_query(items, vectors, ids, fingerprint),
    )

    def decode(response: collections_pb2.SearchResponse) -> SearchResults:
        return _search_results(response, partial=partial)

    return make_call(
        "Collections/Search", request, collections_pb2.SearchResponse, decode, deadline_s
    )


def search_batch(
    searches: Iterable[Call[SearchResults]],
    *,
    partial: bool = False,
    deadline_s: float = DEADLINE_S,
) -> Call[tuple[SearchResults | AttarError, ...]]:
    """Different searches, each made by `search`, in one call; their own deadlines do not count.

    A search that fails as a whole raises its error; with `partial` the error stands in its place.
    """
    requests = [getattr(call, "request", call) for call in row_of("searches", searches)]
    for index, message in enumerate(requests):
        if not isinstance(message, collections_pb2.SearchRequest):
            raise InvalidInput(f"searches[{index}] is no search; make each with calls.search")
    request = wire.message(collections_pb2.SearchBatchRequest, searches=cast("Any", requests))

    def decode(
        response: collections_pb2.SearchBatchResponse,
    ) -> tuple[SearchResults | AttarError, ...]:
        outcomes: list[SearchResults | AttarError] = []
        for result in response.results:
            if result.HasField("response"):
                outcomes.append(_search_results(result.response, partial=partial))
            elif partial:
                outcomes.append(error_from(result.error))
            else:
                raise error_from(result.error)
        return tuple(outcomes)

    response = collections_pb2.SearchBatchResponse
    return make_call("Collections/SearchBatch", request, response, decode, deadline_s)


def retrieve(
    collection: str,
    ids: Iterable[PointId | UUID],
    *,
    with_vectors: bool = False,
    deadline_s: float = DEADLINE_S,
) -> Call[tuple[Point, ...]]:
    """The points of these `ids` that exist; `with_vectors` gives their vectors, (dims,), too."""
    request = wire.message(
        collections_pb2.RetrieveRequest,
        collection=collection,
        ids=_ids(ids, any_order=True),
        with_vectors=with_vectors,
    )
    response = collections_pb2.RetrieveResponse
    return make_call("Collections/Retrieve", request, response, _points, deadline_s)


def scroll(
    collection: str,
    *,
    filter: Filter | None = None,
    limit: int = DEFAULT_PAGE,
    cursor: str = "",
    with_vectors: bool = False,
    deadline_s: float = DEADLINE_S,
) -> Call[Page]:
    """A page of at most `limit` points that pass the filter, in the order of ids.

    `cursor` is that of the page before; `with_vectors` gives the vectors, (dims,), too.
    """
    request = wire.message(
        collections_pb2.ScrollRequest,
        collection=collection,
        filter=_filter(filter),
        limit=limit,
        cursor=cursor,
        with_vectors=with_vectors,
    )

    def decode(response: collections_pb2.ScrollResponse) -> Page:
        return Page(_points(response), response.cursor, response.fingerprint)

    return make_call(
        "Collections/Scroll", request, collections_pb2.ScrollResponse, decode, deadline_s
    )


def delete_points(
    collection: str,
    ids: Iterable[PointId | UUID] | None = None,
    *,
    filter: Filter | None = None,
    deadline_s: float = DEADLINE_S,
) -> Call[None]:
    """Delete points by `ids`, or those that pass a `filter`; a missing one is no error."""
    if (ids is None) == (filter is None):
        raise InvalidInput("give either ids or filter, and not both")
    request = wire.message(
        collections_pb2.DeletePointsRequest,
        collection=collection,
        ids=_ids(() if ids is None else ids, any_order=True),
        filter=_filter(filter),
    )
    response = collections_pb2.DeletePointsResponse
    return make_call("Collections/DeletePoints", request, response, decode_nothing, deadline_s)


def count(
    collection: str,
    *,
    filter: Filter | None = None,
    deadline_s: float = DEADLINE_S,
) -> Call[int]:
    """How many points a collection has, or how many of them pass the filter."""

    def decode(response: collections_pb2.CountResponse) -> int:
        return response.points

    request = wire.message(
        collections_pb2.CountRequest, collection=collection, filter=_filter(filter)
    )
    return make_call(
        "Collections/Count", request, collections_pb2.CountResponse, decode, deadline_s
    )


def optimize(collection: str, *, deadline_s: float = LONG_S) -> Call[Collection]:
    """Build a collection's index, and describe the collection once it is in use."""
    request = wire.message(collections_pb2.OptimizeRequest, collection=collection)
    response = collections_pb2.CollectionInfo
    return make_call("Collections/Optimize", request, response, _collection, deadline_s)


def snapshot(collection: str, *, deadline_s: float = LONG_S) -> Call[Snapshot]:
    """Keep a collection as it is now."""
    request = wire.message(collections_pb2.SnapshotRequest, collection=collection)
    response = collections_pb2.SnapshotInfo
    return make_call("Collections/Snapshot", request, response, _snapshot, deadline_s)


def snapshots(collection: str, *, deadline_s: float = DEADLINE_S) -> Call[tuple[Snapshot, ...]]:
    """A collection's snapshots, oldest first, also when it was deleted since."""

    def decode(response: collections_pb2.ListSnapshotsResponse) -> tuple[Snapshot, ...]:
        return tuple(map(_snapshot, response.snapshots))

    request = wire.message(collections_pb2.ListSnapshotsRequest, collection=collection)
    response = collections_pb2.ListSnapshotsResponse
    return make_call("Collections/ListSnapshots", request, response, decode, deadline_s)


def delete_snapshot(
    collection: str,
    id: str,
    *,
    deadline_s: float = DEADLINE_S,
) -> Call[None]:
    """Delete the snapshot `id` of a collection."""
    request = wire.message(collections_pb2.DeleteSnapshotRequest, collection=collection, id=id)
    response = collections_pb2.DeleteSnapshotResponse
    return make_call("Collections/DeleteSnapshot", request, response, decode_nothing, deadline_s)


def restore(
    collection: str,
    id: str,
    *,
    to: str = "",
    replace: bool = False,
    deadline_s: float = LONG_S,
) -> Call[Collection]:
    """Make the collection `to`, by default the same, what `collection` was at the snapshot `id`.

    One of that name is there already: `replace` it, or AlreadyExists.
    """
    request = wire.message(
        collections_pb2.RestoreRequest, collection=collection, id=id, to=to, replace=replace
    )
    response = collections_pb2.CollectionInfo
    return make_call("Collections/Restore", request, response, _collection, deadline_s)


def upsert_all(
    collection: str,
    points: Iterable[tuple[PointId, str | NDArray[Any], Payload]],
    *,
    batch_size: int = 256,
    deadline_s: float = DEADLINE_S,
) -> Iterator[Part]:
    """Write any number of `points`, (id, item, payload), `batch_size` to a call; give how many.

    An item is a text, or the array of a model that takes arrays. `deadline_s` is each call's.
    After an error everything may be written again from the start.
    """
    size = wire.whole("batch_size", batch_size)
    if size < 1:
        raise InvalidInput(f"batch_size is {batch_size}; give a whole number above 0")
    source, first = iter(row_of("points", points)), 0
    while batch := list(islice(source, size)):
        for index, point in enumerate(cast("list[object]", batch), first):
            if not isinstance(point, tuple | list) or len(point) != _POINT:
                raise InvalidInput(f"points[{index}] is {point!r:.80}; give (id, item, payload)")
        ids, given, payloads = zip(*batch, strict=True)
        with among(first, len(batch)):
            items = stack(given) if isinstance(given[0], np.ndarray) else given
            call = upsert(collection, ids, items, payloads=payloads, deadline_s=deadline_s)
        yield len(batch), call
        first += len(batch)


def _input(items: Items | None, vectors: Vectors | None, fingerprint: str) -> dict[str, Any]:
    if (items is None) == (vectors is None):
        raise InvalidInput("give either items or vectors, and not both")
    if items is not None:
        return items_fields(items)
    own = getattr(vectors, "fingerprint", "")  # an encoder's too
    if own and fingerprint not in ("", own):
        raise InvalidInput(
            f"fingerprint is {fingerprint!r:.80}, and the vectors are of {own}; leave it out"
        )
    return {"vectors": _vectors(vectors), "fingerprint": fingerprint or own}


def _vectors(vectors: object) -> tensor_pb2.Tensor:
    """Rows of floating point, of whatever precision, as float32; whole numbers may be codes."""
    try:
        rows = np.asarray(vectors)
    except ValueError as error:
        raise ShapeError(f"vectors are no matrix; give (n, dims) of floats: {error}") from None
    if rows.dtype.kind != "f" or rows.ndim != MATRIX_AXES:
        hint = "; for one vector give a list of it" if rows.ndim == 1 else ""
        raise ShapeError(
            f"vectors are {rows.dtype} {rows.shape}; give (n, dims) of floats, as encoding='f32' "
            f"has them{hint}"
        )
    with np.errstate(over="ignore"):  # what becomes infinite is refused by its row
        return wire.to_tensor(rows.astype(np.float32))


def _query(
    items: Items | None,
    vectors: Vectors | None,
    ids: Iterable[PointId | UUID] | None,
    fingerprint: str,
) -> dict[str, Any]:
    if ids is None:
        return _input(items, vectors, fingerprint)
    if items is not None or vectors is not None:
        raise InvalidInput("give one of items, vectors and ids")
    return {"ids": collections_pb2.PointIds(values=_ids(ids))}


def _ids(ids: object, *, any_order: bool = False) -> list[collections_pb2.PointId]:
    if any_order and isinstance(ids, set | frozenset):
        ids = list(ids)
    return [wire.to_id(point, f"ids[{i}]") for i, point in enumerate(row_of("ids", ids))]


def _payloads(payloads: object, ids: object) -> list[Struct]:
    if payloads is None:
        return []
    listed = list(row_of("payloads", payloads))
    if isinstance(ids, Sized) and len(ids) != len(listed):
        raise InvalidInput(f"{len(listed)} payloads for {len(ids)} ids; give one a point")
    return [wire.to_struct(payload, f"payloads[{i}]") for i, payload in enumerate(listed)]


def _filter(filter_: Filter | None) -> Struct | None:
    return None if filter_ is None else wire.to_struct(filter_, "filter")


def _collection(info: collections_pb2.CollectionInfo) -> Collection:
    quantizations = {number: name for name, number in wire.QUANTIZATIONS.items()}
    return Collection(
        name=info.name,
        model=info.model,
        fingerprint=info.fingerprint,
        dims=info.dims,
        points=info.points,
        quantization=quantizations.get(info.quantization, "none"),
        indexed=info.indexed,
        text_index=_text_index(info.text_index) if info.HasField("text_index") else None,
    )


def _text_index(message: collections_pb2.TextIndex) -> TextIndex:
    known = {str(language): language for language in LANGUAGES}
    return TextIndex(message.field, known.get(message.language, "none"))


def _rerank(
    model: str | None, field: str, candidates: int | None
) -> collections_pb2.SearchRerank | None:
    if model is None:
        if candidates is not None:
            raise InvalidInput(
                f"candidates is {candidates!r:.80}, and nothing is ranked anew; name a model by "
                "rerank"
            )
        return None
    return wire.message(
        collections_pb2.SearchRerank, model=model, field=field, candidates=candidates
    )


def _search_results(response: collections_pb2.SearchResponse, *, partial: bool) -> SearchResults:
    hits = tuple(tuple(map(_hit, result.hits)) for result in response.results)
    return SearchResults(hits, item_errors(response.items, partial=partial), response.fingerprint)


def _points(
    response: collections_pb2.RetrieveResponse | collections_pb2.ScrollResponse,
) -> tuple[Point, ...]:
    rows = (
        wire.from_tensor(response.vectors)
        if response.HasField("vectors")
        else [None] * len(response.ids)
    )
    return tuple(
        Point(wire.from_id(point), wire.from_struct(payload), vector)
        for point, payload, vector in zip(response.ids, response.payloads, rows, strict=True)
    )


def _snapshot(info: collections_pb2.SnapshotInfo) -> Snapshot:
    created_s = info.created.ToMilliseconds() / 1000
    return Snapshot(info.id, info.collection, created_s, info.size_bytes)


def _hit(hit: collections_pb2.Hit) -> Hit:
    return Hit(wire.from_id(hit.id), hit.score, wire.from_struct(hit.payload), dict(hit.parts))
