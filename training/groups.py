"""Groups: a related set of recordings and the target, which has the same classes."""

from dataclasses import dataclass
from pathlib import Path

from attar.errors import NotFound, ShapeError

from .data.source import Source
from .reading import read


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Clips of a related group, and of the target, which has the same classes."""

    related: Source
    target: Source


def read_groups(folder: Path) -> Groups:
    """Read the entries `related` and `target` of a folder, each as `reading.read` does.

    Raises NotFound for a folder that lacks one, and ShapeError for groups of two rates.
    """
    entries = folder / "related", folder / "target"
    if missing := [entry.name for entry in entries if not entry.exists()]:
        raise NotFound(
            f"{folder} has no {' and no '.join(missing)}: put the first group's recordings in "
            "related/ and the other's in target/"
        )
    related, target = (read(str(entry)) for entry in entries)
    shapes = [source.summary.shape for source in (related, target) if source.summary]
    if shapes[0] != shapes[-1]:
        raise ShapeError(
            f"{folder}: a second of related has {shapes[0][-1]:,} samples and one of target "
            f"{shapes[-1][-1]:,}; bring all recordings to one rate"
        )
    return Groups(related=related, target=target)
