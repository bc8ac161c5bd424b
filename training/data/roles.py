"""Roles of a table's columns: the label, the items, and columns of unclear role."""

from collections.abc import Sequence

from attar.errors import InvalidInput, NotFound

LABEL = "label"
LABELS = frozenset(
    (
        *("labels", "class", "classes", "target", "targets", "y", "category", "anomaly"),
        *("is_anomaly", "outlier", "ground_truth"),
    )
)
SPLIT_COLUMNS = frozenset(("split", "is_test", "is_train", "part", "fold", "subset"))
INDEX = ("", "unnamed: 0", "__index_level_0__")  # what pandas calls rows' numbers that it wrote


def label_of(name: str, columns: Sequence[str], label: str | None) -> str | None:
    """Give the column of classes: `label`, or one called "label" in any case if there is any.

    Raises NotFound when there is no column `label`, and InvalidInput when several could be it;
    `name` is the table's.
    """
    if label is not None:
        if label not in columns:
            raise NotFound(f"{name} has no column {label!r}; it has {', '.join(columns)}")
        return label
    named = [column for column in columns if column.strip().lower() == LABEL]
    if len(named) > 1:
        raise InvalidInput(f"{name} has columns {', '.join(named)}; say which by label=NAME")
    return named[0] if named else None


def refuse_doubtful(name: str, columns: Sequence[str], *, labelled: bool) -> None:
    """Refuse columns that were not chosen and that, by their names, are no measurement.

    These are the rows' numbers, a part and, where no other is the label, classes.
    """
    for column in columns:
        lower_name = column.strip().lower()
        if lower_name in INDEX:
            what = f"called {column}" if lower_name else "without a name"
            raise InvalidInput(
                f"{name} has a column {what}, as pandas writes the rows' numbers; save without "
                "(index=False), or choose the items by columns=NAME,NAME"
            )
        if lower_name in SPLIT_COLUMNS:
            raise InvalidInput(
                f"{name} has a column {column!r} next to the items; pass part={column} if it says "
                "which rows test, or choose the items by columns=NAME,NAME"
            )
        coordinate = lower_name == "y" and ("X" if column.strip() == "Y" else "x") in columns
        if lower_name in LABELS and not labelled and not coordinate:
            raise InvalidInput(
                f"{name} has a column {column!r}, which may be the classes; pass label={column} "
                "(and labels=none to do without), or choose the items by columns=NAME,NAME"
            )


def refuse_read_twice(
    name: str, columns: Sequence[str], *, label: str | None, part: str | None = None
) -> None:
    """Refuse chosen columns that are the label or the part too, and one that is chosen twice."""
    for column in columns:
        if column in (label, part):
            what = "label" if column == label else "part"
            without = ", or read without labels by labels=none" if column == label else ""
            raise InvalidInput(
                f"{name}: column {column!r} is the {what}, so it cannot be an item's; leave it out "
                f"of columns{without}"
            )
        if list(columns).count(column) > 1:
            raise InvalidInput(f"{name}: column {column!r} is chosen twice; name each once")
