"""Heads: small models on top of embeddings, arrays only, bound to the space they were fitted in.

A head is a value: it is fitted or loaded once and never changes. It refuses embeddings of another
space, because a distance between two spaces is a number without a meaning.
"""

import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal, TypeAlias, get_args
from zipfile import ZIP_STORED, ZipFile

import numpy as np
from numpy.typing import NDArray

from .errors import BundleRefused, InvalidInput, ShapeError, SpaceMismatch
from .n_grams import NGrams

Metric: TypeAlias = Literal["cosine", "euclidean"]
METRICS: Final[tuple[Metric, ...]] = get_args(Metric)

DEFAULT_NEIGHBOURS: Final = 5
DEFAULT_TARGET_FPR: Final = 0.05

# What float32 embeddings of equal items may differ by, as a share of their length: the same item in
# another batch is off by a few units in the last place (2 ** -23, about 1.2e-7).
_RESOLUTION: Final = 1e-6
_LEAST_FPR: Final = 1e-9
# What is compared at a time, which bounds memory: queries, references, and values of either, 4 MB
# of float64.
_ROWS: Final = 512
_REFERENCES: Final = 8192
_VALUES: Final = 2**19


@dataclass(frozen=True)
class KnnAnomaly:
    """How far an item is from normal ones, and how surprising that distance is.

    The score is the mean distance to the k nearest references (Ramaswamy et al. 2000 take the
    distance to the k-th alone; the mean is smoother). `metric` is the distance, in scikit-learn's
    words: "cosine" compares directions, and suits embeddings of unit length; "euclidean" also
    compares lengths, and suits those whose length says something.

    The p-value is split-conformal (Laxhammar and Falkman 2010; Bates et al. 2023): calibration
    items are held out of the references, scored like any new item, and p = (1 + how many of them
    score at least as high) / (1 + c). For a new item exchangeable with them, P(p <= a) <= a for
    every a, on average over the draw of the calibration items; so at most `target_fpr` of normal
    items are called anomalies. Scores within `resolution` of each other count as equal.
    """

    references: NDArray[np.float32]  # (m, d), of unit length where the metric is cosine
    calibration: NDArray[np.float32]  # (c,) scores of held-out items, ascending
    neighbours: int
    target_fpr: float
    model: str
    fingerprint: str
    metric: Metric = "cosine"

    @classmethod
    def fit(
        cls,
        vectors: NDArray[np.float32],
        *,
        model: str,
        fingerprint: str,
        neighbours: int = DEFAULT_NEIGHBOURS,
        target_fpr: float = DEFAULT_TARGET_FPR,
        metric: Metric = "cosine",
        seed: int = 0,
        between: Callable[[], None] | None = None,
    ) -> "KnnAnomaly":
        """Fit on n normal items, (n, d): a quarter of them, drawn with `seed`, is held out.

        More than a quarter is held out where `target_fpr` needs it: c calibration items cannot
        give a p-value below 1 / (c + 1). Raises `InvalidInput` when that leaves fewer references
        than `neighbours`, and for a row of zeros where the metric is cosine. `between` is called
        between blocks of the work, and what it raises ends the fit. It takes as much memory again
        as the rows, and some MB.

        Example:
            >>> normal = np.random.default_rng(0).normal(1, 0.1, (100, 8)).astype(np.float32)
            >>> detector = KnnAnomaly.fit(normal, model="student", fingerprint="sha256:0")
            >>> detector.anomalies(detector.score(-normal[:2], fingerprint="sha256:0"))
            array([ True,  True])
        """
        _matrix(vectors)
        apart = held_out(len(vectors), neighbours, target_fpr)
        if metric not in METRICS:
            raise InvalidInput(f"metric must be one of {', '.join(METRICS)}; got {metric!r}")
        if metric == "cosine" and not (directed := vectors.any(axis=1)).all():
            raise InvalidInput(
                f"item {np.flatnonzero(~directed)[0]} has an embedding of zeros, which has no"
                " direction to compare; leave it out, or fit with metric='euclidean'"
            )
        order = np.random.default_rng(seed).permutation(len(vectors))
        references, others = vectors[order[apart:]], vectors[order[:apart]]
        if metric == "cosine":
            step = _at_a_time(_REFERENCES, vectors.shape[1])
            for rows in (references, others):
                for start in range(0, len(rows), step):
                    rows[start : start + step] = _unit(rows[start : start + step])
        scores = _mean_distances(others, references, neighbours, metric, between)
        return cls(references, np.sort(scores), neighbours, target_fpr, model, fingerprint, metric)

    @cached_property
    def resolution(self) -> float:
        """The largest difference of two scores that equal items may have."""
        if self.metric == "cosine":
            return _RESOLUTION
        squares = np.einsum("md,md->m", self.references, self.references, dtype=np.float64)
        return _RESOLUTION * float(np.median(np.sqrt(squares)))

    @cached_property
    def threshold(self) -> float:
        """The score above which p <= `target_fpr`: the calibration score of that rank."""
        c = len(self.calibration)
        rank = np.count_nonzero(np.arange(1, c + 1) / (c + 1) <= self.target_fpr)
        return float(self._ties[c - rank])

    @cached_property
    def _ties(self) -> NDArray[np.float32]:
        """The highest score that counts as equal to each calibration score: (c,)."""
        return _narrow(_wide(self.calibration) + self.resolution)

    def score(self, vectors: NDArray[np.float32], *, fingerprint: str) -> NDArray[np.float32]:
        """Give the mean distance to the k nearest references: (n, d) to (n,).

        From 0 to 2 where the metric is cosine, where a row of zeros is at distance 1 from
        everything; from 0 on where it is euclidean. Rows that float32 cannot tell apart are at
        distance 0.
        """
        _same_space(fingerprint, self.fingerprint)
        _matrix(vectors, self.references.shape[1])
        return _mean_distances(vectors, self.references, self.neighbours, self.metric)

    def p_values(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give the conformal p-value of each score: (n,) to (n,), from 1 / (c + 1) to 1."""
        c = len(self.calibration)
        as_high = c - np.searchsorted(self._ties, scores, side="left")
        return ((1 + as_high) / (c + 1)).astype(np.float32)

    def anomalies(self, scores: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Say which scores are anomalous at `target_fpr`."""
        return scores > np.float32(self.threshold)

    def to_bytes(self) -> bytes:
        """Write an npz without objects; equal heads give equal bytes."""
        return _pack(
            "knn-anomaly",
            self.model,
            self.fingerprint,
            references=self.references,
            calibration=self.calibration,
            neighbours=np.int64(self.neighbours),
            target_fpr=np.float64(self.target_fpr),
            metric=np.str_(self.metric),
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "KnnAnomaly":
        """Read what `to_bytes` wrote; raises `BundleRefused` on anything else."""
        arrays = _unpack("knn-anomaly", data)
        try:
            head = cls(
                _floats(arrays, "references", 2),
                _floats(arrays, "calibration", 1),
                int(arrays["neighbours"]),
                float(arrays["target_fpr"]),
                _text(arrays, "model"),
                _text(arrays, "fingerprint"),
                # Heads had no other one before.
                _metric(_text(arrays, "metric") if "metric" in arrays else "cosine"),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise _refused("knn-anomaly", error) from None
        if not 1 <= head.neighbours <= len(head.references):
            raise _refused("knn-anomaly", f"{head.neighbours} neighbours")
        if not 1 / (len(head.calibration) + 1) <= head.target_fpr < 1:
            raise _refused("knn-anomaly", f"target_fpr {head.target_fpr}")
        if (np.diff(head.calibration) < 0).any():
            raise _refused("knn-anomaly", "its calibration scores do not ascend")
        return head


@dataclass(frozen=True)
class LinearClassifier:
    """A probability for each label: softmax(x W' + b) of embeddings x.

    `counts`, `recalls` and `contradictory` say what it was fitted on and how well; a head of before
    they were kept has none.

    Example:
        >>> weights, bias = np.eye(2, dtype=np.float32), np.zeros(2, np.float32)
        >>> head = LinearClassifier(weights, bias, ("cat", "dog"), 2, "student", "sha256:0")
        >>> head.probabilities(np.zeros((1, 2), np.float32), fingerprint="sha256:0")
        array([[0.5, 0.5]], dtype=float32)
    """

    weights: NDArray[np.float32]  # (k, d)
    bias: NDArray[np.float32]  # (k,)
    labels: tuple[str, ...]  # k, at least 2
    examples: int  # how many items it was fitted on
    model: str
    fingerprint: str
    counts: tuple[int, ...] = ()  # k, the items of each label
    # k, the share of each label's items that get it when held out; None where they are too few
    recalls: tuple[float | None, ...] = ()
    contradictory: int = 0  # items with an equal one under another label

    @cached_property
    def label_bytes(self) -> int:
        """The bytes of all labels together, as UTF-8."""
        return sum(len(label.encode()) for label in self.labels)

    def probabilities(
        self, vectors: NDArray[np.float32], *, fingerprint: str
    ) -> NDArray[np.float32]:
        """Give each item's probability of each label: (n, d) to (n, k), rows sum to 1."""
        logits = self._logits(vectors, fingerprint)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        p: NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
        return p.astype(np.float32)

    def logits(self, vectors: NDArray[np.float32], *, fingerprint: str) -> NDArray[np.float32]:
        """Give each item's score of each label before the softmax: (n, d) to (n, k)."""
        return _narrow(self._logits(vectors, fingerprint))

    def _logits(self, vectors: NDArray[np.float32], fingerprint: str) -> NDArray[np.float64]:
        _same_space(fingerprint, self.fingerprint)
        _matrix(vectors, self.weights.shape[1])
        # In float64: products of large float32 numbers overflow, and infinity less itself is NaN.
        logits: NDArray[np.float64] = _wide(vectors) @ _wide(self.weights).T + self.bias
        return logits

    def to_bytes(self) -> bytes:
        """Write an npz without objects; equal heads give equal bytes."""
        return _pack(
            "linear-classifier",
            self.model,
            self.fingerprint,
            weights=self.weights,
            bias=self.bias,
            labels=np.array(self.labels, dtype=np.str_),
            examples=np.int64(self.examples),
            counts=np.array(self.counts, np.int64),
            recalls=np.array(self.recalls, np.float64),  # NaN for None
            contradictory=np.int64(self.contradictory),
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "LinearClassifier":
        """Read what `to_bytes` wrote; raises `BundleRefused` on anything else."""
        arrays = _unpack("linear-classifier", data)
        try:
            weights, bias = _floats(arrays, "weights", 2), _floats(arrays, "bias", 1)
            labels, size = arrays["labels"], len(weights)
            counts, recalls = (arrays.get(name, np.empty(0)) for name in ("counts", "recalls"))
            if labels.dtype.kind != "U" or not 2 <= size == len(bias) or labels.shape != (size,):
                raise ValueError(f"{labels.dtype} {labels.shape} labels of {weights.shape} weights")
            if not {counts.shape, recalls.shape} <= {(0,), (size,)}:
                raise ValueError(
                    f"{len(counts)} counts and {len(recalls)} recalls of {size} labels"
                )
            texts = tuple(str(label) for label in labels)
            "".join(texts).encode()  # half a surrogate pair is no text
            return cls(
                weights,
                bias,
                texts,
                int(arrays["examples"]),
                _text(arrays, "model"),
                _text(arrays, "fingerprint"),
                tuple(int(count) for count in counts),
                tuple(None if math.isnan(r) else float(r) for r in recalls),
                int(arrays.get("contradictory", 0)),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise _refused("linear-classifier", error) from None


@dataclass(frozen=True, slots=True)
class CodeSurprise:
    """How unexpected the codes of a series are to n-grams of the codes of normal ones.

    The code of a token is the number of the codebook's vector that is nearest to its state, as in
    EEGFormer (Chen et al. 2024, arXiv:2401.10278); the score of anomalies is attar's own: the
    largest mean of -ln p of `run` codes in a row. Unlike other heads it takes the states of tokens,
    which a graph does not give: they are those of the torch encoder, `encoder.states`.
    """

    vectors: NDArray[np.float32]  # (size, width), the codebook
    n_grams: NGrams
    run: int
    model: str
    fingerprint: str

    def codes(self, states: NDArray[np.float32]) -> NDArray[np.int64]:
        """Give the code of each token: (n, t, width) to (n, t)."""
        if states.ndim != 3 or states.shape[2] != self.vectors.shape[1]:
            raise ShapeError(
                f"states must be (n, t, {self.vectors.shape[1]}); got {(*states.shape,)}"
            )
        vectors = _wide(self.vectors)
        squares = np.square(vectors).sum(1)
        rows = [(squares - 2 * _wide(series) @ vectors.T).argmin(1) for series in states]
        return np.array(rows, np.int64).reshape(states.shape[:2])

    def surprise(self, codes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Give the mean -ln p of the most surprising run of each (n, t) row of codes: (n,)."""
        each = self.n_grams.surprise(codes)
        runs = np.lib.stride_tricks.sliding_window_view(each, min(self.run, each.shape[1]), axis=1)
        return np.asarray(runs.mean(2).max(1))

    def score(self, states: NDArray[np.float32], *, fingerprint: str) -> NDArray[np.float64]:
        """Give the surprise of series by the states of their tokens: (n, t, width) to (n,)."""
        _same_space(fingerprint, self.fingerprint)
        return self.surprise(self.codes(states))

    def to_bytes(self) -> bytes:
        """Write an npz without objects; equal heads give equal bytes."""
        counted = zip(self.n_grams.runs, self.n_grams.counts, strict=True)
        arrays = {
            f"{name}_{length}": array
            for length, pair in enumerate(counted, 1)
            for name, array in zip(("runs", "counts"), pair, strict=True)
        }
        return _pack(
            "code-surprise",
            self.model,
            self.fingerprint,
            vectors=self.vectors,
            strength=np.float64(self.n_grams.strength),
            order=np.int64(len(self.n_grams.runs)),
            run=np.int64(self.run),
            **arrays,
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "CodeSurprise":
        """Read what `to_bytes` wrote; raises `BundleRefused` on anything else."""
        arrays = _unpack("code-surprise", data)
        try:
            vectors, order = _floats(arrays, "vectors", 2), int(arrays["order"])
            lengths = range(1, order + 1)
            counted = NGrams(
                len(vectors),
                float(arrays["strength"]),
                tuple(_counts(arrays, f"runs_{length}") for length in lengths),
                tuple(_counts(arrays, f"counts_{length}") for length in lengths),
            )
            counted.check()
            run = int(arrays["run"])
            head = cls(vectors, counted, run, _text(arrays, "model"), _text(arrays, "fingerprint"))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise _refused("code-surprise", error) from None
        if head.run < 1:
            raise _refused("code-surprise", f"a run of {head.run} codes")
        return head


Head: TypeAlias = KnnAnomaly | LinearClassifier | CodeSurprise

_KINDS: Final[Mapping[str, type[Head]]] = {
    "code-surprise": CodeSurprise,
    "knn-anomaly": KnnAnomaly,
    "linear-classifier": LinearClassifier,
}


def read_head(data: bytes) -> Head | None:
    """Read a head of any kind that `to_bytes` wrote; None for arrays that are no head.

    Heads are never compressed, so compressed arrays are none either, and are not unpacked. Raises
    `BundleRefused` for a damaged one.

    Example:
        >>> weights, bias = np.eye(2, dtype=np.float32), np.zeros(2, np.float32)
        >>> head = LinearClassifier(weights, bias, ("cat", "dog"), 2, "student", "sha256:0")
        >>> read_head(head.to_bytes()).labels
        ('cat', 'dog')
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as npz:
            named = npz["kind"] if "kind" in npz and not _compressed(npz.zip) else None
            kind = str(named) if _is_text(named) else ""
    except Exception as error:  # noqa: BLE001 (zipfile and numpy raise many kinds on spoiled bytes)
        raise _refused("readable", error) from None
    return _KINDS[kind].from_bytes(data) if kind in _KINDS else None


def held_out(items: int, neighbours: int, target_fpr: float) -> int:
    """Give how many items calibrate a detector, or refuse what leaves too few references.

    Example:
        >>> held_out(100, neighbours=5, target_fpr=0.05)
        25
    """
    if neighbours < 1:
        raise InvalidInput(f"neighbours must be at least 1; got {neighbours}")
    if not _LEAST_FPR <= target_fpr < 1:
        raise InvalidInput(
            f"target_fpr must be between 0 and 1, and at least {_LEAST_FPR}; got {target_fpr}"
        )
    apart = max(items // 4, math.ceil(1 / target_fpr))
    if items < apart + neighbours:
        raise InvalidInput(
            f"{items} items are too few: target_fpr {target_fpr} holds {apart} out and"
            f" {neighbours} neighbours need as many references; give at least"
            f" {apart + neighbours}"
        )
    return apart


def _mean_distances(
    vectors: NDArray[np.float32],
    references: NDArray[np.float32],
    k: int,
    metric: Metric,
    between: Callable[[], None] | None = None,
) -> NDArray[np.float32]:
    """Give each row's mean distance to its k nearest references, computed in float64.

    The k nearest are compared by pairs, so that a block has as many values whatever k and d are.
    """
    between = between or (lambda: None)
    scores = np.empty(len(vectors))
    step = _at_a_time(_ROWS, max(k, vectors.shape[1]))
    pairs = _at_a_time(_VALUES, vectors.shape[1])
    for start in range(0, len(vectors), step):
        queries = vectors[start : start + step]
        some = _unit(queries) if metric == "cosine" else _wide(queries)
        nearest = _nearest(some, references, k, metric, between).ravel()
        of_row = np.arange(len(nearest)) // k
        distances = np.empty(len(nearest))
        for first in range(0, len(nearest), pairs):
            between()
            block = slice(first, first + pairs)
            distances[block] = _distances(
                some[of_row[block]], _wide(references[nearest[block]]), metric
            )
        scores[start : start + step] = np.sort(distances.reshape(-1, k), axis=1).mean(axis=1)
    return _narrow(scores)


def _distances(
    rows: NDArray[np.float64], references: NDArray[np.float64], metric: Metric
) -> NDArray[np.float64]:
    """Give the distance of each pair of rows: (n, d) and (n, d) to (n,)."""
    if metric == "cosine":
        distances: NDArray[np.float64]
        distances = (1 - np.einsum("nd,nd->n", rows, _unit(references))).clip(0, 2)
        distances[distances <= _RESOLUTION] = 0
    else:
        # Of the differences themselves: |a|^2 + |b|^2 - 2ab cancels where rows are near.
        distances = np.linalg.norm(rows - references, axis=1)
        distances[distances <= _RESOLUTION * np.linalg.norm(references, axis=1)] = 0
    return distances


def _nearest(
    rows: NDArray[np.float64],
    references: NDArray[np.float32],
    k: int,
    metric: Metric,
    between: Callable[[], None],
) -> NDArray[np.intp]:
    """Give the positions of each row's k nearest references: (n, d) and (m, d) to (n, k)."""
    directions = rows.astype(np.float32) if metric == "cosine" else rows
    indices, distances = np.empty((len(rows), 0), np.intp), np.empty((len(rows), 0))
    size = _at_a_time(_REFERENCES, max(rows.shape))
    for start in range(0, len(references), size):
        between()
        block = references[start : start + size]
        # Each rises with the distance, and leaves out what is the same for all references.
        if metric == "cosine":  # float32, twice as fast, tells as many directions as it has
            further = directions @ block.T
            np.negative(further, out=further)
        else:
            wide = _wide(block)
            further = np.square(wide).sum(axis=1) - 2 * (rows @ wide.T)
        near = _smallest(further, min(k, len(block)))
        indices = np.hstack((indices, start + near))
        distances = np.hstack((distances, np.take_along_axis(further, near, axis=1)))
        if indices.shape[1] > k:
            best = _smallest(distances, k)
            indices = np.take_along_axis(indices, best, axis=1)
            distances = np.take_along_axis(distances, best, axis=1)
    return indices


def _at_a_time(most: int, values: int) -> int:
    """How many of so many values each are compared at a time."""
    return max(1, min(most, _VALUES // (values or 1)))


def _smallest(values: NDArray[Any], k: int) -> NDArray[np.intp]:
    """Give the columns of each row's k smallest values, in any order: (n, m) to (n, k)."""
    return np.argpartition(values, k - 1, axis=1)[:, :k]


def _unit(vectors: NDArray[Any]) -> NDArray[np.float64]:
    """Give every row unit length, in float64; a row of zeros stays zero."""
    wide = _wide(vectors)
    lengths = np.linalg.norm(wide, axis=-1, keepdims=True)
    unit: NDArray[np.float64] = np.divide(wide, lengths, out=np.zeros_like(wide), where=lengths > 0)
    return unit


def _wide(array: NDArray[Any]) -> NDArray[np.float64]:
    """Give float64, in which squares of any float32 neither vanish nor overflow."""
    return array.astype(np.float64)


def _narrow(array: NDArray[np.float64]) -> NDArray[np.float32]:
    """Give float32, the largest of them for what is larger."""
    return np.minimum(array, np.finfo(np.float32).max).astype(np.float32)


def _metric(name: str) -> Metric:
    for metric in METRICS:
        if metric == name:
            return metric
    raise ValueError(f"its metric is {name!r:.80}")


def _matrix(vectors: NDArray[np.float32], dims: int | None = None) -> None:
    if not isinstance(vectors, np.ndarray):
        raise ShapeError(f"embeddings must be an array; got {type(vectors).__name__}")
    if (
        vectors.ndim != 2
        or vectors.dtype != np.float32
        or vectors.shape[1] != (dims or vectors.shape[1])
    ):
        raise ShapeError(
            f"embeddings must be (n, {dims or 'd'}) float32; got {vectors.shape} {vectors.dtype}"
        )
    if not (finite := np.isfinite(vectors).all(axis=1)).all():
        raise InvalidInput(
            f"embeddings must be finite; item {np.flatnonzero(~finite)[0]} has NaN or infinity"
        )


def _same_space(fingerprint: str, own: str) -> None:
    if fingerprint != own:
        raise SpaceMismatch(
            f"this head was fitted in the space {own}, and the embeddings are of {fingerprint};"
            " embed with the same model, or fit the head again"
        )


def _pack(kind: str, model: str, fingerprint: str, **arrays: NDArray[Any] | np.generic) -> bytes:
    buffer = io.BytesIO()
    np.savez(
        buffer,
        allow_pickle=False,
        kind=np.str_(kind),
        model=np.str_(model),
        fingerprint=np.str_(fingerprint),
        **arrays,
    )
    return buffer.getvalue()


def _unpack(kind: str, data: bytes) -> Mapping[str, NDArray[Any]]:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as npz:
            if _compressed(npz.zip):
                raise ValueError("they are compressed")
            arrays = dict(npz)
    except Exception as error:  # noqa: BLE001 (zipfile and numpy raise many kinds on spoiled bytes)
        raise _refused(kind, error) from None
    if "kind" not in arrays or not _is_text(arrays["kind"]) or str(arrays["kind"]) != kind:
        raise _refused(kind, "its kind is another")
    return arrays


def _compressed(archive: ZipFile) -> bool:
    """Say whether arrays are not as heads are written: these take no more memory than bytes."""
    return any(entry.compress_type != ZIP_STORED for entry in archive.infolist())


def _floats(arrays: Mapping[str, NDArray[Any]], name: str, ndim: int) -> NDArray[np.float32]:
    array = arrays[name]
    good = array.dtype == np.float32 and array.ndim == ndim and array.size
    if not good or not np.isfinite(array).all():
        raise ValueError(
            f"{name} must be finite float32 with {ndim} axes; got {array.dtype} {array.shape}"
        )
    return array


def _is_text(array: object) -> bool:
    """Say whether an array is one text: writing others as text can take longer than reading."""
    return isinstance(array, np.ndarray) and array.shape == () and array.dtype.kind == "U"


def _text(arrays: Mapping[str, NDArray[Any]], name: str) -> str:
    if not _is_text(array := arrays[name]):
        raise ValueError(f"{name} must be one text; got {array.dtype} {array.shape}")
    return str(array).encode().decode()  # which has no half of a surrogate pair


def _counts(arrays: Mapping[str, NDArray[Any]], name: str) -> NDArray[np.int64]:
    array = arrays[name]
    if array.dtype != np.int64 or array.ndim != 1 or not len(array):
        raise ValueError(f"{name} must be int64 with one axis; got {array.dtype} {array.shape}")
    return array


def _refused(kind: str, why: object) -> BundleRefused:
    return BundleRefused("bad-arrays", f"these bytes are not a {kind} head: {why}; fit it again")
