"""A Hugging Face `datasets.Dataset` as items: mapped from its Arrow files, row by row."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from attar.errors import InvalidInput, MissingExtra

from .arrays import Form
from .arrow import Layout, label_column, labels_of, layout, notes_of, refuse_missing
from .roles import refuse_read_twice
from .split import TRAIN, DataSplit, best_test

CHUNK = 64  # rows whose images' headers are read together
RUN = 1024  # rows that are looked through together for nulls and NaN


@dataclass(frozen=True, slots=True)
class DatasetRows:
    """The rows of a data set that gives Arrow tables."""

    dataset: Any
    layout: Layout

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, rows: Int[Tensor, "b"], /) -> Float[Tensor, "b ..."]:
        return self.layout(self.dataset[rows.tolist()])


def dataset_part(
    dataset: Any,
    *,
    name: str = "the data set",
    columns: Sequence[str] | None = None,
    label: str | None = None,
    form: Form | None = None,
    side: int | None = None,
    labelled: bool = True,
) -> DataSplit:
    """Give the rows of a `datasets.Dataset`; its format is ignored, its selection is kept.

    Items and `label` are found as in `parquet_part`, which names the errors too.
    """
    if not len(dataset):
        raise InvalidInput(f"{name} has no rows; a part needs at least one")
    plain = dataset.with_format("arrow")
    schema = plain[:1].schema
    label = label_column(name, schema, label)
    if labelled:
        refuse_read_twice(name, columns or (), label=label)

    def tables(column: str, rows: int = CHUNK) -> Iterator[Any]:
        alone = plain.select_columns([column])
        return (alone[start : start + rows] for start in range(0, len(alone), rows))

    def runs(column: str) -> Iterator[tuple[int, Any]]:
        columns = (table.column(column) for table in tables(column, RUN))
        return ((RUN * at, values) for at, values in enumerate(columns))

    fields = layout(name, plain[:1], tables, columns=columns, label=label, form=form, side=side)
    refuse_missing(fields, runs)
    labels = None
    if label is not None and labelled:
        labels = labels_of(name, plain.select_columns([label])[:], label)
    rows = DatasetRows(plain.select_columns(list(fields.columns)), fields)
    notes = notes_of(fields, label, schema)
    return DataSplit(name, rows, labels, notes=notes, columns=fields.columns)


def dataset_splits(
    folder: Path,
    *,
    columns: Sequence[str] | None = None,
    label: str | None = None,
    form: Form | None = None,
    side: int | None = None,
    labelled: bool = True,
) -> tuple[DataSplit, DataSplit | None]:
    """Give the splits of a folder that `save_to_disk` wrote: a data set, or a dict of them.

    Of a dict, `train` trains, and `test` or else `validation` and the like tests; others are passed
    over. Raises MissingExtra without
    `datasets`, and InvalidInput for a damaged folder or a dict without `train`.
    """
    saved = _loaded(folder)

    def split(dataset: Any, name: str, columns: Sequence[str] | None = columns) -> DataSplit:
        return dataset_part(
            dataset,
            name=name,
            columns=columns,
            label=label,
            form=form,
            side=side,
            labelled=labelled,
        )

    if not isinstance(saved, dict):  # a `DatasetDict` is one
        return split(saved, str(folder)), None
    names = {name.lower(): name for name in saved}
    trains = [name for name in names if name in TRAIN]
    if len(trains) != 1:
        raise InvalidInput(f"{folder} must have a part called train; got {', '.join(saved)}")
    test = best_test(names)
    left = {
        f"rows in the part {name}": len(saved[name])
        for name in saved
        if name.lower() not in (trains[0], test)
    }
    train = replace(split(saved[names[trains[0]]], f"train of {folder}"), passed_over=left)
    if test is None:
        return train, None
    return train, split(saved[names[test]], f"{test} of {folder}", train.columns)


def _loaded(folder: Path) -> Any:
    """Give the `Dataset` or `DatasetDict` of a folder; raises as `dataset_splits` does."""
    try:
        import datasets
    except ImportError as error:
        what = f"reading {folder}"
        raise MissingExtra(what, "data") from error
    try:
        return datasets.load_from_disk(str(folder))
    except (OSError, ValueError, KeyError) as error:
        raise InvalidInput(f"{folder} cannot be read as a saved data set: {error}") from error
