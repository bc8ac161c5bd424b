"""A source: the items that a recipe trains on, and those that probe it."""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attar.manifest import Range

from ..sampler import evenly

RANGED = 256  # images that tell the range of all

Labels = NDArray[np.int64]


class Rows(Protocol):
    """Items by their numbers: a tensor is one, and so is a folder that is read row by row."""

    def __len__(self) -> int:
        """Give how many items there are."""

    def __getitem__(self, rows: Tensor, /) -> Tensor:
        """Give the items at (b,) int64 `rows`, one a row, all of one shape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Training items, and what there is to probe with; training itself looks at no label.

    Images are (channels, height, width) float32 in [0, 1], series (channels, samples) float32.
    Without labels, a probe says what it can without them.
    """

    train: Rows
    train_labels: Labels | None = None
    test: Rows | None = None
    test_labels: Labels | None = None


def embed(encoder: nn.Module, items: Rows, *, batch: int = 256) -> NDArray[np.float32]:
    """Give the (n, dim) embeddings of all items, from wherever the encoder is and in its mode."""
    device = next((weight.device for weight in encoder.parameters()), torch.device("cpu"))
    with torch.no_grad():
        parts = [
            encoder(items[rows].to(device)).float().cpu().numpy()
            for rows in torch.split(torch.arange(len(items)), batch)
        ]
    return np.concatenate(parts)


def pixel_range(images: Rows) -> Range | None:
    """Give the range in which the numbers of images are, by some of them; None where all are equal.

    [0, 1] and [-1, 1] are given whole, for a set of images need not have what is black and white.
    """
    some_images = images[torch.tensor(evenly(range(len(images)), RANGED))]
    least, most = float(some_images.min()), float(some_images.max())
    for low in (0.0, -1.0):
        if low <= least and most <= 1:
            return Range(min=low, max=1.0)
    return Range(min=least, max=most) if least < most else None


def subset(items: Rows, rows: Tensor) -> Rows:
    """Give some of the items, in the order of `rows`, without reading them yet."""
    return _Subset(items, rows)


def some(source: Source, most: int) -> Source:
    """Give a source with at most so many items in either part, from all over it."""
    train, train_labels = _some(source.train, source.train_labels, most)
    if source.test is None:
        return replace(source, train=train, train_labels=train_labels)
    test, test_labels = _some(source.test, source.test_labels, most)
    return Source(train=train, train_labels=train_labels, test=test, test_labels=test_labels)


def _some(items: Rows, labels: Labels | None, most: int) -> tuple[Rows, Labels | None]:
    if len(items) <= most:
        return items, labels
    rows = torch.tensor(evenly(range(len(items)), most))
    return subset(items, rows), None if labels is None else labels[rows.numpy()]


@dataclass(frozen=True, slots=True)
class _Subset:
    items: Rows
    rows: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Tensor, /) -> Tensor:
        return self.items[self.rows[rows]]
