"""Geometry of the sphere of embeddings: pairs lie together, and all of them fill it.

Wang and Isola, ICML 2020, arXiv:2005.10242.
"""

import numpy as np
from numpy.typing import ArrayLike

from attar.errors import ShapeError

from ._rows import unit

CHUNK = 1024  # rows compared at a time: memory is CHUNK x n floats


def alignment(first: ArrayLike, second: ArrayLike, *, alpha: float = 2) -> float:
    """Give the mean of |x - y|^alpha over positive pairs, rows i of either (n, d): 0 is perfect.

    Rows are scaled to length one; with alpha 2 the value is 2 - 2 cos, in [0, 4]. Raises ShapeError
    when the two do not pair up.
    """
    x, y = unit("first", first), unit("second", second)
    if x.shape != y.shape:
        raise ShapeError(f"pairs must share one (n, d) shape; got {x.shape} and {y.shape}")
    return float((np.linalg.norm(x.astype(np.float64) - y, axis=1) ** alpha).mean())


def uniformity(embeddings: ArrayLike, *, t: float = 2) -> float:
    """Give log of the mean of exp(-t |x - y|^2) over different rows of (n, d): lower is better.

    0 is a collapsed encoder; the uniform distribution on a sphere of many dimensions comes near
    -2 t. Raises ShapeError for fewer than two rows.
    """
    x = unit("embeddings", embeddings).astype(np.float64)
    n = len(x)
    if n < 2:
        raise ShapeError(f"uniformity compares rows, at least 2; got {n}")
    squares = (x**2).sum(axis=1)  # zero rows stay zero
    total = 0.0
    for start in range(0, n, CHUNK):
        own = slice(start, start + CHUNK)
        distance = squares[own, None] + squares - 2 * x[own] @ x.T  # (chunk, n)
        total += float(np.exp(-t * np.maximum(distance, 0)).sum())
    return float(np.log((total - n) / (n * (n - 1))))
