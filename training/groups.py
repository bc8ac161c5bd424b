"""Groups: a related set of items and the target, two domains that are read from two folders."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attar.errors import NotFound, ShapeError

from .data.source import Source
from .reading import read


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Items of a related group, which is learned first, and of the target, of one shape."""

    related: Source
    target: Source


def read_groups(folder: Path, **reading: Any) -> Groups:
    """Read the entries `related` and `target` of a folder, each by `reading.read` and its options.

    Raises NotFound for a folder that lacks one, and ShapeError for groups of two shapes.
    """
    entries = folder / "related", folder / "target"
    if missing := [entry.name for entry in entries if not entry.exists()]:
        raise NotFound(
            f"{folder} has no {' and no '.join(missing)}: put the images or recordings of the "
            "first group in related/ and those of the other in target/"
        )
    related, target = (read(str(entry), **reading) for entry in entries)
    shapes = [source.summary.shape for source in (related, target) if source.summary]
    if shapes[0] != shapes[-1]:
        raise ShapeError(
            f"{folder}: an item of related has the shape {shapes[0]} and one of target "
            f"{shapes[-1]}; bring both to one, by --read side=N of images or rate=HZ of recordings"
        )
    return Groups(related=related, target=target)
