"""N-grams: the negative log-likelihood of each code of a sequence, by counts of runs of codes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import InvalidInput, ShapeError


@dataclass(frozen=True, slots=True)
class NGrams:
    """How often each run of 1 to `order` codes came in normal sequences.

    `runs[i]` are those of i + 1 codes, sorted, each written as a number in base `size`, and
    `counts[i]` how often each came.
    """

    size: int
    strength: float
    runs: tuple[NDArray[np.int64], ...]
    counts: tuple[NDArray[np.int64], ...]

    def check(self) -> None:
        """Raise ValueError where it is not what `n_grams` counts."""
        if not self.runs or not 0 < self.strength < np.inf or self.size ** len(self.runs) >= 2**63:
            raise ValueError(f"order {len(self.runs)}, size {self.size}, strength {self.strength}")
        for length, (runs, counts) in enumerate(zip(self.runs, self.counts, strict=True), 1):
            inside = runs[0] >= 0 and runs[-1] < self.size**length
            if not inside or (np.diff(runs) <= 0).any() or len(runs) != len(counts):
                raise ValueError(f"the runs of {length} codes do not ascend below {self.size}^n")
            if counts.min() < 1:
                raise ValueError(f"a run of {length} codes was counted {counts.min()} times")

    def surprise(self, codes: ArrayLike) -> NDArray[np.float64]:
        """Give -ln p of each code of (m, n) sequences after up to order - 1 codes before it.

        With c(run) its count, p(code | context) is (c(context code) + s p(code | context without
        its first code)) / (c(context) + s), s the strength, and below a single code uniform: what
        was never seen falls back to shorter contexts (MacKay and Peto 1995, "A Hierarchical
        Dirichlet Language Model").
        """
        sequences = _sequences(codes, self.size)
        chance = np.full(sequences.shape, 1 / self.size)
        for length, (runs, counts) in enumerate(zip(self.runs, self.counts, strict=True), 1):
            after = sequences[:, length - 1 :]
            if not after.shape[1]:
                break
            ngrams = _runs(sequences, length, self.size)
            seen = _count(ngrams, runs, counts)
            if length == 1:
                context = np.full(seen.shape, counts.sum())
            else:
                # A context counts where something follows it: as often as it begins a run.
                starts, where = np.unique(runs // self.size, return_inverse=True)
                follow = np.bincount(where, weights=counts, minlength=len(starts))
                context = _count(ngrams // self.size, starts, follow)
            shorter = chance[:, length - 1 :]
            chance[:, length - 1 :] = (seen + self.strength * shorter) / (context + self.strength)
        return np.asarray(-np.log(chance))


def n_grams(codes: ArrayLike, size: int, *, order: int = 2, strength: float = 10.0) -> NGrams:
    """Count the runs of up to `order` codes in (n, length) normal sequences of codes below `size`.

    `strength` is how many sightings a shorter context's opinion is worth.

    Raises InvalidInput for codes that are not there, an order below 1 or runs too many to number.
    """
    sequences = _sequences(codes, size)
    if not 1 <= order <= sequences.shape[1] or strength <= 0 or size**order >= 2**63:
        raise InvalidInput(
            f"order must be in [1, length = {sequences.shape[1]}], with size**order below 2**63, "
            f"and strength positive; got order {order}, size {size} and strength {strength}"
        )
    counted = [
        np.unique(_runs(sequences, length, size), return_counts=True)
        for length in range(1, order + 1)
    ]
    return NGrams(size, strength, tuple(runs for runs, _ in counted), tuple(c for _, c in counted))


def _sequences(codes: ArrayLike, size: int) -> NDArray[np.int64]:
    array = np.asarray(codes)
    if array.ndim != 2 or 0 in array.shape or array.dtype.kind not in "iu":
        raise ShapeError(
            f"codes must be whole numbers (n, length), n and length at least 1; got {array.dtype} "
            f"{array.shape}"
        )
    if array.min() < 0 or array.max() >= size:
        raise InvalidInput(
            f"codes must be in [0, size = {size}); got {array.min()} to {array.max()}"
        )
    return array.astype(np.int64)


def _runs(sequences: NDArray[np.int64], length: int, size: int) -> NDArray[np.int64]:
    """Write every run of `length` codes as a number: (n, all - length + 1)."""
    windows = np.lib.stride_tricks.sliding_window_view(sequences, length, axis=1)
    powers = size ** np.arange(length - 1, -1, -1, dtype=np.int64)
    written: NDArray[np.int64] = windows @ powers
    return written


def _count(
    queried: NDArray[np.int64], runs: NDArray[np.int64], counts: NDArray[np.generic]
) -> NDArray[np.float64]:
    """Look up how often each came; 0 where it never did."""
    at = np.searchsorted(runs, queried).clip(max=len(runs) - 1)
    return np.where(runs[at] == queried, counts[at], 0).astype(np.float64)
