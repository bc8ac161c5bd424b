"""Few labels: some labelled rows of each class of a data set, for a method that trains on them."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from attar.errors import InvalidInput

from ..data.source import Source
from .few_shot import few_rows


class FewLabels(NamedTuple):
    """Some training rows, the numbers of their classes, and how many classes there are."""

    rows: Tensor  # (m,) int64
    labels: Tensor  # (m,) int64, in [0, classes)
    classes: int


def few_labels(data: Source, each: int, *, seed: int) -> FewLabels:
    """Draw `each` labelled training rows a class; raises InvalidInput without labels."""
    if data.train_labels is None:
        raise InvalidInput("label augmentation learns classes; the source has no labels")
    names, classes = np.unique(data.train_labels, return_inverse=True)
    rows = torch.from_numpy(few_rows(data.train_labels, each, seed=seed))
    return FewLabels(rows, torch.from_numpy(classes)[rows], len(names))
