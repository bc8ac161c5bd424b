"""Parquet files as items: a row group is read when one of its rows is used."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.errors import InvalidInput, MissingExtra

from .arrays import Form
from .arrow import (
    CONTENT,
    ImageColumn,
    Layout,
    label_column,
    labels_of,
    layout,
    notes_of,
    refuse_missing,
)
from .roles import refuse_read_twice
from .split import DataSplit

try:
    import pyarrow as pa
    from pyarrow import parquet
except ImportError as error:
    what = "reading Parquet files"
    raise MissingExtra(what, "data") from error

CACHED = 4  # row groups kept in memory
CHUNK = 64  # rows whose images' headers are read together


class ParquetRows:
    """The rows of Parquet files, one after another, as items of one shape.

    A step that draws from all over a set reads every group that it meets, so a set that does not
    fit the `CACHED` last groups reads fast in small groups only: write it with a `row_group_size`
    of some hundreds of rows. Several threads may read.
    """

    def __init__(self, paths: Sequence[Path], layout: Layout) -> None:
        self._files = [_opened(path) for path in paths]
        self._layout = layout
        self._groups = [
            (file, group) for file in self._files for group in range(file.num_row_groups)
        ]
        counts = [file.metadata.row_group(group).num_rows for file, group in self._groups]
        self._ends = np.cumsum(counts, dtype=np.int64)
        self._cache: OrderedDict[int, pa.Table] = OrderedDict()
        self._lock = Lock()  # a file has one position

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, rows: Int[Tensor, "b"], /) -> Float[Tensor, "b ..."]:
        wanted = rows.numpy()
        groups = np.searchsorted(self._ends, wanted, side="right")
        tables, order = [], []
        for group in np.unique(groups):
            positions = np.flatnonzero(groups == group)
            start = self._ends[group - 1] if group else 0
            tables.append(self._group(int(group)).take(wanted[positions] - start))
            order.append(positions)
        back = torch.from_numpy(np.argsort(np.concatenate(order)))
        return self._layout(pa.concat_tables(tables))[back]

    def _group(self, group: int) -> pa.Table:
        with self._lock:
            if group in self._cache:
                self._cache.move_to_end(group)
                return self._cache[group]
            file, number = self._groups[group]
            try:
                table = file.read_row_group(number, columns=list(self._layout.columns))
            except (OSError, pa.ArrowException) as error:
                raise InvalidInput(
                    f"{self._layout.name}, row group {group} cannot be read: {error}"
                ) from error
            self._cache[group] = table
            if len(self._cache) > CACHED:
                self._cache.popitem(last=False)
            return table


def parquet_part(
    paths: Sequence[Path],
    *,
    columns: Sequence[str] | None = None,
    label: str | None = None,
    form: Form | None = None,
    side: int | None = None,
    labelled: bool = True,
) -> DataSplit:
    """Give the rows of Parquet files that have one schema, in the order of `paths`.

    An item is one column of encoded images or of lists of one length, or the columns of numbers:
    `columns`, or those other than `label`, which is a column called "label" unless it is given
    and which, not `labelled`, is not read.

    Raises:
        InvalidInput: a file is no Parquet file, has other columns than the first, or no such items.
        NotFound: a column is not there.
    """
    name = str(paths[0] if len(paths) == 1 else paths[0].parent)
    files = [_opened(path) for path in paths]
    schema = files[0].schema_arrow
    for path, file in zip(paths, files, strict=True):
        if not file.schema_arrow.equals(schema):
            raise InvalidInput(f"{path} has other columns than {paths[0]}; files of a set agree")
        if not file.metadata.num_rows:
            raise InvalidInput(f"{path} has no rows; take it away")
    label = label_column(name, schema, label)
    if labelled:
        refuse_read_twice(name, columns or (), label=label)

    def tables(column: str) -> Iterator[pa.Table]:
        for file in files:
            for batch in file.iter_batches(batch_size=CHUNK, columns=[column]):
                yield pa.Table.from_batches([batch])

    first = pa.Table.from_batches([next(files[0].iter_batches(batch_size=1))])
    table_layout = layout(name, first, tables, columns=columns, label=label, form=form, side=side)
    refuse_missing(table_layout, lambda column: _incomplete(files, table_layout, column))
    labels = None
    if label is not None and labelled:
        read = pa.concat_tables([file.read(columns=[label]) for file in files])
        labels = labels_of(name, read, label)
    notes = notes_of(table_layout, label, schema)
    return DataSplit(
        name, ParquetRows(paths, table_layout), labels, notes=notes, columns=table_layout.columns
    )


def _incomplete(
    files: Sequence[Any], table_layout: Layout, column: str
) -> Iterator[tuple[int, pa.ChunkedArray]]:
    """Give a column's row groups that may have nulls by their statistics, and where each begins."""
    start = 0
    for file in files:
        for number in range(file.num_row_groups):
            group = file.metadata.row_group(number)
            if not _complete(group, column, image=isinstance(table_layout, ImageColumn)):
                try:
                    table = file.read_row_group(number, columns=[column])
                except (OSError, pa.ArrowException) as error:
                    raise InvalidInput(
                        f"{table_layout.name}, column {column!r} cannot be read "
                        f"from row {start} on: {error}"
                    ) from error
                yield start, table.column(column)
            start += group.num_rows


def _complete(group: Any, column: str, *, image: bool) -> bool:
    """Say whether the statistics of a row group rule out that a column's values are missing."""
    without_nulls = {}
    for at in range(group.num_columns):
        leaf = group.column(at)
        if leaf.path_in_schema == column or leaf.path_in_schema.startswith(f"{column}."):
            has_statistics = leaf.statistics is not None and leaf.statistics.has_null_count
            without_nulls[leaf.path_in_schema] = has_statistics and leaf.statistics.null_count == 0
    if image:
        names = column, *(f"{column}.{field}" for field in CONTENT)
        return any(without_nulls.get(name, False) for name in names)
    return all(without_nulls.values())


def _opened(path: Path) -> Any:
    try:
        return parquet.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise InvalidInput(f"{path} cannot be read as a Parquet file: {error}") from error
