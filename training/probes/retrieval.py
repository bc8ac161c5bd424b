"""Retrieval probe: the rank of the relevant document of each query, by cosine similarity."""

from typing import Any

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
    query_rows, document_rows = unit("queries", queries), unit("documents", documents)
    targets = np.arange(len(query_rows)) if relevant is None else np.asarray(relevant)
    if query_rows.shape[1] != document_rows.shape[1] or targets.shape != (len(query_rows),):
        raise ShapeError(
            f"queries (m, d), documents (n, d) and relevant (m,) must agree; "
            f"got {query_rows.shape}, {document_rows.shape} and {targets.shape}"
        )
    if targets.min() < 0 or targets.max() >= len(document_rows):
        raise InvalidInput(
            f"relevant must be in [0, {len(document_rows)}), the documents' rows; "
            f"got {targets.min()} to {targets.max()}"
        )
    result = np.empty(len(query_rows), dtype=np.int64)
    for start in range(0, len(query_rows), CHUNK):
        chunk = slice(start, start + CHUNK)
        cosines = query_rows[chunk] @ document_rows.T  # (chunk, n)
        own = np.take_along_axis(cosines, targets[chunk, None], axis=1)
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


def labelled_scores(
    queries: ArrayLike,
    query_labels: ArrayLike,
    documents: ArrayLike | None = None,
    document_labels: ArrayLike | None = None,
    *,
    k: int = 10,
) -> dict[str, float]:
    """Give mean average precision, MRR and hits at 1 and `k` where the same label is right.

    `queries` (m, d) and `documents` (n, d) are embeddings, with a label each; without documents,
    queries look for one another and never find themselves. A query for which no document is right
    has no score and is left out. A tie counts against the query.

    Raises:
        ShapeError: widths differ, labels are not one a row, or documents come without labels.
        InvalidInput: no query has a right document.
    """
    query_rows = unit("queries", queries)
    labels = np.asarray(query_labels)
    document_rows = query_rows if documents is None else unit("documents", documents)
    right_labels = labels if documents is None else np.asarray(document_labels)
    _check_labels(query_rows, labels, document_rows, right_labels)
    precisions, firsts = [], []
    for start in range(0, len(query_rows), CHUNK):
        chunk = slice(start, start + CHUNK)
        cosines = query_rows[chunk] @ document_rows.T  # (chunk, n)
        right = labels[chunk, None] == right_labels
        if documents is None:
            own = np.arange(len(cosines)), np.arange(len(query_rows))[chunk]
            cosines[own], right[own] = -np.inf, False  # last, and wrong
        has_match = right.any(axis=1)
        # Wrong documents before right ones of the same cosine.
        order = np.lexsort((right[has_match], -cosines[has_match]))
        hits = np.take_along_axis(right[has_match], order, axis=1)
        precision = hits.cumsum(axis=1) / np.arange(1, len(document_rows) + 1)
        precisions.append((precision * hits).sum(axis=1) / hits.sum(axis=1))
        firsts.append(hits.argmax(axis=1) + 1)
    average, first = np.concatenate(precisions), np.concatenate(firsts)
    if not len(first):
        raise InvalidInput("no query has a document with its label; there is nothing to find")
    return {
        "map": float(average.mean()),
        "mrr": float((1 / first).mean()),
        "hit_at_1": float((first <= 1).mean()),
        f"hit_at_{k}": float((first <= k).mean()),
    }


def _check_labels(
    query_rows: NDArray[np.float32],
    labels: NDArray[Any],
    document_rows: NDArray[np.float32],
    right_labels: NDArray[Any],
) -> None:
    """Raise ShapeError unless widths agree, and each row has a label."""
    if (
        query_rows.shape[1] != document_rows.shape[1]
        or labels.shape != (len(query_rows),)
        or right_labels.shape != (len(document_rows),)
    ):
        raise ShapeError(
            "queries (m, d) and documents (n, d) must each have a label a row; got "
            f"{query_rows.shape} with {labels.shape} and {document_rows.shape} with "
            f"{right_labels.shape}"
        )


def scores(
    queries: ArrayLike, documents: ArrayLike, relevant: ArrayLike | None = None
) -> dict[str, float]:
    """Give recall at 1 and 10, MRR, and RankMe of the documents; arguments as in `ranks`."""
    positions = ranks(queries, documents, relevant)
    return {
        "recall_at_1": float((positions <= 1).mean()),
        "recall_at_10": float((positions <= 10).mean()),
        "mrr": float((1 / positions).mean()),
        "rankme": rankme(documents),
    }
