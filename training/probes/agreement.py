"""Agreement: how much two encoders say the same of the same texts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from attar.errors import ShapeError

from ._rows import unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """The mean cosine between the two embeddings of a text, and the rank correlation of pairs.

    `spearman` compares the cosine similarities of all pairs of different texts. It is 1 where both
    encoders order the pairs alike, even where one space is the other, rotated. Where an encoder
    gives all pairs one similarity, it is 1 if the other does too, and else 0.
    """

    cosine: float
    spearman: float


def agreement(before: ArrayLike, after: ArrayLike) -> Agreement:
    """Compare two (n, d) embeddings of the same n texts, n at least 3.

    Raises ShapeError where they do not share one shape, or n is smaller.
    """
    first, second = unit("before", before), unit("after", after)
    if first.shape != second.shape or len(first) < 3:
        raise ShapeError(
            "before and after must share one (n, d) shape, n at least 3; got "
            f"{first.shape} and {second.shape}"
        )
    pairs = np.triu_indices(len(first), k=1)
    before_order, after_order = (rankdata((rows @ rows.T)[pairs]) for rows in (first, second))
    cosine = float((first * second).sum(axis=1).mean())
    if not before_order.std() or not after_order.std():  # all pairs alike: there is no correlation
        return Agreement(cosine=cosine, spearman=float(np.array_equal(before_order, after_order)))
    return Agreement(cosine=cosine, spearman=float(np.corrcoef(before_order, after_order)[0, 1]))
