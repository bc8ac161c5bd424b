"""Heads: small models on top of embeddings, arrays only, bound to the space they were fitted in.

A head is a value: it is fitted or loaded once and never changes. It refuses embeddings of another
space, because a distance between two spaces is a number without a meaning.
"""

import io
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .errors import BundleRefused, InvalidInput, ShapeError, SpaceMismatch

_ROWS: Final = 512  # queries scored at a time, which bounds memory to 512 similarities a reference


@dataclass(frozen=True)
class KnnAnomaly:
    """How far an item is from normal ones, and how surprising that distance is.

    The score is the mean cosine distance to the k nearest references (Ramaswamy et al. 2000 take
    the distance to the k-th alone; the mean is smoother). The p-value is split-conformal (Laxhammar
    and Falkman 2010; Bates et al. 2023): calibration items are held out of the references, scored
    like any new item, and p = (1 + how many of them score at least as high) / (1 + c). For a new
    item exchangeable with them, P(p <= a) <= a for every a, on average over the draw of the
    calibration items; so at most `target_fpr` of normal items are called anomalies.
    """

    references: NDArray[np.float32]  # (m, d), unit rows
    calibration: NDArray[np.float32]  # (c,) scores of held-out items, ascending
    neighbours: int
    target_fpr: float
    model: str
    fingerprint: str

    @classmethod
    def fit(
        cls,
        vectors: NDArray[np.float32],
        *,
        model: str,
        fingerprint: str,
        neighbours: int = 5,
        target_fpr: float = 0.05,
        seed: int = 0,
    ) -> "KnnAnomaly":
        """Fit on n normal items, (n, d): a quarter of them, drawn with `seed`, is held out.

        More than a quarter is held out where `target_fpr` needs it: c calibration items cannot
        give a p-value below 1 / (c + 1). Raises `InvalidInput` when that leaves fewer references
        than `neighbours`.
        """
        _matrix(vectors)
        if neighbours < 1:
            raise InvalidInput(f"neighbours must be at least 1; got {neighbours}")
        if not 0 < target_fpr < 1:
            raise InvalidInput(f"target_fpr must be between 0 and 1; got {target_fpr}")
        held_out = max(len(vectors) // 4, math.ceil(1 / target_fpr))
        if len(vectors) < held_out + neighbours:
            raise InvalidInput(
                f"{len(vectors)} items are too few: target_fpr {target_fpr} holds {held_out} out"
                f" and {neighbours} neighbours need as many references; give at least"
                f" {held_out + neighbours}"
            )
        order = np.random.default_rng(seed).permutation(len(vectors))
        references = _unit(vectors[order[held_out:]])
        scores = _distances(_unit(vectors[order[:held_out]]), references, neighbours)
        return cls(references, np.sort(scores), neighbours, target_fpr, model, fingerprint)

    @cached_property
    def threshold(self) -> float:
        """The score above which p <= `target_fpr`: the calibration score of that rank."""
        above = math.floor(self.target_fpr * (len(self.calibration) + 1)) - 1
        return float(self.calibration[len(self.calibration) - 1 - above])

    def score(self, vectors: NDArray[np.float32], *, fingerprint: str) -> NDArray[np.float32]:
        """Give the mean cosine distance to the k nearest references, in [0, 2]: (n, d) to (n,)."""
        _same_space(fingerprint, self.fingerprint)
        _matrix(vectors, self.references.shape[1])
        return _distances(_unit(vectors), self.references, self.neighbours)

    def p_values(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give the conformal p-value of each score: (n,) to (n,), from 1 / (c + 1) to 1."""
        c = len(self.calibration)
        as_high = c - np.searchsorted(self.calibration, scores, side="left")
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
                str(arrays["model"]),
                str(arrays["fingerprint"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise _refused("knn-anomaly", error) from None
        if not 1 <= head.neighbours <= len(head.references):
            raise _refused("knn-anomaly", f"{head.neighbours} neighbours")
        if not 1 <= head.target_fpr * (len(head.calibration) + 1) < len(head.calibration) + 1:
            raise _refused("knn-anomaly", f"target_fpr {head.target_fpr}")
        return head


@dataclass(frozen=True, slots=True)
class LinearClassifier:
    """A probability for each label: softmax(x W' + b) of unit-length embeddings x."""

    weights: NDArray[np.float32]  # (k, d)
    bias: NDArray[np.float32]  # (k,)
    labels: tuple[str, ...]  # k, at least 2
    examples: int  # how many items it was fitted on
    model: str
    fingerprint: str

    def probabilities(
        self, vectors: NDArray[np.float32], *, fingerprint: str
    ) -> NDArray[np.float32]:
        """Give each item's probability of each label: (n, d) to (n, k), rows sum to 1."""
        _same_space(fingerprint, self.fingerprint)
        _matrix(vectors, self.weights.shape[1])
        logits = vectors @ self.weights.T + self.bias  # (n, k)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        p: NDArray[np.float32] = exponentials / exponentials.sum(axis=1, keepdims=True)
        return p

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
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "LinearClassifier":
        """Read what `to_bytes` wrote; raises `BundleRefused` on anything else."""
        arrays = _unpack("linear-classifier", data)
        try:
            head = cls(
                _floats(arrays, "weights", 2),
                _floats(arrays, "bias", 1),
                tuple(str(label) for label in arrays["labels"]),
                int(arrays["examples"]),
                str(arrays["model"]),
                str(arrays["fingerprint"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise _refused("linear-classifier", error) from None
        if not 2 <= len(head.labels) == len(head.weights) == len(head.bias):
            raise _refused("linear-classifier", f"{len(head.labels)} labels")
        return head


def _distances(
    rows: NDArray[np.float32], references: NDArray[np.float32], k: int
) -> NDArray[np.float32]:
    """Give each unit row's mean cosine distance to its k nearest references."""
    scores = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), _ROWS):
        similar = rows[start : start + _ROWS] @ references.T  # (rows, m)
        nearest = np.partition(similar, len(references) - k, axis=1)[:, len(references) - k :]
        scores[start : start + _ROWS] = 1 - np.sort(nearest, axis=1).mean(axis=1)
    return scores


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give every row unit length; a zero row stays zero, at distance 1 from everything."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units: NDArray[np.float32] = np.zeros_like(vectors)
    np.divide(vectors, lengths, out=units, where=lengths > 0)
    return units


def _matrix(vectors: NDArray[np.float32], dims: int | None = None) -> None:
    expected = f"(n, {dims or 'd'}) float32"
    if (
        vectors.ndim != 2
        or vectors.dtype != np.float32
        or vectors.shape[1] != (dims or vectors.shape[1])
    ):
        raise ShapeError(f"embeddings must be {expected}; got {vectors.shape} {vectors.dtype}")
    if not np.isfinite(vectors).all():
        raise InvalidInput("embeddings must be finite; got nan or inf")


def _same_space(given: str, own: str) -> None:
    if given != own:
        raise SpaceMismatch(
            f"this head was fitted in the space {own}, and the embeddings are of {given};"
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
            arrays = dict(npz)
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise _refused(kind, error) from None
    if str(arrays.get("kind")) != kind:
        raise _refused(kind, f"its kind is {arrays.get('kind')}")
    return arrays


def _floats(arrays: Mapping[str, NDArray[Any]], name: str, ndim: int) -> NDArray[np.float32]:
    array = arrays[name]
    if array.dtype != np.float32 or array.ndim != ndim or not np.isfinite(array).all():
        raise ValueError(
            f"{name} must be finite float32 with {ndim} axes; got {array.dtype} {array.shape}"
        )
    return array


def _refused(kind: str, why: object) -> BundleRefused:
    return BundleRefused("bad-arrays", f"these bytes are not a {kind} head: {why}; fit it again")
