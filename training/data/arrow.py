"""Arrow columns as items: what Parquet files and `datasets` have in common."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from attar.errors import InvalidInput, MissingExtra, NotFound, ShapeError

from .arrays import Form, array_rows, items
from .pictures import Frame, Picture, decoded, frame_of
from .roles import label_of, refuse_doubtful

try:
    import pyarrow as pa
    import pyarrow.compute as pc
except ImportError as error:
    what = "reading Parquet files and datasets"
    raise MissingExtra(what, "data") from error


@dataclass(frozen=True, slots=True)
class ImageColumn:
    """One column of encoded images: bytes, or a struct of them and a path, as `datasets` has it."""

    name: str  # what errors call the set
    columns: tuple[str]
    frame: Frame

    def __call__(self, table: pa.Table) -> Float[Tensor, "b c h w"]:
        """Give a batch of items from the rows of a table."""
        return decoded(_pictures(self.name, table.column(self.columns[0])), self.frame)


@dataclass(frozen=True, slots=True)
class NumberColumns:
    """Columns of numbers, the features of a table; or one of lists, nested to any depth."""

    name: str  # what errors call the set
    columns: tuple[str, ...]
    form: Form
    shape: tuple[int, ...]  # of an item's numbers
    side: int | None

    def __call__(self, table: pa.Table) -> Float[Tensor, "b ..."]:
        """Give a batch of items from the rows of a table."""
        values = _values(self.name, table, self.columns)
        if values.shape[1:] != self.shape:
            raise ShapeError(
                f"items of {self.name} must have one shape; got {values.shape[1:]} and, in the "
                f"first row, {self.shape}"
            )
        return items(self.name, values, self.form, self.side)


CONTENT = ("bytes", "path")  # the fields of an image, of which one is enough
UNLABELLED = -1  # which `datasets` writes for a label that is not known
Layout: TypeAlias = ImageColumn | NumberColumns


def layout(
    name: str,
    first: pa.Table,
    tables: Callable[[str], Iterable[pa.Table]],
    *,
    columns: Sequence[str] | None,
    label: str | None,
    form: Form | None,
    side: int | None,
) -> Layout:
    """Find the items in a table by its first row: `columns`, or all columns but `label`.

    Without `columns` there must be one column of images or lists, and numbers next to it are not
    part of the item; or numbers alone. `tables` gives the rows of a column from the first on, to
    read the colours and sizes of images.

    Raises:
        NotFound: a column is not there.
        InvalidInput: the columns cannot be items, or do not fit `form` or `side`.
        ShapeError: without `side`, images have several sizes.
    """
    kinds = {field.name: _kind(field.type) for field in first.schema}
    for column in columns or ():
        if column not in kinds:
            raise NotFound(f"{name} has no column {column!r}; it has {', '.join(kinds)}")
    left = tuple(columns) if columns is not None else tuple(c for c in kinds if c != label)
    alone = tuple(c for c in left if kinds[c] in ("image", "list"))
    chosen = alone if columns is None and len(alone) == 1 else left
    picked = {kinds[c] for c in chosen}
    if columns is None and picked == {"number"}:
        refuse_doubtful(name, chosen, labelled=label is not None)
    if picked == {"number"} or (picked == {"list"} and len(chosen) == 1):
        rows = array_rows(name, _values(name, first, chosen), form=form, side=side)
        return NumberColumns(name, chosen, rows.form, rows.values.shape[1:], side)
    if picked != {"image"} or len(chosen) > 1:
        have = ", ".join(f"{field.name} ({field.type})" for field in first.schema)
        raise InvalidInput(
            f"items of {name} are one column of images or of lists, or columns of numbers; choose "
            f"them with columns, from {have}"
        )
    if form not in (None, "image"):
        raise InvalidInput(f"{name} holds encoded images, not {form} items")
    (column,) = chosen
    return ImageColumn(name, (column,), frame_of(_numbered(name, column, tables(column)), side))


def refuse_missing(
    table_layout: Layout, runs: Callable[[str], Iterable[tuple[int, pa.ChunkedArray]]]
) -> None:
    """Refuse items with a null, or NaN in the rows that are given, by column and row.

    `runs` gives those rows of a column that may have one, each run with the row where it begins.
    """
    for column in table_layout.columns:
        for start, run in runs(column):
            row = start
            for chunk in run.chunks:
                at = _first_missing(chunk)
                if at is not None and isinstance(table_layout, ImageColumn):
                    raise InvalidInput(
                        f"the image in row {row + at} of {table_layout.name} is missing; "
                        "leave that row out"
                    )
                if at is not None:
                    raise InvalidInput(
                        f"{table_layout.name} has numbers that are missing: column {column!r} "
                        f"lacks one in row {row + at}; fill them in or leave those rows out"
                    )
                row += len(chunk)


def _first_missing(array: pa.Array) -> int | None:
    """Give the first row without a value, or else with a number missing from its list."""
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    if pa.types.is_struct(array.type):  # an image, which has its bytes or a path
        fields = [name for name in CONTENT if array.type.get_field_index(name) >= 0]
        nulls = (pc.is_null(pc.struct_field(array, name)) for name in fields)
        missing = reduce(pc.and_, nulls)
    else:
        missing = pc.is_null(array, nan_is_null=True)
    at: int = pc.index(missing, True).as_py()
    if at < 0 and _is_list(array.type):
        inner = _first_missing(array.flatten())
        return None if inner is None else int(pc.list_parent_indices(array)[inner].as_py())
    return None if at < 0 else at


def notes_of(table_layout: Layout, label: str | None, schema: pa.Schema) -> tuple[str, ...]:
    """Say which columns are items and labels, and which are left out."""
    left = [column for column in schema.names if column not in (*table_layout.columns, label)]
    items = f"items of {table_layout.name} are {', '.join(table_layout.columns)}"
    return (
        items + (f"; labels are {label}" if label else ""),
        *((f"columns that are not read: {', '.join(left)}",) if left else ()),
        *(table_layout.frame.notes if isinstance(table_layout, ImageColumn) else ()),
    )


def label_column(name: str, schema: pa.Schema, label: str | None) -> str | None:
    """Give the column of classes: `label`, or one called "label" if there is any.

    Raises InvalidInput for names that occur twice, and as `roles.label_of` does.
    """
    if len(set(schema.names)) != len(schema.names):
        raise InvalidInput(f"{name} names a column twice: {', '.join(sorted(schema.names))}")
    return label_of(name, schema.names, label)


def labels_of(name: str, table: pa.Table, label: str) -> NDArray[Any]:
    """Give a column of labels; raises InvalidInput when one is missing or they are no classes.

    Of a `ClassLabel` of `datasets`, -1 is no class but a label that is missing.
    """
    column, kind = table.column(label), table.schema.field(label).type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    missing = pc.is_null(column)
    unlabelled = _is_class_label(table.schema, label)
    if unlabelled:
        missing = pc.or_(missing, pc.fill_null(pc.equal(column, UNLABELLED), fill_value=False))
    count = pc.sum(missing).as_py()
    if count:
        raise InvalidInput(
            f"{name}: {count} labels are missing{' (null or -1)' if unlabelled else ''}, the first "
            f"in row {pc.index(missing, True).as_py()}; leave those rows out, or read without "
            "labels by labels=none"
        )
    if _kind(kind) != "number" and not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise InvalidInput(
            f"{name}: labels are {kind}, and classes are whole numbers or names; choose others by "
            "label=NAME"
        )
    return np.asarray(column.to_numpy())


def _is_class_label(schema: pa.Schema, label: str) -> bool:
    """Say whether a column is a `ClassLabel` by what `datasets` notes in a schema."""
    try:
        noted = json.loads((schema.metadata or {})[b"huggingface"])
        kind = noted["info"]["features"][label]["_type"]
    except (KeyError, TypeError, ValueError):
        return False
    return bool(kind == "ClassLabel") and pa.types.is_integer(schema.field(label).type)


def _kind(kind: pa.DataType) -> str:
    """Give the kind of a column: an image, a list, a number, or other."""
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        return "image"  # as `datasets` stores them: bytes, or a path
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return "image"
    if _is_list(kind):
        return "list" if _kind(kind.value_type) in ("list", "number") else "other"
    numbers = pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean
    return "number" if any(is_of(kind) for is_of in numbers) else "other"


def _is_list(kind: pa.DataType) -> bool:
    lists = pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list
    return any(is_of(kind) for is_of in lists)


def _numbered(name: str, column: str, tables: Iterable[pa.Table]) -> Iterator[Picture]:
    """Give a column's images from the first row on, so that an error names the row."""
    row = 0
    for table in tables:
        for picture in _pictures(name, table.column(column), row):
            yield picture
            row += 1


def _pictures(name: str, column: pa.ChunkedArray, start: int | None = None) -> list[Picture]:
    """Give a column's images; the first is that of row `start`, where that is known."""
    pictures = []
    for at, value in enumerate(column.to_pylist()):
        which = "an image" if start is None else f"the image in row {start + at}"
        content, label = value, f"{which} of {name}"
        if isinstance(value, dict):
            path = value.get("path")
            content = value["bytes"] or (path and Path(path))
            label = str(path or label)
        if not content:
            raise InvalidInput(f"{label} is missing; leave that row out")
        pictures.append(Picture(label, content))
    return pictures


def _values(name: str, table: pa.Table, columns: tuple[str, ...]) -> NDArray[Any]:
    """Give (b, features) numbers of several columns, or what one column of lists holds."""
    kinds = [table.schema.field(column).type for column in columns]
    if _kind(kinds[0]) == "list":
        return _dense(name, table.column(columns[0]).combine_chunks())
    numbers = [
        table.column(column).cast(pa.float64(), safe=False).to_numpy().astype(np.float32)
        for column in columns
    ]
    return np.stack(numbers, 1)


def _dense(name: str, array: Any) -> NDArray[Any]:
    """Give nested lists, equally long at each depth, as one array."""
    if isinstance(array, pa.ChunkedArray):  # which is what an empty or a huge one stays
        array = pa.concat_arrays(array.chunks)
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    if not _is_list(array.type):
        return np.asarray(array.to_numpy(zero_copy_only=False))
    if array.null_count:
        raise InvalidInput(f"{name}: {array.null_count} lists are missing; leave those rows out")
    lengths = np.unique(array.value_lengths().to_numpy(zero_copy_only=False))
    if len(lengths) != 1:
        raise ShapeError(
            f"lists of {name} must be equally long; got {', '.join(map(str, lengths[:5]))}"
        )
    inner = _dense(name, array.flatten())
    return inner.reshape(len(array), int(lengths[0]), *inner.shape[1:])
