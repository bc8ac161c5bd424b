"""Objects in several modalities: some to train on, and some to probe with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
from torch import Tensor

from attar.errors import InvalidInput

from .npz import npz_splits
from .source import Labels, Rows, Source, item_shape
from .split import source

Modalities: TypeAlias = Mapping[str, Rows]  # by name; row i of each is of object i


@dataclass(frozen=True, slots=True)
class Joined:
    """Objects in several modalities: an item is a tuple of one tensor a modality."""

    modalities: tuple[Rows, ...]

    def __len__(self) -> int:
        """Give how many objects there are."""
        return len(self.modalities[0])

    def __getitem__(self, rows: Tensor, /) -> tuple[Tensor, ...]:
        """Give the objects at (b,) int64 `rows`."""
        return tuple(items[rows] for items in self.modalities)


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects:
    """Objects to train on, others to test with, and perhaps some of no class among them.

    All parts have the same modalities. Training itself looks at no label.
    """

    train: Modalities
    train_labels: Labels
    test: Modalities
    test_labels: Labels
    novel: Modalities = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)  # of labels that were found as names

    def joined(self, names: Sequence[str]) -> Joined:
        """Give the training objects in the modalities of these names, in this order."""
        return Joined(tuple(self.train[name] for name in names))

    def shapes(self, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """Give the shape of an object in each of these modalities."""
        return {name: item_shape(self.train[name]) for name in names}

    def source(self, modality: str) -> Source:
        """Give one modality alone."""
        return Source(
            train=self.train[modality],
            train_labels=self.train_labels,
            test=self.test[modality],
            test_labels=self.test_labels,
            names=self.names,
        )


def read_objects(path: Path, names: Sequence[str]) -> Objects:
    """Read an .npz file with a set of arrays a modality: `NAME_x_train`, `NAME_y_train` and so on.

    Every modality has the same objects in the same order, so its labels are the same; without
    `NAME_x_test`, three in ten of each class are the test split, as `data.split.source` draws them.

    Raises:
        InvalidInput: the file is damaged, or modalities differ in their labels or have none.
        NotFound: it lacks a modality.
    """
    train: dict[str, Rows] = {}
    test: dict[str, Rows] = {}
    labels: list[tuple[Labels, Labels]] = []
    class_names: Mapping[int, str] = {}
    for name in names:
        split = source(*npz_splits(path, member=name))
        if split.train_labels is None:
            raise InvalidInput(f"{name} of {path} has no labels to probe with: add {name}_y_train")
        if split.test is None or split.test_labels is None:
            raise InvalidInput(
                f"{name} of {path} has no class of two objects, so that one could be held out to "
                f"probe with; give more objects, or add {name}_x_test and {name}_y_test"
            )
        train[name], test[name] = split.train, split.test
        class_names = split.names
        labels.append((split.train_labels, split.test_labels))
        if not all(map(np.array_equal, labels[-1], labels[0])):
            raise InvalidInput(
                f"{name} and {names[0]} of {path} differ in their labels; all modalities have the "
                "same objects in the same order"
            )
    return Objects(
        train=train,
        train_labels=labels[0][0],
        test=test,
        test_labels=labels[0][1],
        names=class_names,
    )
