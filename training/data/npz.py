"""An .npz file as a source: arrays by their usual names."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from attar.errors import InvalidInput, NotFound

from .arrays import Form, Npz, array_rows
from .pictures import packed_images
from .split import TEST, DataSplit, best_test

NAMES = (("train", "{}"), ("x_train", "x_{}"), ("x", ""))
"""Items of the training split, and what those of another split are called, in lower case."""
LABELS: Mapping[str, Sequence[str]] = {
    "{}": ("{}_labels", "{}_label"),
    "x_{}": ("y_{}",),
    "": ("y", "label", "labels"),
}
"""What the labels of a split are called, by what its items are."""


def npz_splits(
    path: Path, *, member: str | None = None, form: Form | None = None, side: int | None = None
) -> tuple[DataSplit, DataSplit | None]:
    """Give the training and test split that an .npz file holds.

    Its arrays are `train`, `train_labels`, `test` and `test_labels`; or `x_train`, `y_train`,
    `x_test` and `y_test`; or `x` and `y`, `label` or `labels`; or `jpeg` and `offset`, encoded
    images back to back, with one of these. Upper case will do, labels and test splits may be
    missing, and `val` or `valid` is the test split where there is no `test`. A file of several sets
    has a name before each (`SwedishLeaf_X_train`), and `member` chooses one. Other arrays are
    passed over.

    Raises:
        InvalidInput: the file has none of these names or one twice, or is damaged.
        NotFound: it has no set called `member`, or has several and `member` does not say which.
    """
    file = Npz(path)
    prefix = _prefix(path, list(file), member).lower()
    arrays = {name.lower().removeprefix(prefix): name for name in file if _of(name, prefix)}
    if len(arrays) != sum(_of(name, prefix) for name in file):
        raise InvalidInput(
            f"{path} has arrays that differ in case alone, of {', '.join(sorted(file))}"
        )
    pattern = next((pattern for items, pattern in NAMES if items in arrays), None)
    if pattern is None:
        return _packed(path, file, arrays, form=form, side=side), None

    def split(items: str, name: str) -> tuple[DataSplit, set[str]]:
        named = [option.format(name) for option in LABELS[pattern]]
        labels = next((option for option in named if option in arrays), None)
        what = f"{arrays[items]} in {path}"
        rows = array_rows(what, file[arrays[items]], form=form, side=side)
        classes = None if labels is None else _labels(file, arrays[labels])
        return DataSplit(what, rows, classes, notes=(rows.note(),)), {
            items,
            *filter(None, (labels,)),
        }

    train, used = split(next(items for items, _ in NAMES if items in arrays), "train")
    tests = {name: pattern.format(name) for name in TEST} if pattern else {}
    tests = {name: items for name, items in tests.items() if items in arrays}
    name = best_test(tests)
    test = None
    if name is not None:
        test, more = split(tests[name], name)
        used |= more
    left = {f"array {arrays[other]}": 1 for other in arrays if other not in used}
    return replace(train, passed_over=left), test


def _packed(
    path: Path, file: Npz, arrays: Mapping[str, str], *, form: Form | None, side: int | None
) -> DataSplit:
    """Give encoded images back to back."""
    if not {"jpeg", "offset"} <= arrays.keys():
        raise InvalidInput(
            f"{path} must hold train (and train_labels, test, test_labels), x_train (and y_train, "
            "x_test, y_test), x (and y) or jpeg and offset (and label); "
            f"got {', '.join(file) or 'nothing'}"
        )
    if form not in (None, "image"):
        raise InvalidInput(f"{path} holds encoded images, not {form} items")
    images = packed_images(str(path), file[arrays["jpeg"]], file[arrays["offset"]], side=side)
    labels = next((name for name in LABELS[""] if name in arrays), None)
    used = {"jpeg", "offset", labels}
    left = {f"array {arrays[other]}": 1 for other in arrays if other not in used}
    classes = None if labels is None else _labels(file, arrays[labels])
    return DataSplit(str(path), images, classes, left, images.frame.notes)


def _labels(file: Mapping[str, NDArray[Any]], name: str) -> NDArray[Any]:
    """Give labels, of which a column (n, 1) is one an item too."""
    labels = file[name]
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels


def _of(name: str, prefix: str) -> bool:
    return name.lower().startswith(prefix)


def _prefix(path: Path, names: list[str], member: str | None) -> str:
    """Give what stands before the names of the chosen set."""
    sets = sorted({name[: -len("_x_train")] for name in names if name.lower().endswith("_x_train")})
    if member is None and (not sets or {"train", "x", "x_train"} & {n.lower() for n in names}):
        return ""
    if member not in sets:
        have = f"there are {', '.join(sets)}" if sets else "it is one set, and takes none"
        met = "holds several sets" if member is None else f"has no set {member!r}"
        raise NotFound(f"{path} {met}; {have}" + (f": write {path.name}#NAME" if sets else ""))
    return f"{member}_"
