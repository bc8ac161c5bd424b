"""Calls: each RPC of attar.v1 as a value, made from plain arguments and decoded to a plain answer.

Both clients send these; nothing here knows a channel. `items` are texts, from any iterable with an
order, or the array that a model of another modality takes, first axis the items. What cannot be
sent raises InvalidInput, which names the argument and the value. Unless `partial` is true, an
answer in which an item failed raises that item's error; with it, the error stands in the answer's
`errors`.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import Any, Final, Generic, Self, TypeVar, cast
from uuid import UUID

import numpy as np
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from numpy.typing import NDArray

from attar import wire
from attar.encodings import Encoding
from attar.errors import (
    AlreadyExists,
    AttarError,
    BackendError,
    BundleRefused,
    Cancelled,
    DeadlineExceeded,
    DiskFull,
    InputTooLong,
    InvalidInput,
    LimitReached,
    NotFound,
    NotSupported,
    Overloaded,
    PermissionDenied,
    RateLimited,
    Refusal,
    Replaced,
    ShapeError,
    SpaceMismatch,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from attar.heads import Metric
from attar.inputs import Priority, Role, Truncation, as_text, is_token_ids, listed
from attar.v1 import (
    anomaly_pb2,
    classification_pb2,
    collections_pb2,
    embedding_pb2,
    info_pb2,
    item_pb2,
    models_pb2,
    tensor_pb2,
)
from attar.wire import PointId, Quantization

R_co = TypeVar("R_co", covariant=True)
Items = Iterable[str] | NDArray[Any]
TokenIds = Sequence[Sequence[int]]
Payload = Mapping[str, Any]
Filter = Mapping[str, Any]

DEADLINE_S: Final = 30.0
MAX_WAIT_S: Final = 1e9  # 31 years; gRPC takes much more for nothing left
LONG_S: Final = 600.0
"""What works on a whole collection may take minutes."""
REASONS: Final[Mapping[str, type[AttarError]]] = MappingProxyType(
    {
        kind.reason: kind
        for kind in (
            *(InvalidInput, InputTooLong, ShapeError, NotFound, AlreadyExists, SpaceMismatch),
            *(NotSupported, Overloaded, Unavailable, DeadlineExceeded, Cancelled, BackendError),
            *(Unauthenticated, PermissionDenied, RateLimited, Unimplemented, DiskFull, Replaced),
            LimitReached,
        )
    }
)

_POINT: Final = 3  # id, item and payload
_MATRIX: Final = 2  # axes
# How BundleRefused shows itself.
_REFUSED: Final = re.compile(r"(?P<message>.*) \[refused: (?P<code>[a-z-]+)\]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Call(Generic[R_co]):
    """One RPC: what is sent, what comes back, and whether sending it twice does no harm."""

    rpc: str
    request: Message
    answer: type[Message]
    decode: Callable[[Any], R_co]
    repeatable: bool
    deadline_s: float
    hint: str = ""  # what else helps where the deadline comes first


@dataclass(frozen=True, slots=True)
class Model:
    """A served model: `dims` are the widths it may be asked for, `max_length` is in tokens."""

    name: str
    version: str
    variant: str
    variants: tuple[str, ...]
    fingerprint: str
    modality: str
    dim: int
    dims: tuple[int, ...]
    max_length: int | None
    ready: bool


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a server serves, and its limits by the names of its settings."""

    version: str
    models: tuple[Model, ...]
    limits: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Indexed:
    """A version of a model and its state: READY, LOADING or UNAVAILABLE, and why.

    A READY one may have a reason too: why newer content at its place does not serve.
    """

    name: str
    version: str
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Embedded:
    """One row per item, in its order; zeros, and an entry in `errors`, where the item failed."""

    vectors: NDArray[Any]  # (n, dims) in the encoding's dtype
    tokens: NDArray[np.int32]  # (n,)
    truncated: NDArray[np.bool_]  # (n,)
    errors: tuple[AttarError | None, ...]
    encoding: Encoding
    dims: int
    fingerprint: str
    model: str
    variant: str
    queue_s: float
    tokenize_s: float
    infer_s: float

    def __len__(self) -> int:
        """How many items were asked."""
        return len(self.errors)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """The vectors, so that numpy takes the value itself."""
        return np.array(self.vectors, dtype=dtype, copy=copy)


class Listing(tuple[R_co, ...]):  # noqa: SLOT001 (a tuple's attribute needs a dict)
    """Those of a kind that can be used, by name; `damaged` says why others cannot, and the fix."""

    damaged: Mapping[str, str]

    def __new__(cls, usable: Iterable[R_co], damaged: Mapping[str, str] | None = None) -> Self:
        """Keep them, and a reason for the name of each that cannot be used."""
        listing = super().__new__(cls, usable)
        listing.damaged = {**(damaged or {})}
        return listing


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection: which model's space it holds, how wide, and how many points.

    Those that are not `indexed` are compared one by one.
    """

    name: str
    model: str
    fingerprint: str
    dims: int
    points: int
    quantization: Quantization = "none"
    indexed: int = 0


@dataclass(frozen=True, slots=True)
class Upserted:
    """How each point fared: it is durable where `errors` has None."""

    errors: tuple[AttarError | None, ...]
    truncated: NDArray[np.bool_]  # (n,)
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Hit:
    """One point that a search found, and its cosine similarity."""

    id: PointId
    score: float
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SearchResults:
    """The hits of each query, best first; empty where the query failed."""

    hits: tuple[tuple[Hit, ...], ...]
    errors: tuple[AttarError | None, ...]
    fingerprint: str

    def __len__(self) -> int:
        """How many queries were asked."""
        return len(self.hits)

    def __getitem__(self, query: int) -> tuple[Hit, ...]:
        """The hits of one query."""
        return self.hits[query]


@dataclass(frozen=True, slots=True)
class Point:
    """One stored point; `vector` is None unless it was asked for."""

    id: PointId
    payload: dict[str, Any]
    vector: NDArray[np.float32] | None  # (dims,)


@dataclass(frozen=True, slots=True)
class Page:
    """Some points in the order of ids; `cursor` asks for the next page, if it is not empty."""

    points: tuple[Point, ...]
    cursor: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A collection as it was: its id is the hash of its bytes, `created_s` seconds since 1970."""

    id: str
    collection: str
    created_s: float
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Detector:
    """A fitted anomaly detector: an item whose score is beyond `threshold` is flagged."""

    name: str
    model: str
    fingerprint: str
    neighbours: int
    references: int
    calibration: int
    target_fpr: float
    threshold: float
    metric: Metric

    @property
    def fpr_margin(self) -> float:
        """How far the share of ordinary items that is flagged may lie from `target_fpr`.

        Two standard deviations over the draw of `calibration` items.
        """
        variance = self.target_fpr * (1 - self.target_fpr) / (self.calibration + 2)
        return 2 * math.sqrt(variance)


@dataclass(frozen=True, slots=True)
class Scored:
    """How strange each item is: NaN where it failed."""

    scores: NDArray[np.float32]  # (n,) higher is stranger
    p_values: NDArray[np.float32]  # (n,) share of ordinary items at least as strange
    anomalies: NDArray[np.bool_]  # (n,)
    errors: tuple[AttarError | None, ...]
    threshold: float
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Classifier:
    """A fitted classifier, its labels, and how many examples it saw.

    `counts` and `recalls` have one entry a label, or none where the server fitted it before it kept
    them. A recall is the share of the label's items that got it from classifiers fitted without
    them; None where the label has fewer than two different items.
    """

    name: str
    model: str
    fingerprint: str
    labels: tuple[str, ...]
    examples: int
    counts: tuple[int, ...]
    recalls: tuple[float | None, ...]
    contradictory: int  # items that are equal to one of another label


@dataclass(frozen=True, slots=True)
class Predicted:
    """The likeliest label of each item, None where it failed, and every class's probability."""

    labels: tuple[str | None, ...]
    probabilities: NDArray[np.float32]  # (n, k), rows sum to 1
    classes: tuple[str, ...]  # the k columns
    errors: tuple[AttarError | None, ...]
    fingerprint: str


def info(*, deadline_s: float = DEADLINE_S) -> Call[ServerInfo]:
    """The models that are served and every limit."""

    def decode(answer: info_pb2.GetInfoResponse) -> ServerInfo:
        limits = {
            field.name: getattr(answer.limits, field.name)
            for field in info_pb2.Limits.DESCRIPTOR.fields
        }
        return ServerInfo(answer.server_version, tuple(map(_model, answer.models)), limits)

    request = info_pb2.GetInfoRequest()
    return _call("Info/GetInfo", request, info_pb2.GetInfoResponse, decode, deadline_s)


def models(*, deadline_s: float = DEADLINE_S) -> Call[tuple[Indexed, ...]]:
    """Every version of every model that the server knows, served or not, and why not."""

    def decode(answer: models_pb2.IndexResponse) -> tuple[Indexed, ...]:
        return tuple(
            Indexed(
                one.name,
                one.version,
                models_pb2.State.Name(one.state).removeprefix("STATE_"),
                one.reason,
            )
            for one in answer.models
        )

    request = models_pb2.IndexRequest()
    return _call("Models/Index", request, models_pb2.IndexResponse, decode, deadline_s)


def load_model(name: str, *, deadline_s: float = DEADLINE_S) -> Call[None]:
    """Load a model from where it lies; what served before goes on until the new one answers."""
    request = wire.message(models_pb2.LoadRequest, name=name)
    return _call("Models/Load", request, models_pb2.LoadResponse, _nothing, deadline_s)


def unload_model(name: str, *, deadline_s: float = DEADLINE_S) -> Call[None]:
    """Stop serving a model, when its accepted calls are answered."""
    request = wire.message(models_pb2.UnloadRequest, name=name)
    answer = models_pb2.UnloadResponse
    return _call("Models/Unload", request, answer, _nothing, deadline_s, repeatable=False)


def set_variant(
    name: str, variant: str, *, version: str = "", deadline_s: float = DEADLINE_S
) -> Call[None]:
    """Run another variant of a model, of all its versions unless one is named.

    An empty variant is the server's own choice.
    """
    request = wire.message(
        models_pb2.SetVariantRequest, name=name, variant=variant, version=version
    )
    return _call("Models/SetVariant", request, models_pb2.SetVariantResponse, _nothing, deadline_s)


def embed(
    items: Items | TokenIds,
    *,
    model: str = "",
    version: str = "",
    role: Role = "passage",
    dims: int | None = None,
    encoding: Encoding = "f32",
    truncation: Truncation = "truncate",
    priority: Priority = "interactive",
    partial: bool = False,
    deadline_s: float = DEADLINE_S,
) -> Call[Embedded]:
    """The embeddings of a batch, in the order of its items.

    Items may be token ids, lists of numbers, where they can be the output of the model's tokenizer
    or the server is set to take any. `bulk` items let interactive ones pass.
    """
    request = embed_request(
        items,
        model=model,
        version=version,
        role=role,
        dims=dims,
        encoding=encoding,
        truncation=truncation,
        priority=priority,
    )

    def decode(answer: embedding_pb2.EmbedResponse) -> Embedded:
        return embedded(answer, partial=partial)

    return _call("Embedding/Embed", request, embedding_pb2.EmbedResponse, decode, deadline_s)


def create_collection(
    name: str,
    *,
    model: str = "",
    dims: int | None = None,
    quantization: Quantization = "none",
    deadline_s: float = DEADLINE_S,
) -> Call[Collection]:
    """A new collection in the space of `model`; AlreadyExists when the name is taken.

    Quantised vectors only choose candidates: whole ones score them.
    """
    request = wire.message(
        collections_pb2.CreateCollectionRequest,
        name=name,
        model=model,
        dims=dims,
        quantization=_enum("quantization", quantization, wire.QUANTIZATIONS),
    )
    answer = collections_pb2.CollectionInfo
    return _call("Collections/Create", request, answer, _collection, deadline_s, repeatable=False)


def delete_collection(name: str, *, deadline_s: float = DEADLINE_S) -> Call[None]:
    """Delete a collection and all its points."""
    request = wire.message(collections_pb2.DeleteCollectionRequest, name=name)
    answer = collections_pb2.DeleteCollectionResponse
    return _call("Collections/Delete", request, answer, _nothing, deadline_s, repeatable=False)


def collection(name: str, *, deadline_s: float = DEADLINE_S) -> Call[Collection]:
    """One collection; NotFound names those that exist."""
    request = wire.message(collections_pb2.GetCollectionRequest, name=name)
    return _call(
        "Collections/Get", request, collections_pb2.CollectionInfo, _collection, deadline_s
    )


def collections(*, deadline_s: float = DEADLINE_S) -> Call[Listing[Collection]]:
    """Every collection that can be used; its `damaged` names the others, and why."""

    def decode(answer: collections_pb2.ListCollectionsResponse) -> Listing[Collection]:
        return Listing(map(_collection, answer.collections), answer.damaged)

    request = collections_pb2.ListCollectionsRequest()
    answer = collections_pb2.ListCollectionsResponse
    return _call("Collections/List", request, answer, decode, deadline_s)


def upsert(
    collection: str,
    ids: Iterable[PointId | UUID],
    items: Items | None = None,
    *,
    vectors: NDArray[Any] | Embedded | None = None,
    fingerprint: str = "",
    payloads: Iterable[Payload] | None = None,
    truncation: Truncation = "truncate",
    all_or_nothing: bool = False,
    partial: bool = False,
    deadline_s: float = DEADLINE_S,
) -> Call[Upserted]:
    """Write points by id, from items or from vectors that were embedded before.

    Vectors and payloads are written together, as one; an item that cannot be embedded is left out,
    or with `all_or_nothing` nothing is written. `vectors` need the fingerprint of their space; an
    `Embedded` brings its own. It is repeated after a failure: points are kept by id, so writing one
    twice does no harm.
    """
    request = wire.message(
        collections_pb2.UpsertRequest,
        collection=collection,
        ids=_ids(ids),
        payloads=_payloads(payloads, ids),
        truncation=_enum("truncation", truncation, wire.TRUNCATIONS),
        all_or_nothing=all_or_nothing,
        **_input(items, vectors, fingerprint),
    )

    def decode(answer: collections_pb2.UpsertResponse) -> Upserted:
        errors = _errors(answer.items, partial=partial)
        return Upserted(errors, _truncated(answer.items), answer.fingerprint)

    hint = "or send fewer points a call, as upsert_all does"
    answer = collections_pb2.UpsertResponse
    return _call("Collections/Upsert", request, answer, decode, deadline_s, hint=hint)


def search(
    collection: str,
    items: Items | None = None,
    *,
    vectors: NDArray[Any] | Embedded | None = None,
    ids: Iterable[PointId | UUID] | None = None,
    fingerprint: str = "",
    limit: int = 10,
    offset: int = 0,
    filter: Filter | None = None,
    score_threshold: float | None = None,
    with_payload: bool = True,
    exact: bool = False,
    role: Role = "query",
    truncation: Truncation = "truncate",
    partial: bool = False,
    deadline_s: float = DEADLINE_S,
) -> Call[SearchResults]:
    """The nearest points to each query, by cosine similarity; `offset` of them are passed over.

    Queries are items, vectors or the ids of points, which do not find themselves. `filter` keeps
    points whose payload has each value, or one of each list of values, or lies in a range such as
    `{"price": {"gte": 5}}`; `$all`, `$any` and `$not` combine filters. `exact` compares every
    vector, where an index may miss a few.
    """
    request = wire.message(
        collections_pb2.SearchRequest,
        collection=collection,
        limit=limit,
        offset=offset,
        filter=_filter(filter),
        score_threshold=score_threshold,
        with_payload=with_payload,
        exact=exact,
        role=_enum("role", role, wire.ROLES),
        truncation=_enum("truncation", truncation, wire.TRUNCATIONS),
        **_query(items, vectors, ids, fingerprint),
    )

    def decode(answer: collections_pb2.SearchResponse) -> SearchResults:
        return _found(answer, partial=partial)

    return _call("Collections/Search", request, collections_pb2.SearchResponse, decode, deadline_s)


def search_batch(
    searches: Iterable[Call[SearchResults]],
    *,
    partial: bool = False,
    deadline_s: float = DEADLINE_S,
) -> Call[tuple[SearchResults | AttarError, ...]]:
    """Different searches, each made by `search`, in one call; their own deadlines do not count.

    A search that fails as a whole raises its error; with `partial` the error stands in its place.
    """
    requests = [getattr(one, "request", one) for one in row_of("searches", searches)]
    for index, one in enumerate(requests):
        if not isinstance(one, collections_pb2.SearchRequest):
            raise InvalidInput(f"searches[{index}] is no search; make each with calls.search")
    request = wire.message(collections_pb2.SearchBatchRequest, searches=cast("Any", requests))

    def decode(
        answer: collections_pb2.SearchBatchResponse,
    ) -> tuple[SearchResults | AttarError, ...]:
        outcomes: list[SearchResults | AttarError] = []
        for result in answer.results:
            if result.HasField("response"):
                outcomes.append(_found(result.response, partial=partial))
            elif partial:
                outcomes.append(error_from(result.error))
            else:
                raise error_from(result.error)
        return tuple(outcomes)

    answer = collections_pb2.SearchBatchResponse
    return _call("Collections/SearchBatch", request, answer, decode, deadline_s)


def retrieve(
    collection: str,
    ids: Iterable[PointId | UUID],
    *,
    with_vectors: bool = False,
    deadline_s: float = DEADLINE_S,
) -> Call[tuple[Point, ...]]:
    """The points of these ids that exist."""
    request = wire.message(
        collections_pb2.RetrieveRequest,
        collection=collection,
        ids=_ids(ids, any_order=True),
        with_vectors=with_vectors,
    )
    answer = collections_pb2.RetrieveResponse
    return _call("Collections/Retrieve", request, answer, _points, deadline_s)


def scroll(
    collection: str,
    *,
    filter: Filter | None = None,
    limit: int = 100,
    cursor: str = "",
    with_vectors: bool = False,
    deadline_s: float = DEADLINE_S,
) -> Call[Page]:
    """A page of the points that pass the filter; `cursor` is that of the page before."""
    request = wire.message(
        collections_pb2.ScrollRequest,
        collection=collection,
        filter=_filter(filter),
        limit=limit,
        cursor=cursor,
        with_vectors=with_vectors,
    )

    def decode(answer: collections_pb2.ScrollResponse) -> Page:
        return Page(_points(answer), answer.cursor, answer.fingerprint)

    return _call("Collections/Scroll", request, collections_pb2.ScrollResponse, decode, deadline_s)


def delete_points(
    collection: str,
    ids: Iterable[PointId | UUID] | None = None,
    *,
    filter: Filter | None = None,
    deadline_s: float = DEADLINE_S,
) -> Call[None]:
    """Delete points by id, or those that pass a filter; one that does not exist is no error."""
    if (ids is None) == (filter is None):
        raise InvalidInput("give either ids or filter, and not both")
    request = wire.message(
        collections_pb2.DeletePointsRequest,
        collection=collection,
        ids=_ids(() if ids is None else ids, any_order=True),
        filter=_filter(filter),
    )
    answer = collections_pb2.DeletePointsResponse
    return _call(
        "Collections/DeletePoints", request, answer, _nothing, deadline_s, repeatable=False
    )


def count(
    collection: str,
    *,
    filter: Filter | None = None,
    deadline_s: float = DEADLINE_S,
) -> Call[int]:
    """How many points a collection has, or how many of them pass the filter."""

    def decode(answer: collections_pb2.CountResponse) -> int:
        return answer.points

    request = wire.message(
        collections_pb2.CountRequest, collection=collection, filter=_filter(filter)
    )
    return _call("Collections/Count", request, collections_pb2.CountResponse, decode, deadline_s)


def optimize(collection: str, *, deadline_s: float = LONG_S) -> Call[Collection]:
    """Build a collection's index, and describe the collection once it is in use."""
    request = wire.message(collections_pb2.OptimizeRequest, collection=collection)
    answer = collections_pb2.CollectionInfo
    return _call("Collections/Optimize", request, answer, _collection, deadline_s)


def snapshot(collection: str, *, deadline_s: float = LONG_S) -> Call[Snapshot]:
    """Keep a collection as it is now."""
    request = wire.message(collections_pb2.SnapshotRequest, collection=collection)
    answer = collections_pb2.SnapshotInfo
    return _call("Collections/Snapshot", request, answer, _snapshot, deadline_s, repeatable=False)


def snapshots(collection: str, *, deadline_s: float = DEADLINE_S) -> Call[tuple[Snapshot, ...]]:
    """A collection's snapshots, oldest first, also when it was deleted since."""

    def decode(answer: collections_pb2.ListSnapshotsResponse) -> tuple[Snapshot, ...]:
        return tuple(map(_snapshot, answer.snapshots))

    request = wire.message(collections_pb2.ListSnapshotsRequest, collection=collection)
    answer = collections_pb2.ListSnapshotsResponse
    return _call("Collections/ListSnapshots", request, answer, decode, deadline_s)


def delete_snapshot(
    collection: str,
    id: str,
    *,
    deadline_s: float = DEADLINE_S,
) -> Call[None]:
    """Delete a snapshot."""
    request = wire.message(collections_pb2.DeleteSnapshotRequest, collection=collection, id=id)
    answer = collections_pb2.DeleteSnapshotResponse
    return _call(
        "Collections/DeleteSnapshot", request, answer, _nothing, deadline_s, repeatable=False
    )


def restore(
    collection: str,
    id: str,
    *,
    to: str = "",
    replace: bool = False,
    deadline_s: float = LONG_S,
) -> Call[Collection]:
    """Make the collection `to`, by default the same, what `collection` was at a snapshot.

    One of that name is there already: `replace` it, or AlreadyExists.
    """
    request = wire.message(
        collections_pb2.RestoreRequest, collection=collection, id=id, to=to, replace=replace
    )
    answer = collections_pb2.CollectionInfo
    return _call("Collections/Restore", request, answer, _collection, deadline_s, repeatable=False)


def fit_anomaly(
    name: str,
    items: Items | None = None,
    *,
    collection: str | None = None,
    model: str = "",
    target_fpr: float = 0.05,
    neighbours: int = 5,
    metric: Metric | None = None,
    truncation: Truncation = "truncate",
    deadline_s: float = DEADLINE_S,
) -> Call[Detector]:
    """Fit a detector on ordinary items, or on every point of a collection.

    Without a `metric` it is cosine where the model's embeddings have unit length, else euclidean.
    """
    if (items is None) == (collection is None):
        raise InvalidInput("give either items or collection, what is ordinary, and not both")
    request = wire.message(
        anomaly_pb2.FitDetectorRequest,
        name=name,
        model=model,
        target_fpr=target_fpr,
        neighbours=neighbours,
        metric=anomaly_pb2.METRIC_UNSPECIFIED
        if metric is None
        else _enum("metric", metric, wire.METRICS),
        truncation=_enum("truncation", truncation, wire.TRUNCATIONS),
        **({"collection": collection} if items is None else _items(items)),
    )
    answer = anomaly_pb2.DetectorInfo
    return _call("Anomaly/Fit", request, answer, _detector, deadline_s, repeatable=False)


def score_anomaly(
    name: str,
    items: Items,
    *,
    truncation: Truncation = "truncate",
    partial: bool = False,
    deadline_s: float = DEADLINE_S,
) -> Call[Scored]:
    """How strange each item is to a fitted detector."""

    def decode(answer: anomaly_pb2.ScoreResponse) -> Scored:
        return Scored(
            scores=np.asarray(answer.scores, np.float32),
            p_values=np.asarray(answer.p_values, np.float32),
            anomalies=np.asarray(answer.anomalies, np.bool_),
            errors=_errors(answer.items, partial=partial),
            threshold=answer.threshold,
            fingerprint=answer.fingerprint,
        )

    request = wire.message(
        anomaly_pb2.ScoreRequest,
        name=name,
        truncation=_enum("truncation", truncation, wire.TRUNCATIONS),
        **_items(items),
    )
    return _call("Anomaly/Score", request, anomaly_pb2.ScoreResponse, decode, deadline_s)


def detector(name: str, *, deadline_s: float = DEADLINE_S) -> Call[Detector]:
    """One anomaly detector."""
    request = wire.message(anomaly_pb2.GetDetectorRequest, name=name)
    return _call("Anomaly/Get", request, anomaly_pb2.DetectorInfo, _detector, deadline_s)


def detectors(*, deadline_s: float = DEADLINE_S) -> Call[Listing[Detector]]:
    """Every anomaly detector that can be used; its `damaged` names the others, and why."""

    def decode(answer: anomaly_pb2.ListDetectorsResponse) -> Listing[Detector]:
        return Listing(map(_detector, answer.detectors), answer.damaged)

    request = anomaly_pb2.ListDetectorsRequest()
    return _call("Anomaly/List", request, anomaly_pb2.ListDetectorsResponse, decode, deadline_s)


def delete_detector(name: str, *, deadline_s: float = DEADLINE_S) -> Call[None]:
    """Delete an anomaly detector."""
    request = wire.message(anomaly_pb2.DeleteDetectorRequest, name=name)
    answer = anomaly_pb2.DeleteDetectorResponse
    return _call("Anomaly/Delete", request, answer, _nothing, deadline_s, repeatable=False)


def fit_classifier(
    name: str,
    items: Items,
    labels: Iterable[str],
    *,
    model: str = "",
    truncation: Truncation = "truncate",
    deadline_s: float = DEADLINE_S,
) -> Call[Classifier]:
    """Fit a linear classifier on labelled items; labels weigh equally, however many items each."""
    request = wire.message(
        classification_pb2.FitClassifierRequest,
        name=name,
        model=model,
        labels=labels,
        truncation=_enum("truncation", truncation, wire.TRUNCATIONS),
        **_items(items),
    )
    answer = classification_pb2.ClassifierInfo
    return _call("Classification/Fit", request, answer, _classifier, deadline_s, repeatable=False)


def classify(
    name: str,
    items: Items,
    *,
    truncation: Truncation = "truncate",
    partial: bool = False,
    deadline_s: float = DEADLINE_S,
) -> Call[Predicted]:
    """The likeliest label of each item by a fitted classifier."""

    def decode(answer: classification_pb2.PredictResponse) -> Predicted:
        errors = _errors(answer.items, partial=partial)
        return Predicted(
            labels=tuple(
                label if error is None else None
                for label, error in zip(answer.labels, errors, strict=True)
            ),
            probabilities=wire.from_tensor(answer.probabilities),
            classes=tuple(answer.classes),
            errors=errors,
            fingerprint=answer.fingerprint,
        )

    request = wire.message(
        classification_pb2.PredictRequest,
        name=name,
        truncation=_enum("truncation", truncation, wire.TRUNCATIONS),
        **_items(items),
    )
    answer = classification_pb2.PredictResponse
    return _call("Classification/Predict", request, answer, decode, deadline_s)


def classifier(name: str, *, deadline_s: float = DEADLINE_S) -> Call[Classifier]:
    """One classifier."""
    request = wire.message(classification_pb2.GetClassifierRequest, name=name)
    answer = classification_pb2.ClassifierInfo
    return _call("Classification/Get", request, answer, _classifier, deadline_s)


def classifiers(*, deadline_s: float = DEADLINE_S) -> Call[Listing[Classifier]]:
    """Every classifier that can be used; its `damaged` names the others, and why."""

    def decode(answer: classification_pb2.ListClassifiersResponse) -> Listing[Classifier]:
        return Listing(map(_classifier, answer.classifiers), answer.damaged)

    request = classification_pb2.ListClassifiersRequest()
    answer = classification_pb2.ListClassifiersResponse
    return _call("Classification/List", request, answer, decode, deadline_s)


def delete_classifier(name: str, *, deadline_s: float = DEADLINE_S) -> Call[None]:
    """Delete a classifier."""
    request = wire.message(classification_pb2.DeleteClassifierRequest, name=name)
    answer = classification_pb2.DeleteClassifierResponse
    return _call("Classification/Delete", request, answer, _nothing, deadline_s, repeatable=False)


def upsert_batches(
    collection: str,
    points: Iterable[tuple[PointId, str | NDArray[Any], Payload]],
    *,
    batch_size: int,
    deadline_s: float,
) -> Iterator[tuple[int, Call[Upserted]]]:
    """Points to write, `batch_size` to a call, each with its number of points."""
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
            items = _stacked(given) if isinstance(given[0], np.ndarray) else given
            call = upsert(collection, ids, items, payloads=payloads, deadline_s=deadline_s)
        yield len(batch), call
        first += len(batch)


@contextmanager
def among(first: int, size: int) -> Iterator[None]:
    """Note in an error which points its call has: its indices count from the first of them."""
    try:
        yield
    except AttarError as error:
        error.add_note(f"in the call of points {first} to {first + size - 1}, counted from there")
        raise


def _stacked(arrays: Sequence[Any]) -> NDArray[Any]:
    """Arrays of one shape as one, first axis the items."""
    for index, array in enumerate(arrays):
        if not isinstance(array, np.ndarray) or array.shape != arrays[0].shape:
            shape = getattr(array, "shape", type(array).__name__)
            raise ShapeError(
                f"item {index} of a call is {shape} and item 0 {arrays[0].shape}; give arrays of "
                "one shape"
            )
    return np.stack(arrays)


def embed_request(
    items: Items | TokenIds,
    *,
    model: str,
    version: str,
    role: Role,
    dims: int | None,
    encoding: Encoding,
    truncation: Truncation,
    priority: Priority,
) -> embedding_pb2.EmbedRequest:
    """One request of Embed or EmbedStream."""
    return wire.message(
        embedding_pb2.EmbedRequest,
        model=model,
        role=_enum("role", role, wire.ROLES),
        dims=dims,
        encoding=_enum("encoding", encoding, wire.ENCODINGS),
        truncation=_enum("truncation", truncation, wire.TRUNCATIONS),
        priority=_enum("priority", priority, wire.PRIORITIES),
        version=version,
        **_embeddable(items),
    )


def size_of(request: embedding_pb2.EmbedRequest) -> int:
    """How many items a request has."""
    if request.HasField("tensor"):
        return request.tensor.shape[0] if request.tensor.shape else 0
    return len(request.tokens.lengths) or len(request.texts.values)


def embedded(
    answer: embedding_pb2.EmbedResponse, *, partial: bool, size: int | None = None
) -> Embedded:
    """One answer of Embed or EmbedStream.

    A request that failed as a whole raises its error; with `partial`, on a stream, each of its
    `size` items has it.
    """
    if answer.HasField("error"):
        error = error_from(answer.error)
        if not partial or size is None:
            raise error
        return _lost(error, size)
    names = {number: name for name, number in wire.ENCODINGS.items()}
    return Embedded(
        vectors=wire.from_tensor(answer.embeddings),
        tokens=np.array([item.tokens for item in answer.items], np.int32),
        truncated=_truncated(answer.items),
        errors=_errors(answer.items, partial=partial),
        encoding=names[answer.encoding],
        dims=answer.dims,
        fingerprint=answer.fingerprint,
        model=answer.model,
        variant=answer.variant,
        queue_s=answer.timings.queue_us / 1e6,
        tokenize_s=answer.timings.tokenize_us / 1e6,
        infer_s=answer.timings.infer_us / 1e6,
    )


def error_from(status: Status) -> AttarError:
    """The exception that the server met, by the reason in the status's details."""
    info = ErrorInfo()
    reasons = [info.reason for any_ in status.details if any_.Unpack(info)]
    refused = _REFUSED.fullmatch(status.message)
    if BundleRefused.reason in reasons and refused is not None:
        return BundleRefused(cast("Refusal", refused["code"]), refused["message"])
    return REASONS.get((reasons or [""])[0], AttarError)(status.message)


def retry_after(status: Status) -> float | None:
    """Seconds after which the server asks to be called again; None when it does not ask."""
    retry = RetryInfo()
    delays = [retry.retry_delay.ToMilliseconds() / 1000 for d in status.details if d.Unpack(retry)]
    return delays[0] if delays else None


def _call(
    rpc: str,
    request: Message,
    answer: type[Message],
    decode: Callable[[Any], R_co],
    deadline_s: float,
    *,
    repeatable: bool = True,
    hint: str = "",
) -> Call[R_co]:
    deadline_s = seconds("deadline_s", deadline_s)
    return Call(f"/attar.v1.{rpc}", request, answer, decode, repeatable, deadline_s, hint)


def row_of(name: str, values: object) -> Iterable[Any]:
    """Any iterable that has an order; InvalidInput for others."""
    if isinstance(values, str | bytes | Mapping | set | frozenset) or not isinstance(
        values, Iterable
    ):
        raise InvalidInput(f"{name} is {values!r:.80}, a {type(values).__name__}; give a list")
    return values


def seconds(name: str, value: object) -> float:
    """A time to wait; InvalidInput where it is none."""
    number = wire.number(value)
    if not 0 < number <= MAX_WAIT_S:
        raise InvalidInput(
            f"{name} is {value!r:.80}; give seconds, above 0 and up to {MAX_WAIT_S:.0f}"
        )
    return number


def _items(items: object) -> dict[str, Any]:
    if hasattr(items, "fingerprint"):
        raise InvalidInput(f"items is an {type(items).__name__}; give it as vectors")
    given = listed(items)
    if isinstance(given, list) and given and all(isinstance(one, np.ndarray) for one in given):
        given = _stacked(given)
    if isinstance(given, np.ndarray):
        return {"tensor": wire.to_tensor(given)}
    return {"texts": item_pb2.Texts(values=[as_text(item, i) for i, item in enumerate(given)])}


def _embeddable(items: object) -> dict[str, Any]:
    given = listed(items)
    return {"tokens": wire.to_tokens(given)} if is_token_ids(given) else _items(given)


def _input(
    items: Items | None, vectors: NDArray[Any] | Embedded | None, fingerprint: str
) -> dict[str, Any]:
    if (items is None) == (vectors is None):
        raise InvalidInput("give either items or vectors, and not both")
    if items is not None:
        return _items(items)
    fingerprint = fingerprint or getattr(vectors, "fingerprint", "")  # an encoder's too
    return {"vectors": _vectors(vectors), "fingerprint": fingerprint}


def _vectors(vectors: object) -> tensor_pb2.Tensor:
    """Rows of floating point, of whatever precision, as float32; whole numbers may be codes."""
    try:
        given = np.asarray(vectors)
    except ValueError as error:
        raise ShapeError(f"vectors are no matrix; give (n, dims) of floats: {error}") from None
    if given.dtype.kind != "f" or given.ndim != _MATRIX:
        hint = "; for one vector give a list of it" if given.ndim == 1 else ""
        raise ShapeError(
            f"vectors are {given.dtype} {given.shape}; give (n, dims) of floats, as encoding='f32' "
            f"has them{hint}"
        )
    with np.errstate(over="ignore"):  # what becomes infinite is refused by its row
        return wire.to_tensor(given.astype(np.float32))


def _query(
    items: Items | None,
    vectors: NDArray[Any] | Embedded | None,
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
    given = list(row_of("payloads", payloads))
    if isinstance(ids, Sized) and len(ids) != len(given):
        raise InvalidInput(f"{len(given)} payloads for {len(ids)} ids; give one a point")
    return [wire.to_struct(payload, f"payloads[{i}]") for i, payload in enumerate(given)]


def _filter(given: Filter | None) -> Struct | None:
    return None if given is None else wire.to_struct(given, "filter")


def _enum(field: str, name: object, numbers: Mapping[Any, Any]) -> Any:
    if not isinstance(name, str) or name not in numbers:
        raise InvalidInput(f"{field} is {name!r:.80}; expected one of {', '.join(numbers)}")
    return numbers[name]


def _errors(
    items: Sequence[item_pb2.ItemStatus], *, partial: bool
) -> tuple[AttarError | None, ...]:
    errors = tuple(error_from(item.error) if item.HasField("error") else None for item in items)
    if not partial and (first := next(filter(None, errors), None)) is not None:
        raise first
    return errors


def _truncated(items: Sequence[item_pb2.ItemStatus]) -> NDArray[np.bool_]:
    return np.array([item.truncated for item in items], np.bool_)


def _nothing(_answer: Message) -> None:
    return None


def _lost(error: AttarError, size: int) -> Embedded:
    return Embedded(
        vectors=np.zeros((size, 0), np.float32),
        tokens=np.zeros(size, np.int32),
        truncated=np.zeros(size, np.bool_),
        errors=(error,) * size,
        encoding="f32",
        dims=0,
        fingerprint="",
        model="",
        variant="",
        queue_s=0.0,
        tokenize_s=0.0,
        infer_s=0.0,
    )


def _model(model: info_pb2.ModelInfo) -> Model:
    return Model(
        name=model.name,
        version=model.version,
        variant=model.variant,
        variants=tuple(model.variants),
        fingerprint=model.fingerprint,
        modality=model.modality,
        dim=model.dim,
        dims=tuple(model.dims),
        max_length=model.max_length or None,
        ready=model.ready,
    )


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
    )


def _found(answer: collections_pb2.SearchResponse, *, partial: bool) -> SearchResults:
    hits = tuple(tuple(map(_hit, result.hits)) for result in answer.results)
    return SearchResults(hits, _errors(answer.items, partial=partial), answer.fingerprint)


def _points(
    answer: collections_pb2.RetrieveResponse | collections_pb2.ScrollResponse,
) -> tuple[Point, ...]:
    rows = (
        wire.from_tensor(answer.vectors) if answer.HasField("vectors") else [None] * len(answer.ids)
    )
    return tuple(
        Point(wire.from_id(point), wire.from_struct(payload), vector)
        for point, payload, vector in zip(answer.ids, answer.payloads, rows, strict=True)
    )


def _snapshot(info: collections_pb2.SnapshotInfo) -> Snapshot:
    created_s = info.created.ToMilliseconds() / 1000
    return Snapshot(info.id, info.collection, created_s, info.size_bytes)


def _hit(hit: collections_pb2.Hit) -> Hit:
    return Hit(wire.from_id(hit.id), hit.score, wire.from_struct(hit.payload))


def _detector(info: anomaly_pb2.DetectorInfo) -> Detector:
    metrics = {number: name for name, number in wire.METRICS.items()}
    return Detector(
        name=info.name,
        model=info.model,
        fingerprint=info.fingerprint,
        neighbours=info.neighbours,
        references=info.references,
        calibration=info.calibration,
        target_fpr=info.target_fpr,
        threshold=info.threshold,
        metric=metrics.get(info.metric, "cosine"),  # servers had no other one before
    )


def _classifier(info: classification_pb2.ClassifierInfo) -> Classifier:
    return Classifier(
        name=info.name,
        model=info.model,
        fingerprint=info.fingerprint,
        labels=tuple(info.labels),
        examples=info.examples,
        counts=tuple(info.counts),
        recalls=tuple(None if math.isnan(recall) else recall for recall in info.recalls),
        contradictory=info.contradictory,
    )
