"""A split: what a file or folder was found to hold, and which of it trains and which probes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attar.errors import InvalidInput, ShapeError

from .source import Labels, Rows, Source, subset

HELD_OUT = 0.3  # of the rows, where a set has no test part of its own


@dataclass(frozen=True, slots=True)
class Part:
    """One set of items and the label of each as it was found there: numbers, names, or none."""

    name: str  # what an error calls it
    items: Rows
    labels: NDArray[Any] | None = None


def source(train: Part, test: Part | None = None, *, test_last: int | None = None) -> Source:
    """Join a training part and its test part; names of classes become numbers, in their order.

    Without a test part, `test_last` makes one of the last so many rows, for sets whose order is
    their split and for records in time. Without that too, `held_out` draws it where there are
    labels; unlabelled items all train, as there is nothing that a probe could ask of held-out ones.

    Raises:
        InvalidInput: a part is empty, its labels are not one an item or are no classes, `test_last`
            leaves nothing to train on, or only one part has labels.
        ShapeError: the parts' items differ in shape.
    """
    for part in (train, test):
        if part is not None:
            _check(part)
    if test is None:
        return _parted(train, test_last)
    if test_last is not None:
        raise InvalidInput(
            f"test_last is {test_last}, but {test.name} is a test part already; leave test_last out"
        )
    shapes = [tuple(part.items[torch.tensor([0])].shape[1:]) for part in (train, test)]
    if shapes[0] != shapes[1]:
        raise ShapeError(
            f"items must have one shape; those of {train.name} have {shapes[0]}, those of "
            f"{test.name} {shapes[1]}"
        )
    if (train.labels is None) != (test.labels is None):
        bare = train if train.labels is None else test
        raise InvalidInput(f"either both parts have labels or none has; {bare.name} has none")
    labels = None
    if train.labels is not None and test.labels is not None:
        labels = numbered(train.name, np.concatenate([train.labels, test.labels]))
    return Source(
        train=train.items,
        train_labels=None if labels is None else labels[: len(train.items)],
        test=test.items,
        test_labels=None if labels is None else labels[len(train.items) :],
    )


def numbered(name: str, labels: NDArray[Any]) -> Labels:
    """Give whole numbers as they are, and anything else as its place among the sorted classes.

    Raises InvalidInput for fractions, which are measurements and not classes; `name` is theirs.
    """
    if labels.dtype.kind in "iub":
        return labels.astype(np.int64)
    if labels.dtype.kind == "f":
        whole = np.isfinite(labels) & (labels == np.round(labels))
        if not whole.all():
            row = int(np.flatnonzero(~whole)[0])
            raise InvalidInput(
                f"labels of {name} must be classes: whole numbers or names; row {row} has "
                f"{labels[row]}"
            )
        return labels.astype(np.int64)
    codes: Labels = np.unique(labels.astype(str), return_inverse=True)[1].astype(np.int64)
    return codes


def held_out(labels: Labels, *, share: float = HELD_OUT, seed: int = 0) -> NDArray[np.bool_]:
    """Draw a test part, true of each of its rows: `share` of every class, to the nearest row.

    A class of at least two rows has one or more in either part; a single row trains. The draw
    depends on `labels`, `share` and `seed` alone.
    """
    if not 0 < share < 1:
        raise InvalidInput(f"share must be in (0, 1); got {share}")
    draw = np.random.default_rng(seed)
    test = np.zeros(len(labels), np.bool_)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = min(max(round(share * len(rows)), 1), len(rows) - 1)
        test[draw.permutation(rows)[:count]] = True
    return test


def _check(part: Part) -> None:
    if len(part.items) == 0:
        raise InvalidInput(f"{part.name} has no items; a part needs at least one")
    if part.labels is not None and np.shape(part.labels) != (len(part.items),):
        raise InvalidInput(
            f"{part.name} must have one label an item; got labels of shape "
            f"{np.shape(part.labels)} for {len(part.items)} items"
        )


def _parted(part: Part, test_last: int | None) -> Source:
    """Make a test part of some of the rows."""
    labels = None if part.labels is None else numbered(part.name, part.labels)
    count = len(part.items)
    if test_last is not None:
        if not 1 <= test_last < count:
            raise InvalidInput(
                f"test_last must be in [1, {count - 1}], the rows of {part.name} less one; "
                f"got {test_last}"
            )
        test = np.arange(count) >= count - test_last
    elif labels is not None:
        test = held_out(labels)
    else:
        return Source(train=part.items)
    return parted(part.items, labels, test)


def parted(items: Rows, labels: Labels | None, test: NDArray[np.bool_]) -> Source:
    """Give the source whose test part are the items where `test` (n,) is true, without reading."""
    return Source(
        train=subset(items, torch.from_numpy(np.flatnonzero(~test))),
        train_labels=None if labels is None else labels[~test],
        test=subset(items, torch.from_numpy(np.flatnonzero(test))) if test.any() else None,
        test_labels=None if labels is None or not test.any() else labels[test],
    )
