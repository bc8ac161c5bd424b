"""Retrieval probe: whether a query finds its own document."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attar.errors import InvalidInput, ShapeError

from ._rows import unit
from .rankme import rankme

CHUNK = 1024  # queries compared at a time: memory is CHUNK x documents floats


def ranks(
    queries: ArrayLike, documents: ArrayLike, relevant: ArrayLike | None = None
) -> NDArray[np.int64]:
    """Give each query's rank, from 1, of its relevant document by cosine similarity.

    `relevant` (m,) is the row in `documents` (n, d) that each of `queries` (m, d) should find; by
    default row i finds row i. A tie counts against the query, so that a collapsed encoder scores
    last and not first.

    Raises:
        ShapeError: the widths differ, or `relevant` is not (m,).
        InvalidInput: `relevant` names a row that is not there.
    """
    asked, found = unit("queries", queries), unit("documents", documents)
    wanted = np.arange(len(asked)) if relevant is None else np.asarray(relevant)
    if asked.shape[1] != found.shape[1] or wanted.shape != (len(asked),):
        raise ShapeError(
            f"queries (m, d), documents (n, d) and relevant (m,) must agree; "
            f"got {asked.shape}, {found.shape} and {wanted.shape}"
        )
    if wanted.min() < 0 or wanted.max() >= len(found):
        raise InvalidInput(
            f"relevant must be in [0, {len(found)}), the documents' rows; "
            f"got {wanted.min()} to {wanted.max()}"
        )
    result = np.empty(len(asked), dtype=np.int64)
    for start in range(0, len(asked), CHUNK):
        chunk = slice(start, start + CHUNK)
        cosines = asked[chunk] @ found.T  # (chunk, n)
        own = np.take_along_axis(cosines, wanted[chunk, None], axis=1)
        result[chunk] = (cosines >= own).sum(axis=1)
    return result


def recall_at_k(
    queries: ArrayLike, documents: ArrayLike, relevant: ArrayLike | None = None, *, k: int = 10
) -> float:
    """Give the share of queries whose document is among the first `k`; arguments as in `ranks`."""
    return float((ranks(queries, documents, relevant) <= k).mean())


def mrr(queries: ArrayLike, documents: ArrayLike, relevant: ArrayLike | None = None) -> float:
    """Give the mean over queries of 1 / rank of their document; arguments as in `ranks`."""
    return float((1 / ranks(queries, documents, relevant)).mean())


def scores(
    queries: ArrayLike, documents: ArrayLike, relevant: ArrayLike | None = None
) -> dict[str, float]:
    """Give recall at 1 and 10, MRR, and RankMe of the documents; arguments as in `ranks`."""
    found = ranks(queries, documents, relevant)
    return {
        "recall_at_1": float((found <= 1).mean()),
        "recall_at_10": float((found <= 10).mean()),
        "mrr": float((1 / found).mean()),
        "rankme": rankme(documents),
    }
