"""Molecules as SMILES: some to pretrain on, and some with known properties to probe with."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attar.errors import InvalidInput

from .columns import read_columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Property:
    """A property of molecules, in two splits: a number, or 0 and 1 for two classes."""

    name: str
    train: tuple[str, ...]
    train_values: NDArray[np.float64]
    test: tuple[str, ...]
    test_values: NDArray[np.float64]

    @property
    def classes(self) -> bool:
        """Whether the values are two classes."""
        return set(np.unique(self.train_values)) == {0.0, 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Molecules:
    """SMILES to pretrain on, and properties of molecules to probe with."""

    train: tuple[str, ...]
    properties: tuple[Property, ...]


def read_smiles(path: Path, *, column: str = "smiles") -> tuple[str, ...]:
    """Read a table's column of SMILES; raises InvalidInput where there is none or one is blank."""
    (smiles,) = _columns(path, column)
    if blank := [row for row, text in enumerate(smiles) if not text.strip()]:
        raise InvalidInput(
            f"{path}: {len(blank)} {column} are blank, the first in row {blank[0]}; leave those "
            "rows out"
        )
    return smiles


def read_property(
    path: Path, *, name: str, column: str = "smiles", part: str = "scaffold_split"
) -> Property:
    """Read a property from a table of SMILES, values and a column that says train or test.

    Rows of other splits, such as valid, are left out. Raises InvalidInput for a column that is not
    there, a value that is no number, or a split without rows.
    """
    smiles, values, splits = _columns(path, column, name, part)
    try:
        numbers = np.array([float(value) for value in values])
    except ValueError as error:
        raise InvalidInput(f"{path}: {name} must be numbers; {error}") from error
    train, test = (
        [at for at, word in enumerate(splits) if word == split_name] for split_name in SPLITS
    )
    if not train or not test:
        raise InvalidInput(f"{path}: {part} must say train of some rows and test of others")
    return Property(
        name=name,
        train=tuple(smiles[at] for at in train),
        train_values=numbers[train],
        test=tuple(smiles[at] for at in test),
        test_values=numbers[test],
    )


def unlabelled(path: Path) -> Molecules:
    """Read a table's column of SMILES, with no property to probe."""
    return Molecules(train=read_smiles(path), properties=())


SPLITS = "train", "test"


def _columns(path: Path, *names: str) -> list[tuple[str, ...]]:
    table = read_columns(path)
    if missing := [name for name in names if name not in table]:
        raise InvalidInput(f"{path} has no column {', '.join(missing)}; it has {', '.join(table)}")
    return [table[name] for name in names]
