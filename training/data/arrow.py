"""Arrow columns as items: what Parquet files and `datasets` have in common."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from attar.errors import InvalidInput, MissingExtra, NotFound, ShapeError

from .arrays import ArrayRows, Form, array_rows, items
from .pictures import Frame, Picture, decoded, frame_of

try:
    import pyarrow as pa
except ImportError as error:
    what = "reading Parquet files and datasets"
    raise MissingExtra(what, "data") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Which columns make an item, and what it is: a frame for images, the rows' form for numbers.

    Several columns are the features of a table; one holds bytes of images or lists of numbers.
    """

    name: str
    columns: tuple[str, ...]
    frame: Frame | None
    form: Form
    shape: tuple[int, ...]  # of an item's numbers
    side: int | None

    def __call__(self, table: pa.Table) -> Float[Tensor, "b ..."]:
        """Give a batch of items from the rows of a table."""
        if self.frame is not None:
            column = table.column(self.columns[0])
            return decoded(_pictures(self.name, column), self.frame)
        values = _values(self.name, table, self.columns)
        if values.shape[1:] != self.shape:
            raise ShapeError(
                f"items of {self.name} must have one shape; got {values.shape[1:]} and, in the "
                f"first row, {self.shape}"
            )
        return items(self.name, values, self.form, self.side)


def layout(
    name: str,
    first: pa.Table,
    *,
    columns: Sequence[str] | None,
    label: str | None,
    form: Form | None,
    side: int | None,
) -> Layout:
    """Find the items in a table by its first row: `columns`, or what is left beside `label`.

    Left over must be numbers alone, or one column of images or lists.

    Raises:
        NotFound: a column is not there.
        InvalidInput: no such choice, or several.
    """
    kinds = {field.name: _kind(field.type) for field in first.schema}
    for column in (*(columns or ()), *filter(None, (label,))):
        if column not in kinds:
            raise NotFound(f"{name} has no column {column!r}; it has {', '.join(kinds)}")
    left = (
        {c: k for c, k in kinds.items() if c != label} if columns is None else _of(kinds, columns)
    )
    found = {
        kind: [c for c, k in left.items() if k == kind] for kind in ("image", "list", "number")
    }
    if columns is None and len(found["image"]) + len(found["list"]) == 1:
        chosen = [*found["image"], *found["list"]]  # beside it, numbers are about the item
    else:
        chosen = list(left)
    picked = {kinds[c] for c in chosen}
    if picked not in ({"image"}, {"list"}, {"number"}) or (
        len(chosen) > 1 and picked != {"number"}
    ):
        have = ", ".join(f"{field.name} ({field.type})" for field in first.schema)
        raise InvalidInput(
            f"items of {name} are one column of images or of lists, or columns of numbers; choose "
            f"them with columns, from {have}"
        )
    names = tuple(chosen)
    if picked == {"image"}:
        if form not in (None, "image"):
            raise InvalidInput(f"{name} holds encoded images, not {form} items")
        picture = next(iter(_pictures(name, first.column(names[0]))))
        frame = frame_of(picture, side)
        return Layout(name=name, columns=names, frame=frame, form="image", shape=(), side=side)
    rows: ArrayRows = array_rows(name, _values(name, first, names), form=form, side=side)
    shape = rows.values.shape[1:]
    return Layout(name=name, columns=names, frame=None, form=rows.form, shape=shape, side=side)


def label_column(schema: pa.Schema, label: str | None) -> str | None:
    """Give the column of classes: `label`, or one called "label" if there is any."""
    return "label" if label is None and "label" in schema.names else label


def labels_of(name: str, column: pa.ChunkedArray) -> NDArray[Any]:
    """Give a column of labels; raises InvalidInput when one is missing."""
    if column.null_count:
        raise InvalidInput(f"{name}: {column.null_count} labels are missing; leave those rows out")
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    return np.asarray(column.to_numpy())


def _of(kinds: Mapping[str, str], columns: Sequence[str]) -> dict[str, str]:
    return {column: kinds[column] for column in columns}


def _kind(kind: pa.DataType) -> str:
    """Say what a column can be: an image, a list, a number, or something else."""
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


def _pictures(name: str, column: pa.ChunkedArray) -> list[Picture]:
    pictures = []
    for value in column.to_pylist():
        content, label = value, f"an image of {name}"
        if isinstance(value, dict):
            path = value.get("path")
            content = value["bytes"] or (path and Path(path))
            label = str(path or label)
        if content is None:
            raise InvalidInput(f"{label} is missing; leave that row out")
        pictures.append(Picture(label, content))
    return pictures


def _values(name: str, table: pa.Table, columns: tuple[str, ...]) -> NDArray[Any]:
    """Give (b, features) numbers of several columns, or what one column of lists holds."""
    kinds = [table.schema.field(column).type for column in columns]
    if _kind(kinds[0]) == "list":
        return _dense(name, table.column(columns[0]).combine_chunks())
    numbers = [
        table.column(column).cast(pa.float64()).to_numpy().astype(np.float32) for column in columns
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


def as_rows(rows: Tensor) -> list[int]:
    """Give row numbers as Arrow wants them."""
    return [int(row) for row in torch.as_tensor(rows).tolist()]
