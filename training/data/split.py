"""A split: what a file or folder was found to hold, and which of it trains and which probes."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attar.errors import InvalidInput, ShapeError

from .source import SHOWN, Labels, Rows, Source, Summary, subset

HELD_OUT = 0.3  # of the rows, where a set has no test split
TRAIN = ("train", "training")
TEST = ("test", "testing", "val", "valid", "validation", "dev", "eval", "evaluation")
"""What people call the split that trains and those that test, the best first."""
NUMBERS = "iubf"  # kinds of numpy's dtypes


@dataclass(frozen=True, slots=True)
class DataSplit:
    """One set of items and the label of each as it was found there: numbers, names, or none."""

    name: str  # what an error calls it
    items: Rows
    labels: NDArray[Any] | None = None
    passed_over: Mapping[str, int] = field(default_factory=dict)  # what was not read, and how many
    notes: tuple[str, ...] = ()  # what was assumed
    columns: tuple[str, ...] | None = None  # of a table, those that make an item
    rate: int | None = None  # Hz of recordings


def best_test(names: Iterable[str]) -> str | None:
    """Give the best name of a test split among some in lower case."""
    have = set(names)
    return next((name for name in TEST if name in have), None)


def source(
    train: DataSplit, test: DataSplit | None = None, *, test_last: int | None = None
) -> Source:
    """Join a training split and its test split; names of classes become numbers, in their order.

    Without a test split, `test_last` makes one of the last so many rows, for sets whose order is
    their split and for records in time. Without that too, `held_out` draws it where there are
    labels; unlabelled items all train, as there is nothing that a probe could ask of held-out ones.

    Raises:
        InvalidInput: a split is empty, its labels are not one an item or are no classes,
            `test_last` leaves nothing to train on, or only one split has labels.
        ShapeError: the splits' items differ in shape.
    """
    for split in (train, test):
        if split is not None:
            _check(split)
    if test is None:
        complete = _with_test(train, test_last)
        how = _how(complete, test_last)
        labels = train.labels
    else:
        complete, labels = _joined(train, test, test_last)
        how = "as given"
    splits = [split for split in (train, test) if split is not None]
    return replace(
        complete,
        summary=_summary(complete, labels, how, splits),
        rate=train.rate,
        names=_class_names(train.name, labels),
    )


def _joined(
    train: DataSplit, test: DataSplit, test_last: int | None
) -> tuple[Source, NDArray[Any] | None]:
    """Join two splits; give the labels of both too, as they were found."""
    if test_last is not None:
        raise InvalidInput(
            f"test_last is {test_last}, but {test.name} is a test part already; leave test_last out"
        )
    shapes = [_shape(split.items) for split in (train, test)]
    if shapes[0] != shapes[1]:
        raise ShapeError(
            f"items must have one shape; those of {train.name} have {shapes[0]}, those of "
            f"{test.name} {shapes[1]}"
        )
    if (train.labels is None) != (test.labels is None):
        bare = train if train.labels is None else test
        raise InvalidInput(
            f"either both parts have labels or none has; {bare.name} has none: label it, or read "
            "without by labels=none"
        )
    if train.labels is None or test.labels is None:
        return Source(train=train.items, test=test.items), None
    kinds = {labels.dtype.kind in NUMBERS for labels in (train.labels, test.labels)}
    if len(kinds) > 1:
        raise InvalidInput(
            f"labels of {train.name} are {train.labels.dtype} and those of {test.name} "
            f"{test.labels.dtype}; write both as numbers, or both as names"
        )
    both = np.concatenate([train.labels, test.labels])
    labels = numbered(train.name, both)
    complete = Source(
        train=train.items,
        train_labels=labels[: len(train.items)],
        test=test.items,
        test_labels=labels[len(train.items) :],
    )
    return complete, both


def described(name: str, complete: Source, *, notes: tuple[str, ...] = ()) -> Source:
    """Give a source that came with its splits its summary."""
    labels = None
    if complete.train_labels is not None and complete.test_labels is not None:
        labels = np.concatenate([complete.train_labels, complete.test_labels])
    split = DataSplit(name, complete.train, notes=notes)
    return replace(complete, summary=_summary(complete, labels, "as given", (split,)))


def _how(complete: Source, test_last: int | None) -> str:
    if test_last is not None:
        return f"the last {test_last:,}"
    return "none held out" if complete.test is None else "three in ten of each class held out"


def _summary(
    complete: Source, labels: NDArray[Any] | None, how: str, splits: Sequence[DataSplit]
) -> Summary:
    passed_over: Counter[str] = Counter()
    for split in splits:
        passed_over.update(split.passed_over)
    notes = [note for split in splits for note in split.notes]
    if labels is not None and len(splits) > 1:
        notes += _unseen(labels, len(complete.train))
    return Summary(
        name=" and ".join(split.name for split in splits),
        shape=_shape(complete.train),
        train=len(complete.train),
        test=0 if complete.test is None else len(complete.test),
        split=how,
        classes={} if labels is None else _counts(splits[0].name, labels),
        passed_over=dict(passed_over),
        notes=tuple(dict.fromkeys(notes)),
    )


def _unseen(labels: NDArray[Any], train: int) -> Iterator[str]:
    """Say which classes the test split has and the training split, the first rows, has not."""
    unseen = sorted({*labels[train:].tolist()} - {*labels[:train].tolist()})
    if unseen:
        yield f"classes of the test part alone: {', '.join(map(str, unseen[:SHOWN]))}"


def _shape(items: Rows) -> tuple[int, ...]:
    return tuple(items[torch.tensor([0])].shape[1:])


def _class_names(name: str, labels: NDArray[Any] | None) -> dict[int, str]:
    """Give the names of classes by their numbers, as `numbered` numbers them; none of numbers."""
    if labels is None or labels.dtype.kind in NUMBERS:
        return {}
    return dict(enumerate(np.unique(_names(name, labels)).tolist()))


def _counts(name: str, labels: NDArray[Any]) -> dict[str, int]:
    """Count the items of each class, by the name that it was found with."""
    codes = numbered(name, labels)
    if labels.dtype.kind not in NUMBERS:
        classes, counts = np.unique(_names(name, labels), return_counts=True)
    else:
        classes, counts = np.unique(codes, return_counts=True)
    return dict(zip(map(str, classes.tolist()), counts.tolist(), strict=True))


def numbered(name: str, labels: NDArray[Any]) -> Labels:
    """Give whole numbers as they are, and anything else as its place among the sorted classes.

    Raises InvalidInput for fractions, which are measurements and not classes, and for a label that
    is missing; `name` is theirs.
    """
    if labels.dtype.kind in "iub":
        if labels.size and labels.max() > np.iinfo(np.int64).max:
            raise InvalidInput(f"labels of {name} must be below 2^63; got {labels.max()}")
        return labels.astype(np.int64)
    if labels.dtype.kind == "f":
        is_integer = np.isfinite(labels) & (labels == np.round(labels))
        if not is_integer.all():
            row = int(np.flatnonzero(~is_integer)[0])
            raise InvalidInput(
                f"labels of {name} must be classes: whole numbers or names; row {row} has "
                f"{labels[row]}: read without labels by labels=none if they are measurements"
            )
        return labels.astype(np.int64)
    codes: Labels = np.unique(_names(name, labels), return_inverse=True)[1].astype(np.int64)
    return codes


def _names(name: str, labels: NDArray[Any]) -> NDArray[np.str_]:
    """Give names of classes as texts."""
    try:
        texts = np.char.decode(labels, "utf-8") if labels.dtype.kind == "S" else labels.astype(str)
    except UnicodeDecodeError as error:
        raise InvalidInput(f"labels of {name} are no UTF-8 text: {error}") from error
    blank = np.flatnonzero(np.char.strip(texts) == "")
    if len(blank):
        raise InvalidInput(
            f"{name}: {len(blank)} labels are missing, the first in row {blank[0]}; fill them in, "
            "leave those rows out, or read without labels by labels=none"
        )
    return texts


def held_out(labels: Labels, *, share: float = HELD_OUT, seed: int = 0) -> NDArray[np.bool_]:
    """Draw a test split, true of each of its rows: `share` of every class, to the nearest row.

    A class of at least two rows has one or more in either split; a single row trains. The draw
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


def _check(split: DataSplit) -> None:
    if len(split.items) == 0:
        raise InvalidInput(f"{split.name} has no items; a part needs at least one")
    if split.labels is not None and np.shape(split.labels) != (len(split.items),):
        raise InvalidInput(
            f"{split.name} must have one label an item; got labels of shape "
            f"{np.shape(split.labels)} for {len(split.items)} items"
        )


def _with_test(split: DataSplit, test_last: int | None) -> Source:
    """Make a test split of some of the rows."""
    labels = None if split.labels is None else numbered(split.name, split.labels)
    count = len(split.items)
    if test_last is not None:
        if not 1 <= test_last < count:
            raise InvalidInput(
                f"test_last must be in [1, {count - 1}], the rows of {split.name} less one; "
                f"got {test_last}"
            )
        test = np.arange(count) >= count - test_last
    elif labels is not None:
        test = held_out(labels)
    else:
        return Source(train=split.items)
    return split_by_mask(split.items, labels, test)


def split_by_mask(items: Rows, labels: Labels | None, test: NDArray[np.bool_]) -> Source:
    """Give the source whose test split are the items where `test` (n,) is true, without reading."""
    return Source(
        train=subset(items, torch.from_numpy(np.flatnonzero(~test))),
        train_labels=None if labels is None else labels[~test],
        test=subset(items, torch.from_numpy(np.flatnonzero(test))) if test.any() else None,
        test_labels=None if labels is None or not test.any() else labels[test],
    )
