"""Few labels: some labelled rows of each class of a data set, for a method that trains on them."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from attar.errors import InvalidInput

from ..data.source import Rows, Source
from .few_shot import few_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class FewLabels:
    """Some training items, the numbers of their classes, and how many classes there are."""

    items: Rows  # all training items
    rows: Tensor  # (m,) int64, of `items`
    labels: Tensor  # (m,) int64, in [0, classes)
    classes: int

    def __len__(self) -> int:
        """Give how many labelled items there are."""
        return len(self.rows)

    def __getitem__(self, drawn: Tensor, /) -> tuple[Tensor, Tensor]:
        """Give the items at (b,) int64 `drawn`, of the labelled ones, and their labels."""
        return self.items[self.rows[drawn]], self.labels[drawn]


def few_labels(data: Source, each: int, *, seed: int) -> FewLabels:
    """Draw `each` labelled training rows a class; raises InvalidInput without labels."""
    if data.train_labels is None:
        raise InvalidInput("label augmentation learns classes; the source has no labels")
    names, classes = np.unique(data.train_labels, return_inverse=True)
    rows = torch.from_numpy(few_rows(data.train_labels, each, seed=seed))
    labels = torch.from_numpy(classes)[rows]
    return FewLabels(items=data.train, rows=rows, labels=labels, classes=len(names))
