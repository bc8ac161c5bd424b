"""Drift: whether the embeddings a model serves still span as much and lie where they did.

One embedding of each call is kept, the last `rows` of them. The first window that was full is the
reference, and later windows are compared with it. The figures cost some tenths of a second of one
core, so they are made in a thread, and neither a call nor a scrape waits for them.
"""

import threading
import time
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

ROWS: Final = 1024
_SHARE: Final = 0.1  # of the time, in which figures are made
EPSILON: Final = 1e-7  # RankMe's, added to each share of the spectrum

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a window of embeddings says; zeros until it is full."""

    rows: int
    rankme: float = 0.0
    shift: float = 0.0
    drift: float = 0.0


NOTHING: Final = Figures(rows=0)


@dataclass(frozen=True, slots=True)
class Spread:
    """A window as a Gaussian: its mean, and a factor f of its covariance, which is fᵀ f."""

    mean: Matrix  # (d,)
    factor: Matrix  # (min(n, d), d)

    @property
    def size(self) -> float:
        """The root of the covariance's trace: how far a row is from the mean."""
        return float(np.linalg.norm(self.factor))


class Drift:
    """The window of one model's embeddings, and its reference."""

    def __init__(self, rows: int = ROWS) -> None:
        """Keep up to `rows` embeddings, all of one width."""
        self._size = rows
        self._rows = np.zeros((rows, 0), np.float32)
        self._count = 0
        self._reported = 0  # the count at the last figures
        self._figures = NOTHING
        self._reference: Spread | None = None
        self._lock = threading.Lock()
        self._making = False
        self._next_s = 0.0  # time.monotonic() before which none are made

    def keep(self, embedding: NDArray[np.float32]) -> None:
        """Take one embedding in place of the oldest: a copy of (dim,) numbers, and no more."""
        with self._lock:
            if self._count == 0:
                self._rows = np.zeros((self._size, embedding.size), np.float32)
            self._rows[self._count % self._size] = embedding
            self._count += 1

    def shown(self) -> Figures:
        """The last figures; new ones are computed meanwhile, by a tenth of a core at most."""
        with self._lock:
            if self._count < self._size:
                return Figures(rows=self._count)
            is_old = self._figures is NOTHING or self._count - self._reported >= self._size / 16
            if is_old and not self._making and time.monotonic() >= self._next_s:
                self._making = True
                threading.Thread(target=self._make, name="attar-drift", daemon=True).start()
            return Figures(rows=self._size) if self._figures is NOTHING else self._figures

    def _make(self) -> None:
        began = time.monotonic()
        try:
            self.figures()
        finally:
            now = time.monotonic()
            self._next_s = now + (now - began) / _SHARE
            self._making = False

    def figures(self) -> Figures:
        """The window's figures, computed again when a sixteenth of it has changed."""
        size = self._size
        with self._lock:
            count = self._count
            if count < size:
                return Figures(rows=count)
            if self._figures is not NOTHING and count - self._reported < size / 16:
                return self._figures
            rows = self._rows.astype(np.float64)
            self._reported = count
        now = spread(rows)
        self._reference = self._reference or now
        self._figures = Figures(
            rows=size,
            rankme=rankme(rows),
            shift=float(np.linalg.norm(now.mean - self._reference.mean))
            / max(self._reference.size, EPSILON),
            drift=frechet(self._reference, now) / max(self._reference.size, EPSILON),
        )
        return self._figures


def rankme(rows: Matrix) -> float:
    """The smooth rank of (n, d) rows: about 1 when collapsed, at most min(n, d).

    exp(-Σ pₖ ln pₖ) with pₖ = σₖ / ‖σ‖₁ + 1e-7 and σ the singular values, without centring: Garrido
    et al. 2023 (arXiv:2210.02885). Compare figures only at one n.
    """
    singular = np.linalg.svd(_factor(rows), compute_uv=False)
    p = singular / max(singular.sum(), EPSILON) + EPSILON
    return float(np.exp(-(p * np.log(p)).sum()))


def spread(rows: Matrix) -> Spread:
    """The mean and covariance of (n, d) rows."""
    mean = rows.mean(axis=0)
    return Spread(mean, _factor((rows - mean) / np.sqrt(len(rows))))


def frechet(first: Spread, other: Spread) -> float:
    """How far two Gaussians are apart: Fréchet's distance, a Wasserstein distance of order 2.

    √(‖μ₁ - μ₂‖² + tr(C₁ + C₂ - 2 (C₁ C₂)^½)): Dowson and Landau 1982 (doi:10.1016/0047-259X(82)
    90077-X). With C = fᵀ f the last trace is the sum of the singular values of f₁ f₂ᵀ.
    """
    apart = float(((first.mean - other.mean) ** 2).sum())
    shared = float(np.linalg.svd(first.factor @ other.factor.T, compute_uv=False).sum())
    return float(np.sqrt(max(0.0, apart + first.size**2 + other.size**2 - 2 * shared)))


def _factor(rows: Matrix) -> Matrix:
    """Fewest rows with the same Gram matrix rowsᵀ rows."""
    if len(rows) <= rows.shape[1]:
        return rows
    return np.asarray(np.linalg.qr(rows, mode="r"))
