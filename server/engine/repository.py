"""A model repository: where bundles lie on disk, and how each looks at one moment.

    DIR/NAME.attar/  DIR/NAME.zip           one bundle, folder or zip
    DIR/NAME/VERSION/  DIR/NAME/VERSION.zip  several versions; VERSION begins with a digit

A model's name and version are those of its manifest; the folder's stand for them only as long as
the manifest cannot be read. What begins with a dot is not looked at: copy there, then rename.
"""

import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol

from attar.bundle import MANIFEST
from attar.errors import InvalidInput
from attar.manifest import MAX_MANIFEST_BYTES

from .model import Model

_SUFFIXES: Final = (".attar", ".zip")
_VERSION: Final = re.compile(r"v?\d")


class Loaded(Protocol):
    """Who is told when a bundle was opened to be served."""

    def __call__(self, model: str, /, *, good: bool) -> None:
        """Count it; `good` says whether it serves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """Where a server's models come from."""

    open: Callable[[Path, str | None], Model]  # a bundle's path and the variant; blocks
    bundles: tuple[Path, ...] = ()  # these must load, or the server does not start
    folder: Path | None = None  # these are served as far as they load
    watch_s: float = 0.0  # how often the folder is looked at; 0: on request only
    variants: Mapping[str, str] = field(default_factory=dict)  # by model; of "": any other's
    loaded: Loaded = lambda _, **__: None  # told of every attempt
    shared: bool = False  # with other processes: a call reaches one of them, the folder all


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A bundle on disk as it looked once; nothing of it is verified."""

    path: Path
    name: str
    version: str
    stamp: str  # another one when any of its files was written
    content: str  # equal when every file is, by the manifest's own word; empty: no manifest


def places(folder: Path) -> list[Path]:
    """Find where bundles lie in a repository, finished or not; OSError where it cannot be read."""
    return sorted(_places(folder))


def require_folder(folder: Path) -> None:
    """Raise InvalidInput for what is no repository, by which a mistyped name is told."""
    if not folder.is_dir():
        what = "a file" if folder.exists() else "not there"
        raise InvalidInput(
            f"model_repository {folder} is {what}; name a folder of bundles, or give a bundle as "
            "BUNDLE"
        )
    if (folder / MANIFEST).is_file():
        raise InvalidInput(
            f"model_repository {folder} is a bundle; give it as BUNDLE, or name the folder that "
            "holds it"
        )


def look(path: Path) -> Place:
    """See how a bundle looks now; whatever is wrong with it is found by who opens it."""
    single = not _VERSION.match(path.name) or path.parent.suffix in _SUFFIXES
    stem = path.stem if path.suffix in _SUFFIXES else path.name
    name, version = (stem, "") if single else (path.parent.name, stem)
    manifest = _manifest(path)
    try:
        fields = json.loads(manifest)
        name, version = str(fields["name"]), str(fields["version"])
    except (ValueError, KeyError, TypeError, RecursionError):
        manifest = b""
    return Place(
        path=path,
        name=name,
        version=version,
        stamp=_stamp(path),
        content=sha256(manifest).hexdigest() if manifest else "",
    )


def newer(version: str) -> tuple[tuple[int, int, str], ...]:
    """Order versions as people do: 10 after 9, and 1.10 after 1.9."""
    parts = re.findall(r"\d+|[^\d.]+", version)
    return tuple((1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts)


def _places(folder: Path) -> Iterator[Path]:
    for entry in [entry for entry in folder.iterdir() if not entry.name.startswith(".")]:
        if entry.suffix in _SUFFIXES or (entry / MANIFEST).is_file():
            yield entry
        elif entry.is_dir():
            for version in _visible(entry):
                if _VERSION.match(version.name) and (version.is_dir() or version.suffix == ".zip"):
                    yield version


def _visible(folder: Path) -> Iterator[Path]:
    try:
        yield from (entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError:  # it went away between two looks
        return


def _manifest(path: Path) -> bytes:
    try:
        if path.is_dir():
            with (path / MANIFEST).open("rb") as file:
                return file.read(MAX_MANIFEST_BYTES)
        with zipfile.ZipFile(path) as archive, archive.open(MANIFEST) as file:
            return file.read(MAX_MANIFEST_BYTES)
    except (OSError, KeyError, RuntimeError, NotImplementedError, zipfile.BadZipFile):
        return b""


def _stamp(path: Path) -> str:
    digest = sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        try:
            status = file.lstat()
        except OSError:
            continue
        digest.update(f"{file}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
