"""The bundle repository: where bundles lie on disk, and what each looks like now.

    DIR/NAME.attar/  DIR/NAME.zip           one bundle, folder or zip
    DIR/NAME/VERSION/  DIR/NAME/VERSION.zip  several versions; VERSION begins with a digit

A model's name and version are those of its manifest; the folder's stand for them only as long as
the manifest cannot be read. What begins with a dot is not looked at: copy there, then rename.
"""

import json
import os
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Final, Protocol

from attar import archive
from attar.bundle import MANIFEST, MAX_FILES
from attar.errors import InvalidInput
from attar.manifest import MAX_MANIFEST_BYTES

from .model import Model

_SUFFIXES: Final = (".attar", ".zip")
_VERSION: Final = re.compile(r"v?\d")
_WORD: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")  # what a name or a version can be
_MOST_FILES: Final = 4 * MAX_FILES  # of a bundle, that a look takes in; one of more is refused


class Loaded(Protocol):
    """A callback for each bundle that was opened to be served."""

    def __call__(self, model: str, /, *, good: bool) -> None:
        """Count it; `good` says whether it serves."""


class Opens(Protocol):
    """How a bundle becomes a model; blocks."""

    def __call__(self, path: Path, variant: str | None, /, *, content: str | None) -> Model:
        """Open that variant; only of a bundle of that content, where it is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """What is known of a bundle that was opened and tried somewhere else."""

    content: str  # `Bundle.content` of what was tried
    variant: str | None  # the one that was chosen; None: it is chosen when it is opened


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """Where a server's models come from."""

    open: Opens
    # Tries a bundle where it can do no harm, and raises why it cannot be served.
    prove: Callable[["BundleLocation", str | None], Awaitable[Proven]] | None = None
    open_timeout_s: float = 120.0  # for `open`, after which it is given up
    bundles: tuple[Path, ...] = ()  # these must load, or the server does not start
    folder: Path | None = None  # these are served as far as they load
    watch_s: float = 0.0  # how often the folder is looked at; 0: on request only
    variants: Mapping[str, str] = field(default_factory=dict)  # by model; of "": any other's
    loaded: Loaded = lambda _, **__: None  # called at every attempt
    failed: Callable[[], None] = lambda: None  # called when the folder could not be read
    shared: bool = False  # with other processes: a call reaches one of them, the folder all


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleLocation:
    """A bundle on disk as it looked once; nothing of it is verified."""

    path: Path
    name: str
    version: str
    stamp: str  # another one when any of its files was written, or it was put back
    content: str  # equal when every file is, by the manifest's own word; empty: no manifest


def bundle_paths(folder: Path) -> list[Path]:
    """Find where bundles lie in a repository, finished or not; OSError where it cannot be read."""
    return sorted(_bundle_paths(folder))


def require_folder(folder: Path) -> None:
    """Raise InvalidInput for what is no repository, so that a mistyped name is reported."""
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


def look(path: Path) -> BundleLocation:
    """See how a bundle looks now; whatever is wrong with it is found by who opens it."""
    single = not _VERSION.match(path.name) or path.parent.suffix in _SUFFIXES
    stem = path.stem if path.suffix in _SUFFIXES else path.name
    name, version = (shown(stem), "") if single else (shown(path.parent.name), shown(stem))
    manifest = _manifest(path)
    declared = _named(manifest)
    if declared is not None:
        name, version = declared
    return BundleLocation(
        path=path,
        name=name,
        version=version,
        stamp=_stamp(path),
        content=sha256(manifest).hexdigest() if declared is not None else "",
    )


def shown(text: object) -> str:
    """Give text that can be sent and logged: a file's name need not be UTF-8."""
    return str(text).encode("utf-8", "replace").decode()


def newer(version: str) -> tuple[tuple[int, int, str], ...]:
    """Order versions as people do: 10 after 9, and 1.10 after 1.9."""
    parts = re.findall(r"\d+|[^\d.]+", version)
    return tuple((1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts)


def _bundle_paths(folder: Path) -> Iterator[Path]:
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


def _named(manifest: bytes) -> tuple[str, str] | None:
    """Read the name and the version; None where either is not one."""
    try:
        fields = json.loads(manifest)
        name, version = fields["name"], fields["version"]
        named = _WORD.fullmatch(name) and _WORD.fullmatch(version)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return (name, version) if named else None


def _manifest(path: Path) -> bytes:
    """Read the manifest, without waiting for a pipe and without believing a zip."""
    try:
        if path.is_dir():
            with archive.open_plain(path / MANIFEST) as file:
                return file.read(MAX_MANIFEST_BYTES)
        with archive.open_plain(path) as file:
            zipped = archive.opened(file, max_entries=_MOST_FILES)
            return archive.read(zipped, zipped.getinfo(MANIFEST), MAX_MANIFEST_BYTES)
    except (KeyError, *archive.DAMAGES):
        return b""


def _stamp(path: Path) -> str:
    """Digest what every file of a bundle looks like, and when the bundle came to this place.

    A bundle that was refused while another lay in its place is then tried when it is put back.
    """
    digest = sha256()
    with suppress(OSError):
        status = path.lstat()
        digest.update(f"{status.st_ino}\0{status.st_ctime_ns}\n".encode())
    files = islice(path.rglob("*"), _MOST_FILES) if path.is_dir() else [path]
    for file in sorted(files):
        try:
            status = file.lstat()
        except OSError:
            continue
        digest.update(os.fsencode(file))
        digest.update(f"\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
