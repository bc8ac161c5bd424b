"""A folder's files: of which kind they are, by their suffixes, and what is passed over and why."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from attar.errors import InvalidInput

Kind: TypeAlias = Literal["images", "recordings", "tables", "arrays", "Parquet files", "tar files"]

TEXTS = (".txt", ".text", ".md")
TABLES = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
SUFFIXES: Mapping[Kind, tuple[str, ...]] = {
    "images": (
        *(".apng", ".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg"),
        *(".jpg", ".pbm", ".pcx", ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".tga", ".tif", ".tiff"),
        ".webp",
    ),
    "recordings": (".wav", ".wave"),
    "tables": TABLES,
    "arrays": (".npz",),
    "Parquet files": (".parquet",),
    "tar files": (".tar",),
}
PACKED = (".tar.bz2", ".tar.gz", ".tar.lz4", ".tar.xz", ".tar.zst")
UNREAD: Mapping[str, tuple[str, ...]] = {
    "PNG or JPEG": (
        *(".arw", ".cr2", ".dng", ".eps", ".heic", ".heif", ".ico", ".jxl", ".nef", ".psd"),
        ".svg",
    ),
    "PCM wav": (
        *(".aac", ".aif", ".aiff", ".amr", ".au", ".flac", ".m4a", ".mp3", ".oga", ".ogg"),
        *(".opus", ".w64", ".wma"),
    ),
    "a tar without compression": (*PACKED, ".tgz"),
}
"""Images, recordings and tars in formats that are not read, by what to convert them to."""

KIND_OF: Mapping[str, Kind] = {suffix: kind for kind, s in SUFFIXES.items() for suffix in s}
CONVERT: Mapping[str, str] = {suffix: to for to, suffixes in UNREAD.items() for suffix in suffixes}
NAMED = 3  # files or folders that a message names


@dataclass(frozen=True, slots=True)
class Files:
    """The items of a folder that are files of one kind, sorted by path."""

    folder: Path
    paths: tuple[Path, ...]
    passed_over: Mapping[str, int]  # what, and how many
    flat: bool = False  # whether folders are no classes

    def classes(self) -> NDArray[Any] | None:
        """Give each file's class, the first folder below; a flat folder has none.

        Raises InvalidInput when some files lie in a folder of a class and some in none.
        """
        below = [path.relative_to(self.folder).parts for path in self.paths]
        if self.flat:
            return None
        flat = [path for path, parts in zip(self.paths, below, strict=True) if len(parts) == 1]
        if not flat:
            return np.array([parts[0] for parts in below])
        if len(flat) == len(below):
            return None
        raise InvalidInput(
            f"{self.folder} has folders of classes, and {_some(flat, self.folder)} in none; move "
            "all into folders, or all into one flat folder"
        )


def exists(path: Path) -> bool:
    """Say whether a file or folder exists; False for a text that cannot be a path."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def suffix_of(path: Path) -> str:
    """Give a file's suffix in lower case, .csv.gz, .tsv.gz and .tar.gz whole."""
    name = path.name.lower()
    return next(
        (suffix for suffix in (*TABLES, *PACKED) if name.endswith(suffix)), path.suffix.lower()
    )


def stem_of(path: Path) -> str:
    """Give a name in lower case without its suffix."""
    return path.name.lower().removesuffix(suffix_of(path))


def hidden(path: Path) -> bool:
    """Say whether a file or folder is hidden."""
    return path.name.startswith(".")


def is_data(path: Path) -> bool:
    """Say whether a path is a file of data, or a folder with some below it."""
    if path.is_dir():
        return any(is_data(file) for file in _walk(path) if not hidden(file))
    return suffix_of(path) in KIND_OF or suffix_of(path) in CONVERT


def files_of(folder: Path, *, kind: Kind | None = None) -> tuple[Kind, Files]:
    """List the files below a folder that are data, all of one kind; links are followed.

    Hidden files and those with suffixes of no data are passed over, and counted.

    Raises:
        InvalidInput: the folder holds no data, data of several kinds or in a format that is not
            read, a link that leads nowhere or back to a folder above, or what cannot be opened.
    """
    by_kind: dict[Kind, list[Path]] = {}
    unread: list[Path] = []
    passed_over: Counter[str] = Counter()
    for path in _walk(folder):
        suffix = suffix_of(path)
        if not hidden(path) and suffix in KIND_OF:
            by_kind.setdefault(KIND_OF[suffix], []).append(path)
        elif not hidden(path) and suffix in CONVERT:
            unread.append(path)
        else:
            passed_over[_left(path)] += 1
    if unread:
        to = CONVERT[suffix_of(min(unread))]
        raise InvalidInput(
            f"{folder} holds {_some(sorted(unread), folder)}, a format that is not read; convert "
            f"to {to}, or take away"
        )
    single = _only_kind(folder, by_kind, kind)
    paths = tuple(sorted(by_kind[single]))
    filled = {path.relative_to(folder).parts[0] for path in paths}
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not hidden(entry) and entry.name not in filled:
            passed_over[f"folder without {single}: {entry.name}"] += 1
    return single, Files(folder, paths, dict(sorted(passed_over.items())))


def text_files(
    folder: Path, suffixes: Sequence[str] = TEXTS
) -> tuple[tuple[Path, ...], dict[str, int]]:
    """List the files of text below a folder, and count those that are passed over.

    Raises InvalidInput when there are none, and for links as `files_of` does.
    """
    every = sorted(_walk(folder))
    texts = tuple(path for path in every if not hidden(path) and suffix_of(path) in suffixes)
    if not texts:
        raise InvalidInput(
            f"{folder} has no texts ({', '.join(suffixes)}); pass the file of texts that it may "
            "hold"
        )
    others = (path for path in every if hidden(path) or suffix_of(path) not in suffixes)
    return texts, dict(sorted(Counter(map(_left, others)).items()))


def _left(path: Path) -> str:
    """Say what a file is that is passed over."""
    if hidden(path):
        return "hidden"
    suffix = suffix_of(path)
    return f"named *{suffix}" if suffix else "without a suffix"


def _only_kind(folder: Path, by_kind: Mapping[Kind, Sequence[Path]], wanted: Kind | None) -> Kind:
    """Give the one kind that a folder holds."""
    if len(by_kind) > 1:
        counts = "; ".join(
            f"{len(paths)} {kind} ({_some(sorted(paths), folder)})"
            for kind, paths in sorted(by_kind.items(), key=lambda item: -len(item[1]))
        )
        raise InvalidInput(
            f"{folder} holds several kinds of data: {counts}; give each a folder of its own"
        )
    if not by_kind or (wanted is not None and wanted not in by_kind):
        what = wanted or "data"
        suffixes = SUFFIXES[wanted] if wanted else tuple(KIND_OF)
        raise InvalidInput(
            f"{folder} has no {what} ({', '.join(suffixes)}), neither flat nor in a folder for "
            "each class"
        )
    return next(iter(by_kind))


def _walk(folder: Path) -> Iterator[Path]:
    """Give each file below a folder, and each hidden folder, which is not entered.

    No folder is entered twice: thirty folders with two links each to the next have a billion paths.
    """
    seen = {_identity(folder): folder}
    stack = [folder]
    while stack:
        here = stack.pop()
        for entry in _entries(here):
            path = Path(entry.path)
            if entry.is_dir() and not hidden(path):
                first = seen.setdefault(_identity(path), path)
                if first in path.parents:
                    raise InvalidInput(
                        f"{path} is a link back to a folder that it lies in; take it away"
                    )
                if first is not path:
                    raise InvalidInput(
                        f"{path} and {first} are one folder, by a link; take one of them away"
                    )
                stack.append(path)
            elif entry.is_dir() or entry.is_file():
                yield path
            elif not hidden(path):
                what = "a link to nothing" if entry.is_symlink() else "no plain file"
                raise InvalidInput(f"{path} is {what}; take it away")


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise InvalidInput(f"{folder} cannot be listed: {error.strerror}") from error


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _some(paths: Sequence[Path], folder: Path) -> str:
    """Name a few paths, and count the others."""
    names = ", ".join(str(path.relative_to(folder)) for path in paths[:NAMED])
    more = len(paths) - NAMED
    return f"{names} and {more} more" if more > 0 else names
