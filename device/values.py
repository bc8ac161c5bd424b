"""The results of a server's calls, as plain values: one class for each kind."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Self, TypeAlias, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from . import heads
from .encodings import Encoding
from .errors import AttarError
from .heads import Metric
from .manifest import Compatible
from .ranking import Scorer
from .token_vectors import Grid, of_item

R_co = TypeVar("R_co", covariant=True)
PointId: TypeAlias = int | str
"""A whole number from 0 to 2^64 - 1, or a UUID."""
Quantization: TypeAlias = Literal["none", "int8", "binary"]
SearchMode: TypeAlias = Literal["dense", "keyword", "hybrid"]
Language: TypeAlias = Literal[
    "none",
    "arabic",
    "danish",
    "dutch",
    "english",
    "finnish",
    "french",
    "german",
    "greek",
    "hungarian",
    "italian",
    "norwegian",
    "portuguese",
    "romanian",
    "russian",
    "spanish",
    "swedish",
    "turkish",
]
ModelState: TypeAlias = Literal["READY", "LOADING", "UNAVAILABLE"]

DEFAULT_LIMIT: Final = 10
"""Hits of a query, where a search names no limit."""
DEFAULT_PAGE: Final = 100
"""Points of a page, where a scroll names no limit."""
DEFAULT_CANDIDATES: Final = 50
"""Points that a search ranks anew, where it names no number and asks for no more hits."""
LANGUAGES: Final[tuple[Language, ...]] = get_args(Language)
DEFAULT_NEIGHBOURS: Final = heads.DEFAULT_NEIGHBOURS
DEFAULT_TARGET_FPR: Final = heads.DEFAULT_TARGET_FPR


@dataclass(frozen=True, slots=True)
class Model:
    """A served model: `dims` are the widths that a call may request, `max_length` is in tokens.

    `compatible_with` are the other spaces that its queries may search. `token_dim` is the width of
    its token vectors, 0 where it has none, and `token_grid` what those of an image lie in.
    """

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
    compatible_with: tuple[Compatible, ...] = ()
    token_dim: int = 0
    token_grid: Grid | None = None


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a server serves, and its limits by the names of its settings."""

    version: str
    models: tuple[Model, ...]
    limits: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Indexed:
    """A version of a model, its state, and why it is in it.

    A READY one may have a reason too: why newer content at its place does not serve.
    """

    name: str
    version: str
    state: ModelState
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
        """The number of items."""
        return len(self.errors)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """The vectors, so that numpy takes the value itself."""
        return np.array(self.vectors, dtype=dtype, copy=copy)


@dataclass(frozen=True, slots=True)
class EmbeddedTokens:
    """The token vectors of each item, `embedded[i]`; none, and an entry in `errors`, if it failed.

    `grid` is the rows and columns that an image's lie in, in reading order; None for texts.
    """

    vectors: NDArray[Any]  # (sum of lengths, dim) in the encoding's dtype
    lengths: NDArray[np.int32]  # (n,)
    truncated: NDArray[np.bool_]  # (n,)
    errors: tuple[AttarError | None, ...]
    grid: Grid | None
    encoding: Encoding
    dim: int
    fingerprint: str
    model: str
    variant: str
    queue_s: float
    tokenize_s: float
    infer_s: float

    def __len__(self) -> int:
        """The number of items."""
        return len(self.errors)

    def __getitem__(self, item: int) -> NDArray[Any]:
        """The vectors of one item, one a row."""
        return of_item(self.vectors, self.lengths, item)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """The vectors of all items, so that numpy takes the value itself."""
        return np.array(self.vectors, dtype=dtype, copy=copy)


@dataclass(frozen=True, slots=True)
class RankedDocument:
    """A document by its `index` in the call, with its score.

    `score` is as the model's authors give it, `raw_score` is before the activation, and `document`
    is its text, or "" without `return_documents`.
    """

    index: int
    score: float
    raw_score: float
    document: str | None


@dataclass(frozen=True, slots=True)
class Reranked:
    """Documents, best first; one that failed is left out and has an entry in `errors`.

    `scorer` says what a score is: a cross-encoder's, or the cosine of two embeddings.
    """

    results: tuple[RankedDocument, ...]
    tokens: NDArray[np.int32]  # (n,), of every document
    truncated: NDArray[np.bool_]  # (n,)
    errors: tuple[AttarError | None, ...]
    scorer: Scorer
    fingerprint: str
    model: str
    variant: str
    queue_s: float
    tokenize_s: float
    infer_s: float

    def __len__(self) -> int:
        """The number of documents that are ranked."""
        return len(self.results)


class Listing(tuple[R_co, ...]):  # noqa: SLOT001 (a tuple's attribute needs a dict)
    """Those of a kind that can be used, by name; `damaged` says why others cannot, and the fix."""

    damaged: Mapping[str, str]

    def __new__(cls, usable: Iterable[R_co], damaged: Mapping[str, str] | None = None) -> Self:
        """Keep them, and a reason for the name of each that cannot be used."""
        listing = super().__new__(cls, usable)
        listing.damaged = {**(damaged or {})}
        return listing


@dataclass(frozen=True, slots=True)
class TextIndex:
    """The words of a payload key, `field`, by which a collection's keyword search ranks.

    Words lose the endings of their `language`, and its stop words are left out; with "none" every
    word is taken as it is written, but in lower case.
    """

    field: str = "text"
    language: Language = "english"


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection: which model's space it holds, how wide, and how many points.

    Those that are not `indexed` are compared one by one. Without a `text_index` every search is
    dense.
    """

    name: str
    model: str
    fingerprint: str
    dims: int
    points: int
    quantization: Quantization = "none"
    indexed: int = 0
    text_index: TextIndex | None = None


@dataclass(frozen=True, slots=True)
class Upserted:
    """How each point fared: it is durable where `errors` has None."""

    errors: tuple[AttarError | None, ...]
    truncated: NDArray[np.bool_]  # (n,)
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Hit:
    """A point in the result of a search, and its score: the cosine similarity of a dense search.

    Of a keyword search it is BM25's, of a hybrid one that of the fusion, and of one that reranks
    the reranker's; `parts` has those that it was made of, and their ranks, by name.
    """

    id: PointId
    score: float
    payload: dict[str, Any]
    parts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SearchResults:
    """The hits of each query, best first; empty where the query failed."""

    hits: tuple[tuple[Hit, ...], ...]
    errors: tuple[AttarError | None, ...]
    fingerprint: str

    def __len__(self) -> int:
        """The number of queries."""
        return len(self.hits)

    def __getitem__(self, query: int) -> tuple[Hit, ...]:
        """The hits of one query."""
        return self.hits[query]


@dataclass(frozen=True, slots=True)
class Point:
    """One stored point; `vector` is None unless the call requested it."""

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
