"""An .npz file as a source: arrays by the names that people give them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from attar.errors import InvalidInput, NotFound

from .arrays import Form, Npz, array_rows
from .pictures import packed_images
from .split import Part

NAMES = (
    ("train", "train_labels", "test", "test_labels"),
    ("x_train", "y_train", "x_test", "y_test"),
    ("x", "y", None, None),
)
"""Items and labels of the training part, and of the test part, by names in lower case."""
LABELS = ("label", "labels", "y")  # of packed images


def npz_parts(
    path: Path, *, member: str | None = None, form: Form | None = None, side: int | None = None
) -> tuple[Part, Part | None]:
    """Give the training and test part that an .npz file holds.

    Its arrays are `train`, `train_labels`, `test` and `test_labels`; or `x_train`, `y_train`,
    `x_test` and `y_test`; or `x` and `y` (upper case will do, labels and test parts may be
    missing); or `jpeg` and `offset`, encoded images back to back, with `label`. A file of several
    sets has a name before each (`SwedishLeaf_X_train`), and `member` chooses one.

    Raises:
        InvalidInput: the file has none of these names, or is damaged.
        NotFound: it has no set called `member`, or has several and `member` does not say which.
    """
    file = Npz(path)
    arrays = {name.lower(): name for name in file}
    prefix = _prefix(path, list(file), member)
    for names in NAMES:
        found = [name and arrays.get(prefix.lower() + name) for name in names]
        items, labels, test, test_labels = found
        if items is None:
            continue
        train = Part(
            f"{items} in {path}",
            array_rows(f"{items} in {path}", file[items], form=form, side=side),
            _labels(file, labels),
        )
        if test is None:
            return train, None
        held = array_rows(f"{test} in {path}", file[test], form=form, side=side)
        return train, Part(f"{test} in {path}", held, _labels(file, test_labels))
    if "jpeg" in arrays and "offset" in arrays:
        if form not in (None, "image"):
            raise InvalidInput(f"{path} holds encoded images, not {form} items")
        images = packed_images(str(path), file["jpeg"], file["offset"], side=side)
        labels = next((name for name in LABELS if name in arrays), None)
        return Part(str(path), images, _labels(file, labels)), None
    raise InvalidInput(
        f"{path} must hold train (and train_labels, test, test_labels), x_train (and y_train, "
        "x_test, y_test), x (and y) or jpeg and offset (and label); "
        f"got {', '.join(file) or 'nothing'}"
    )


def _labels(file: Mapping[str, NDArray[Any]], name: str | None) -> NDArray[Any] | None:
    return None if name is None else file[name]


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
