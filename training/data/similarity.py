"""Cosines of queries and passages, a block of queries at a time."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from attar.errors import InvalidInput, ShapeError

BLOCK = 2**22  # cosines at a time: 16 MiB


def cosine_blocks(
    queries: NDArray[np.float32], passages: NDArray[np.float32]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Give the rows (b,) of some queries and their cosines (b, n) with all passages.

    `queries` (m, d) and `passages` (n, d) are unit vectors, and m <= n: passage i is that of
    query i, and further passages have no query. (m, n) is never in memory at one time.

    Raises:
        ShapeError: the shapes do not agree.
        InvalidInput: a number is not finite.
    """
    if (
        queries.ndim != 2
        or passages.ndim != 2
        or queries.shape[1] != passages.shape[1]
        or not 0 < len(queries) <= len(passages)
    ):
        raise ShapeError(
            "queries (m, d) and passages (n, d) must be of one width, with 0 < m <= n; got "
            f"{queries.shape} and {passages.shape}"
        )
    for name, vectors in (("queries", queries), ("passages", passages)):
        if not np.isfinite(vectors).all():
            bad = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
            raise InvalidInput(f"{name} must be finite; row {bad} is not: the encoder diverged")
    rows = max(1, BLOCK // len(passages))
    for start in range(0, len(queries), rows):
        block = np.arange(start, min(start + rows, len(queries)), dtype=np.int64)
        yield block, queries[block] @ passages.T
