"""Hard negatives: passages near a query that are not its own, without those that may be right."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attar.errors import InvalidInput

from .similarity import cosine_blocks

LAST = 50
MARGIN = 0.05


@dataclass(frozen=True, slots=True)
class HardNegatives:
    """The rows of passages (n, h) that are hard negatives of each query, the nearest first.

    A row that has fewer than h ends in -1. `filtered` of `candidates` were too near to the positive
    to be called wrong.
    """

    rows: NDArray[np.int64]
    candidates: int
    filtered: int

    def lines(self) -> Iterator[str]:
        """Give a line for each thing to know."""
        short = int((self.rows < 0).any(axis=1).sum())
        yield (
            f"hard negatives: {self.rows.shape[1]} a query; {self.filtered:,} of "
            f"{self.candidates:,} candidates are too near to the positive; {short:,} of "
            f"{len(self.rows):,} queries have fewer"
        )


def hard_negatives(
    queries: NDArray[np.float32],
    passages: NDArray[np.float32],
    *,
    count: int,
    last: int = LAST,
    margin: float = MARGIN,
    seed: int = 0,
) -> HardNegatives:
    """Draw `count` hard negatives of each query from ranks 2 to `last` of a retriever.

    `queries` (m, d) and `passages` (n, d) are the retriever's unit vectors; passage i is the
    positive of query i, and counts as rank 1. Of the nearest `last` - 1 others, those stay whose
    cosine to the query is at most s - margin |s|, s being the positive's, and `count` of them are
    drawn evenly. A query's draw depends on its row, `last` and `seed` alone, not on the block.

    Source: positive-aware mining, TopK-PercPos at 95 %, Moreira et al. 2024 (arXiv:2407.15831);
    |s| keeps the bound below a positive of negative cosine. Departure: the draw, which the paper
    makes from the top; ranks are of the encoder itself, not of a stronger teacher.

    Raises:
        ShapeError: the shapes do not agree.
        InvalidInput: count < 1, last < 2, or margin is not in [0, 1].
    """
    if count < 1 or last < 2 or not 0 <= margin <= 1:
        raise InvalidInput(
            f"count must be at least 1, last at least 2 and margin in [0, 1]; got {count}, {last} "
            f"and {margin}"
        )
    width = min(last - 1, len(passages) - 1)
    draw = np.random.default_rng(seed)
    rows = np.full((len(queries), count), -1, np.int64)
    filtered = 0
    for block, cosines in cosine_blocks(queries, passages):
        keys = draw.random((len(block), last - 1))[:, :width]
        near, right = _nearest(cosines, block, width), np.arange(len(block))
        scores = np.take_along_axis(cosines, near, axis=1)
        own = cosines[right, block][:, None]
        wrong = scores <= own - margin * np.abs(own)
        filtered += int((~wrong).sum())
        rows[block] = _drawn(near, wrong, keys, count)
    return HardNegatives(rows, candidates=len(queries) * width, filtered=filtered)


def _nearest(
    cosines: NDArray[np.float32], block: NDArray[np.int64], width: int
) -> NDArray[np.int64]:
    """Give the `width` passages nearest to each query but its own, nearest first."""
    others = cosines.copy()
    others[np.arange(len(block)), block] = -np.inf
    part = np.argpartition(-others, width - 1, axis=1)[:, :width] if width else others[:, :0]
    part = np.sort(part.astype(np.int64), axis=1)  # of equal cosines, the first row comes first
    order = np.argsort(-np.take_along_axis(others, part, axis=1), axis=1, kind="stable")
    nearest: NDArray[np.int64] = np.take_along_axis(part, order, axis=1)
    return nearest


def _drawn(
    near: NDArray[np.int64], wrong: NDArray[np.bool_], keys: NDArray[np.float64], count: int
) -> NDArray[np.int64]:
    """Draw up to `count` columns of each row where `wrong`, by the lowest keys; -1 fills up."""
    order = np.argsort(np.where(wrong, keys, np.inf), axis=1, kind="stable")[:, :count]
    drawn = np.sort(
        np.where(np.take_along_axis(wrong, order, axis=1), order, near.shape[1]), axis=1
    )
    padded = np.concatenate([near, np.full((len(near), 1), -1, np.int64)], axis=1)
    rows = np.full((len(near), count), -1, np.int64)
    rows[:, : drawn.shape[1]] = np.take_along_axis(padded, drawn, axis=1)
    return rows
