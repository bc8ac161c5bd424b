"""The check of a data folder: what in it is not as it was written.

A server finds damage where it opens a file. This compares everything that has a checksum, and
changes nothing: shards by `checksums.json`, descriptions by their own sum, snapshots by their name,
heads by those of their zip, and the slots of what keys have used.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from attar.errors import InvalidInput, Unavailable
from attar.heads import KnnAnomaly, LinearClassifier

from .collections.checksums import compare_sums, read_sums
from .collections.index_builder import check_snapshot, is_snapshot
from .collections.qdrant_edge import read_folder
from .disk import is_name, what_is_wrong
from .limits.usage import damaged_slots
from .usecases.head_store import Head, read_head

HEADS: Final[tuple[tuple[str, str, Callable[[bytes], Head]], ...]] = (
    ("detector", "anomaly", KnnAnomaly.from_bytes),
    ("classifier", "classifiers", LinearClassifier.from_bytes),
)
_NOT_COMPARED: Final = (
    "not compared: it was being written to when its process ended; start a server and stop it"
)


@dataclass(frozen=True, slots=True)
class Compared:
    """One thing of a data folder, as in `collection docs`, and how it fared."""

    what: str
    result: str = "whole"
    is_damaged: bool = False


def look(data_dir: Path) -> Iterator[Compared]:
    """Compare what is there, one after another; nobody may have the collections open meanwhile.

    Raises InvalidInput where there is no folder, and Unavailable where a server has it open.
    """
    if not data_dir.is_dir():
        raise InvalidInput(f"{data_dir} is no folder; give a server's data_dir")
    with _alone(data_dir / "collections" / ".lock"):
        for folder in _named(data_dir / "collections"):
            yield _compared(f"collection {folder.name}", partial(_collection, folder))
        for folder in _named(data_dir / "snapshots"):
            for path in filter(is_snapshot, sorted(folder.glob("*.zip"))):
                what = f"snapshot {path.stem} of collection {folder.name}"
                yield _compared(what, partial(check_snapshot, path))
    for kind, name, read in HEADS:
        for path in sorted((data_dir / name).glob("*.npz")):
            if is_name(path.stem):
                yield _compared(f"{kind} {path.stem}", partial(read_head, path, read))
    if (usage := data_dir / "usage").exists():
        yield _compared("usage of keys", partial(_usage, usage))


def _compared(what: str, compare: Callable[[], object]) -> Compared:
    """Say what `compare` says, if it is words, or what it raises."""
    try:
        result = compare()
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
        return Compared(what, f"damaged: {what_is_wrong(error)}{notes}", is_damaged=True)
    return Compared(what, result) if isinstance(result, str) else Compared(what)


def _collection(folder: Path) -> str | None:
    """Compare a collection as it is compared when it is opened, and its sums too."""
    _, shard = read_folder(folder)
    if not shard.is_dir():
        raise ValueError(f"its shard {shard.name} is missing")
    files = read_sums(shard)
    if files is None:
        return _NOT_COMPARED
    compare_sums(shard, files)
    return None


def _usage(path: Path) -> None:
    if (damaged := damaged_slots(path)) != 0:
        raise ValueError(f"{damaged} keys are counted from 0 when they come again")


def _named(folder: Path) -> list[Path]:
    """Those in a folder that have a collection's name."""
    return sorted(path for path in folder.glob("*") if is_name(path.name))


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Keep servers out; a copy of a data folder may have no lock, and may be read-only."""
    try:
        descriptor = os.open(lock, os.O_RDONLY)
    except FileNotFoundError:
        yield
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Unavailable(
            "a server has these collections open, and may write to them; stop it, or give a copy"
        ) from None
    finally:
        os.close(descriptor)
