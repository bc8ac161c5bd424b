"""A source: the items that a recipe trains on, and those that probe it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attar.manifest import Range

from ..sampler import evenly

RANGED = 256  # images that tell the range of all

Labels = NDArray[np.int64]


@runtime_checkable
class Rows(Protocol):
    """Items by their numbers: a tensor is one, and so is a folder that is read row by row."""

    def __len__(self) -> int:
        """Give how many items there are."""

    def __getitem__(self, rows: Tensor, /) -> Tensor:
        """Give the items at (b,) int64 `rows`, one a row, all of one shape."""


SHOWN = 12  # classes that a summary names


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a reader read and what it assumed, to be shown before anything is learned from it."""

    name: str
    shape: tuple[int, ...]  # of an item
    train: int  # items
    test: int
    split: str  # how the test part came about
    classes: Mapping[str, int] = field(default_factory=dict)  # items by class; empty without labels
    passed_over: Mapping[str, int] = field(default_factory=dict)  # what was not read, and how many
    notes: tuple[str, ...] = ()  # what was assumed

    def lines(self) -> Iterator[str]:
        """Give a line for each thing to know."""
        items = self.train + self.test
        yield (
            f"{self.name}: {items:,} {'item' if items == 1 else 'items'} of shape {self.shape}; "
            f"{self.train:,} train, {self.test:,} test ({self.split})"
        )
        if self.classes:
            shown = [f"{name} ({count:,})" for name, count in list(self.classes.items())[:SHOWN]]
            more = len(self.classes) - len(shown)
            rest = f" and {more:,} more" if more else ""
            count = "1 class" if len(self.classes) == 1 else f"{len(self.classes):,} classes"
            yield f"{count}: {', '.join(shown)}{rest}; labels=none reads without"
        if self.passed_over:
            yield "passed over: " + ", ".join(
                f"{count:,} {what}" for what, count in self.passed_over.items()
            )
        yield from self.notes


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Training items, and what there is to probe with; training itself looks at no label.

    Images are (channels, height, width) float32 in [0, 1], series (channels, samples) float32.
    Without labels, a probe says what it can without them. `summary` is of what a path held, and
    `rate` is in Hz, of recordings, where it is known. `names` are those of labels that were found
    as names, by their numbers.
    """

    train: Rows
    train_labels: Labels | None = None
    test: Rows | None = None
    test_labels: Labels | None = None
    summary: Summary | None = None
    rate: int | None = None
    names: Mapping[int, str] = field(default_factory=dict)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Give the names of the classes that train, in the order of their numbers."""
        labels = () if self.train_labels is None else np.unique(self.train_labels).tolist()
        return tuple(self.names.get(label, str(label)) for label in labels)


def item_shape(items: Rows) -> tuple[int, ...]:
    """Give the shape of one item; the first one is read."""
    return tuple(items[torch.tensor([0])].shape[1:])


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


def joined(first: Rows, second: Rows) -> Rows:
    """Give the items of both, those of `first` before those of `second`."""
    return _Joined(first, second)


def some(source: Source, most: int) -> Source:
    """Give a source with at most so many items in either part, from all over it."""
    train, train_labels = _some(source.train, source.train_labels, most)
    if source.test is None:
        return replace(source, train=train, train_labels=train_labels)
    test, test_labels = _some(source.test, source.test_labels, most)
    return replace(
        source, train=train, train_labels=train_labels, test=test, test_labels=test_labels
    )


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


@dataclass(frozen=True, slots=True)
class _Joined:
    first: Rows
    second: Rows

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def __getitem__(self, rows: Tensor, /) -> Tensor:
        late = rows >= len(self.first)
        halves = (self.first, rows[~late]), (self.second, rows[late] - len(self.first))
        items = torch.cat([part[chosen] for part, chosen in halves if len(chosen)])
        return items[late.argsort(stable=True).argsort()]
