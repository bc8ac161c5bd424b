"""Few labels: fixed class-balanced lists of labelled items, and batches of n items a class.

The protocol of 1 % and 10 % of the labels, the same list for every method: Chen et al., NeurIPS
2020 (SimCLRv2), arXiv:2006.10029, section 3.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from attar.errors import InvalidInput

from ..data.source import Labels
from ..sampler import seed_at


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelList:
    """The items whose labels may be used: (m,) int64 `rows`, rising."""

    rows: Labels

    @property
    def sha256(self) -> str:
        """The hash of the rows as little-endian int64: two runs with one hash used one list."""
        return hashlib.sha256(self.rows.astype("<i8").tobytes()).hexdigest()


def label_lists(labels: Labels, share: float, seed: int) -> LabelList:
    """Choose round(share x items) items of (items,) int64 `labels`, and at least one of each class.

    Classes get as many items as one another, to within one, as far as they have them. With one
    seed, a smaller share's items are all in a larger one's.

    Raises InvalidInput when `share` is not in (0, 1], or there are no labels.
    """
    if labels.ndim != 1 or not len(labels) or not 0 < share <= 1:
        raise InvalidInput(
            "labels must be one an item, of at least one, and share in (0, 1]; got labels of "
            f"shape {labels.shape} and share {share}"
        )
    classes, label = np.unique(labels, return_inverse=True)
    draw = np.random.default_rng(seed_at(seed))
    shuffled = draw.permutation(len(label))
    # Every class's first item, the classes in random order, then every class's second, and so on.
    by_class = shuffled[label[shuffled].argsort(kind="stable")]
    turn = np.empty(len(label), np.int64)
    turn[by_class] = np.concatenate([np.arange(size) for size in np.bincount(label)])
    order = np.lexsort((draw.permutation(len(classes))[label], turn))
    return LabelList(rows=np.sort(order[: max(len(classes), round(share * len(label)))]))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BalancedLabels:
    """Batches of `per_class` items of every class, in order of class, from a list of rows.

    A class's items all come once, in random order, before one comes again; a class with fewer than
    `per_class` gives some twice to a batch. `labels` has one number an item, listed or not. The
    rows of step s depend on (seed, s) alone.
    """

    labels: Labels
    rows: Labels
    per_class: int
    seed: int

    def __post_init__(self) -> None:
        if self.per_class < 1 or not len(self.rows):
            raise InvalidInput(
                "per_class must be at least 1, and rows at least one; "
                f"got {self.per_class} and {len(self.rows)} rows"
            )

    def __call__(self, step: int) -> Tensor:
        """Give the (classes per_class,) int64 rows of step `step`, from 0."""
        listed = self.labels[self.rows]
        batch = [
            self._draw(self.rows[listed == name], index, step)
            for index, name in enumerate(np.unique(listed))
        ]
        return torch.from_numpy(np.concatenate(batch))

    def _draw(self, rows: Labels, index: int, step: int) -> Labels:
        """Give the step's part of a class's endless row of orders."""
        wanted = np.arange(step * self.per_class, (step + 1) * self.per_class)
        rounds, at = np.divmod(wanted, len(rows))
        orders = {
            turn: np.random.default_rng(seed_at(self.seed, index, turn)).permutation(rows)
            for turn in np.unique(rounds).tolist()
        }
        return np.array([orders[turn][i] for turn, i in zip(rounds.tolist(), at, strict=True)])
