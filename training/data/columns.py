"""Columns: a text table (.csv, .csv.gz, .tsv) as items of numbers, or as texts."""

import csv
import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from attar.errors import InvalidInput, NotFound

from .arrays import Form, array_rows
from .folder import suffix_of
from .roles import label_of, refuse_doubtful, refuse_read_twice
from .split import TEST, TRAIN, DataSplit, best_test, numbered
from .unpacked import UnpackedSize

LONGEST_FIELD = 2**27  # characters: a field may be a long text
csv.field_size_limit(LONGEST_FIELD)
NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
DELIMITERS = (",", "\t", ";")
YES, NO = ("true", "1"), ("false", "0")
Table = Mapping[str, tuple[str, ...]]  # fields by column


@dataclass(frozen=True, slots=True)
class TextTable:
    """A text table as it was read: fields by column, and what was passed over and assumed."""

    fields: Table
    passed_over: Mapping[str, int]
    notes: tuple[str, ...]


def read_columns(path: Path) -> dict[str, tuple[str, ...]]:
    """Read a table whole, as texts by column; `read_table` says how."""
    return dict(read_table(path).fields)


def read_table(path: Path) -> TextTable:
    """Read a table whole, in UTF-8, perhaps after a byte order mark; its first line names columns.

    Fields end at commas, or tabs in .tsv; where the first line has none, by the tabs or
    semicolons that it has. Lines without a field are passed over.

    Raises InvalidInput that names the line: no header, a name that is missing among several or
    occurs twice, or a row with more or fewer fields than there are names; and for a compressed
    table that becomes far larger than its file.
    """
    with _opened(path) as file:
        unpacked = UnpackedSize(path) if path.suffix.lower() == ".gz" else None
        first = file.readline(LONGEST_FIELD)
        delimiter = _delimiter(first, "\t" if ".tsv" in suffix_of(path) else ",")
        file.seek(0)
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        names = [name.strip() for name in next(reader, [])]
        rows, blank = [], 0
        for row in reader:
            if unpacked is not None:
                unpacked.require(file.buffer.tell())
            if row and len(row) != len(names):
                raise InvalidInput(
                    f"{path}, line {reader.line_num}: {len(row)} fields, but the first line names "
                    f"{len(names)} columns"
                )
            if row:
                rows.append(row)
            else:
                blank += 1
    _check_names(path, names, rows)
    is_unusual = delimiter != ("\t" if ".tsv" in suffix_of(path) else ",")
    mark = {"\t": "tabs", ";": "semicolons", ",": "commas"}[delimiter]
    return TextTable(
        dict(zip(names, zip(*rows, strict=True), strict=True)),
        {"blank lines": blank} if blank else {},
        (f"fields of {path.name} end at {mark}",) if is_unusual else (),
    )


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    """Open a table, compressed or not; name it in what goes wrong."""
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            yield file
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"{path} cannot be read as a table: {error}; save it in UTF-8"
        ) from error
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        raise InvalidInput(f"{path} cannot be read as a table: {error}") from error


def _delimiter(line: str, usual: str) -> str:
    """Give the mark between the first line's names: the usual, unless only another is there."""
    bare = re.sub(r'"[^"]*"', "", line)
    others = [mark for mark in DELIMITERS if mark in bare]
    return usual if usual in others or len(others) != 1 else others[0]


def _check_names(path: Path, names: Sequence[str], rows: Sequence[object]) -> None:
    if not rows or len(set(names)) != len(names):
        raise InvalidInput(
            f"{path} must name its columns, each once, in its first line, and have rows after it; "
            f"got {list(names)} and {len(rows)} rows"
        )
    numbers = [float(name) for name in names if NUMBER.fullmatch(name)]
    rising = all(before < after for before, after in pairwise(numbers))
    if numbers and not (rising and (len(numbers) > 1 or names == ["0"])):
        raise InvalidInput(
            f"{path} has numbers in its first line ({', '.join(names[:3])}), which must name the "
            "columns; write a line of names before the rows"
        )


def table_splits(
    path: Path,
    *,
    columns: Sequence[str] | None = None,
    label: str | None = None,
    part: str | None = None,
    form: Form | None = None,
    labelled: bool = True,
) -> tuple[DataSplit, DataSplit | None]:
    """Give a table's rows of numbers, `columns` in their order or all that are left over.

    `label` names the column of classes; without it, one called "label" is that; not `labelled`, it
    is left out. `part` names a column that says of each row whether it is train or test (or true or
    false, as in "is_test" or "is_train"); rows that say something else are left out. The numbers
    are held in memory as float32.

    Raises InvalidInput for a field that is no number or a column that was not chosen and may be
    no measurement (see `roles.refuse_doubtful`), and NotFound for a column that is not there.
    """
    read = read_table(path)
    table = read.fields
    for name in (*(columns or ()), *filter(None, (part,))):
        _column(path, table, name)
    label = label_of(str(path), tuple(table), label)
    if labelled:
        refuse_read_twice(str(path), columns or (), label=label, part=part)
    chosen = columns or [name for name in table if name not in (label, part)]
    if not chosen:
        raise InvalidInput(f"{path} has no columns but {', '.join(table)}; items need at least one")
    if columns is None:
        refuse_doubtful(str(path), chosen, labelled=label is not None)
    numbers = np.stack([_numbers(path, name, table[name]) for name in chosen], 1)
    values = numbers.astype(np.float32)
    labels = None if label is None or not labelled else _classes(table[label])
    notes = (*read.notes, *_notes(path.name, chosen, label if labelled else None, numbers))
    passed_over = dict(read.passed_over)

    def split_of_rows(name: str, rows: NDArray[np.int64]) -> DataSplit:
        items = array_rows(name, values[rows], form=form)
        classes = None if labels is None else labels[rows]
        return DataSplit(name, items, classes, passed_over, notes, tuple(chosen))

    if part is None:
        return split_of_rows(str(path), np.arange(len(values))), None
    train, test, others = _split_rows(path, part, table[part])
    passed_over |= others
    return split_of_rows(f"train in {path}", train), replace(
        split_of_rows(f"test in {path}", test), passed_over={}
    )


def _notes(
    name: str, chosen: Sequence[str], label: str | None, numbers: NDArray[np.float64]
) -> Iterator[str]:
    """Say which columns are items, and which of them may be there by mistake."""
    yield f"items of {name} are {_some(chosen)}" + (f"; labels are {label}" if label else "")
    columns = dict(zip(chosen, numbers.T, strict=True))
    constant = [which for which, column in columns.items() if np.ptp(column) == 0]
    if constant and len(numbers) > 1:
        yield f"the same in every row of {name}: {_some(constant)}"
    counted = [
        which
        for which, column in columns.items()
        if len(column) > 2 and column[0] in (0, 1) and (np.diff(column) == 1).all()
    ]
    if counted:
        yield f"{_some(counted)} counts the rows of {name}, and is read as a measurement"
    coarse = [which for which, column in columns.items() if _coarse(column)]
    if coarse:
        yield f"float32 cannot tell most values of {_some(coarse)} apart; subtract an offset first"


def _coarse(column: NDArray[np.float64]) -> bool:
    """Say whether most of a column's distinct values are one in float32."""
    return 2 * len(np.unique(column.astype(np.float32))) < len(np.unique(column))


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8])
    return f"{shown} and {len(names) - 8} more columns" if len(names) > 8 else shown


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

    `part` is that of `table_splits`; without it all texts train. Raises InvalidInput and NotFound
    as `table_splits` does.
    """
    table = read_columns(path)
    texts = _column(path, table, text)
    values = None if value is None else _values(path, _column(path, table, value))
    if part is None:
        return Texts(train=texts, train_values=values)
    train, test, _ = _split_rows(path, part, _column(path, table, part))
    return Texts(
        train=tuple(texts[row] for row in train),
        train_values=None if values is None else values[train],
        test=tuple(texts[row] for row in test),
        test_values=None if values is None else values[test],
    )


def _column(path: Path, table: Table, name: str) -> tuple[str, ...]:
    if name not in table:
        raise NotFound(f"{path} has no column {name!r}; it has {', '.join(table)}")
    return table[name]


def _numbers(path: Path, name: str, fields: tuple[str, ...]) -> NDArray[np.float64]:
    values = np.array([_number(field) for field in fields])
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(narrow))
    if len(bad):
        raise InvalidInput(
            f"{path}: column {name!r} must be finite numbers; row {bad[0]} has "
            f"{fields[bad[0]]!r}{_why(fields[bad[0]])}: choose others with columns, make it the "
            f"label by label={name}, or leave that row out ({len(bad)} such)"
        )
    return values


def _number(field: str) -> float:
    """Read a number as it is written in ASCII with a point; anything else is NaN."""
    bare = field.strip()
    return float(bare) if NUMBER.fullmatch(bare) else np.nan


def _why(field: str) -> str:
    if not field.strip():
        return ", which is missing"
    if "," in field and NUMBER.fullmatch(field.strip().replace(",", "")):
        return ", and a number takes a point and no commas"
    return ", beyond float32" if NUMBER.fullmatch(field.strip()) else ""


def _classes(fields: tuple[str, ...]) -> NDArray[Any]:
    """Give whole numbers where all fields are, numbers where all are, else the texts."""
    bare = [field.strip() for field in fields]
    if all(re.fullmatch(r"-?(0|[1-9][0-9]{0,17})", field) for field in bare):
        return np.array([int(field) for field in bare], np.int64)
    if all(re.fullmatch(r"-?(0|[1-9][0-9]*)\.[0-9]+", field) for field in bare):
        return np.array([float(field) for field in bare])
    return np.array(bare)


def _values(path: Path, fields: tuple[str, ...]) -> NDArray[np.int64] | NDArray[np.float64]:
    classes = _classes(fields)
    if classes.dtype == np.int64:
        return classes
    numbers = np.array([_number(field) for field in fields])
    return numbers if np.isfinite(numbers).all() else numbered(str(path), classes)


def _split_rows(
    path: Path, name: str, values: tuple[str, ...]
) -> tuple[NDArray[np.int64], NDArray[np.int64], dict[str, int]]:
    """Give the rows that train, those that test, and how many say something else."""
    lower = np.array([_split_of(name, word) for word in values])
    counts = Counter(lower.tolist())
    test = best_test(counts)
    trains = np.isin(lower, TRAIN)
    if test is None or not trains.any():
        raise InvalidInput(
            f"{path}: column {name!r} must say train or test (or, called is_test or is_train, true "
            f"or false) of each row, and both at least once; got {', '.join(sorted(counts)[:5])}"
        )
    others = {
        f"rows that say {word or 'nothing'}": count
        for word, count in sorted(counts.items())
        if word not in (*TRAIN, test)
    }
    return np.flatnonzero(trains), np.flatnonzero(lower == test), others


def _split_of(name: str, word: str) -> str:
    """Give the split of a row; true and false mean what the name of the column says."""
    lower = word.strip().lower()
    name_parts = set(re.findall(r"[a-z]+", name.lower()))
    if lower in (*YES, *NO) and name_parts & {*TRAIN, *TEST}:
        return "train" if (lower in YES) == bool(name_parts & {*TRAIN}) else "test"
    return lower
