"""Queries and their passages as token ids, with the hard negatives of each query."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from attar.errors import InvalidInput

from ..data.text import Row, pad
from ..methods.dense_retrieval import DenseRetrievalBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class PassagePairs:
    """Query i and passage i are a pair; row i of `negatives` (n, h) has passages that are not its.

    The nearest negative of a query comes first.
    """

    queries: Sequence[Row]
    passages: Sequence[Row]
    negatives: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if len(self.queries) != len(self.passages):
            raise InvalidInput(
                "queries and passages must pair up; got "
                f"{len(self.queries)} and {len(self.passages)}"
            )

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def lengths(self) -> tuple[int, ...]:
        """The tokens of each pair, by which batches of little padding are made."""
        return tuple(map(len, self.passages))

    def batch(self, rows: Tensor, *, negatives: int) -> DenseRetrievalBatch:
        """Give the pairs of (b,) int64 `rows`, with the first `negatives` of each query."""
        indices = rows.tolist()
        hard = None
        if negatives:
            if self.negatives is None or self.negatives.shape[1] < negatives:
                there = 0 if self.negatives is None else self.negatives.shape[1]
                raise InvalidInput(
                    f"{negatives} hard negatives of a query are wanted, and there are {there}"
                )
            hard = pad(
                [self.passages[i] for i in self.negatives[indices, :negatives].flatten().tolist()]
            )
        return DenseRetrievalBatch(
            queries=pad([self.queries[i] for i in indices]),
            passages=pad([self.passages[i] for i in indices]),
            negatives=hard,
        )
