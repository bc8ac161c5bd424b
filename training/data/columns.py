"""Columns: a text table (.csv, .csv.gz, .tsv) as items of numbers, or as texts."""

import csv
import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attar.errors import InvalidInput, NotFound

from .arrays import Form, array_rows
from .split import Part, numbered

TRAIN, TEST = ("train", "false", "0"), ("test", "true", "1")  # words of a column that parts rows
SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz")


def read_columns(path: Path) -> dict[str, tuple[str, ...]]:
    """Read a table whole, as texts by column; its first line names them.

    Raises InvalidInput that names the line: no header, a name that occurs twice, or a row with more
    or fewer fields than there are names.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    dialect = "excel-tab" if ".tsv" in path.suffixes else "excel"
    try:
        with opened(path, "rt", encoding="utf-8", newline="") as file:
            reader = csv.reader(file, dialect, strict=True)
            names = next(reader, [])
            rows = []
            for row in reader:
                if row and len(row) != len(names):
                    raise InvalidInput(
                        f"{path}, line {reader.line_num}: {len(row)} fields, but the first line "
                        f"names {len(names)} columns"
                    )
                if row:
                    rows.append(row)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(f"{path} cannot be read as a table: {error}") from error
    if not rows or len(set(names)) != len(names):
        raise InvalidInput(
            f"{path} must name its columns, each once, in its first line, and have rows after it; "
            f"got {names} and {len(rows)} rows"
        )
    return dict(zip(names, zip(*rows, strict=True), strict=True))


def table_parts(
    path: Path,
    *,
    columns: Sequence[str] | None = None,
    label: str | None = None,
    part: str | None = None,
    form: Form | None = None,
) -> tuple[Part, Part | None]:
    """Give a table's rows of numbers, `columns` in their order or all that are left over.

    `label` names the column of classes; without it, one called "label" is that. `part` names a
    column that says of each row whether it is train or test (or false or true, as in "is_test");
    rows that say something else are left out. The numbers are held in memory as float32.

    Raises InvalidInput for a field that is no number, and NotFound for a column that is not there.
    """
    table = read_columns(path)
    label = "label" if label is None and "label" in table else label
    for name in (*(columns or ()), *filter(None, (label, part))):
        _column(path, table, name)
    chosen = columns or [name for name in table if name not in (label, part)]
    if not chosen:
        raise InvalidInput(f"{path} has no columns but {', '.join(table)}; items need at least one")
    values = np.stack([_numbers(path, name, table[name]) for name in chosen], 1)
    labels = None if label is None else _classes(table[label])
    rows = np.arange(len(values))
    train, test = (rows, None) if part is None else _parted(path, part, table[part])

    def made(name: str, chosen: NDArray[np.int64]) -> Part:
        rows = array_rows(name, values[chosen], form=form)
        return Part(name, rows, None if labels is None else labels[chosen])

    if test is None:
        return made(str(path), train), None
    return made(f"train in {path}", train), made(f"test in {path}", test)


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """Texts to train on and to probe with, with what was measured of each.

    Values are classes (int64) or measurements (float64).
    """

    train: tuple[str, ...]
    train_values: NDArray[np.int64] | NDArray[np.float64] | None = None
    test: tuple[str, ...] = ()
    test_values: NDArray[np.int64] | NDArray[np.float64] | None = None


def read_texts(
    path: Path, *, text: str, value: str | None = None, part: str | None = None
) -> Texts:
    """Read the column `text` of a table, and of `value` a number or class for each.

    `part` is that of `table_parts`; without it all texts train. Raises InvalidInput and NotFound as
    `table_parts` does.
    """
    table = read_columns(path)
    texts = _column(path, table, text)
    values = None if value is None else _values(path, _column(path, table, value))
    if part is None:
        return Texts(train=texts, train_values=values)
    train, test = _parted(path, part, _column(path, table, part))
    return Texts(
        train=tuple(texts[row] for row in train),
        train_values=None if values is None else values[train],
        test=tuple(texts[row] for row in test),
        test_values=None if values is None else values[test],
    )


def _column(path: Path, table: dict[str, tuple[str, ...]], name: str) -> tuple[str, ...]:
    if name not in table:
        raise NotFound(f"{path} has no column {name!r}; it has {', '.join(table)}")
    return table[name]


def _numbers(path: Path, name: str, fields: tuple[str, ...]) -> NDArray[np.float32]:
    values = np.empty(len(fields), np.float32)
    for row, field in enumerate(fields):
        try:
            values[row] = float(field)
        except ValueError:
            values[row] = np.nan
        if not np.isfinite(values[row]):
            raise InvalidInput(
                f"{path}: column {name!r} must be finite numbers; row {row} has {field!r}: choose "
                "others with columns, or leave that row out"
            )
    return values


def _classes(fields: tuple[str, ...]) -> NDArray[Any]:
    """Give whole numbers where all fields are, else the texts."""
    try:
        return np.array([int(field) for field in fields], np.int64)
    except ValueError:
        return np.array(fields)


def _values(path: Path, fields: tuple[str, ...]) -> NDArray[np.int64] | NDArray[np.float64]:
    classes = _classes(fields)
    if classes.dtype == np.int64:
        return classes
    try:
        return np.array([float(field) for field in fields])
    except ValueError:
        return numbered(str(path), classes)


def _parted(
    path: Path, name: str, words: tuple[str, ...]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the rows that train and those that test."""
    lower = np.array([word.strip().lower() for word in words])
    train, test = (np.flatnonzero(np.isin(lower, known)) for known in (TRAIN, TEST))
    if not len(train) or not len(test):
        raise InvalidInput(
            f"{path}: column {name!r} must say train or test (or false or true) of each row, and "
            f"both at least once; got {', '.join(sorted(set(lower))[:5])}"
        )
    return train, test
