"""A bundle is a folder, or the same zipped, that is believed only after every byte was checked.

Nothing in it runs but ONNX graphs of standard operators: no pickle, no code, no path that leaves it.
docs/bundle.md is the format on one page, with everything that is refused.
"""

import io
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import IO, Protocol, Self, cast

import numpy as np

from .errors import AlreadyExists, BundleRefused, InvalidInput, NotFound
from .manifest import (
    MAX_FILE_BYTES,
    MAX_JSON_BYTES,
    FileEntry,
    Manifest,
    Variant,
    check_path,
    fingerprint,
    parse,
    read_json,
    serialise,
)
from .onnxfile import check_onnx

MANIFEST = "manifest.json"
REPORT = "report.json"

MAX_FILES = 1000
"""A bundle has some ten files; a list of a million is an attack on the reader."""

_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can say: equal content gives equal bytes


class _Source(Protocol):
    """Where a bundle's bytes lie."""

    def sizes(self) -> Mapping[str, int]:
        """Give every file's path and claimed size, having refused whatever is not a plain file."""

    def open(self, name: str) -> IO[bytes]:
        """Open one of those files."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened and verified bundle."""

    path: Path
    manifest: Manifest
    _source: _Source

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Verify a bundle folder or zip and give it; BundleRefused says what is wrong with it."""
        path = Path(path)
        source = _source(path)
        sizes = source.sizes()
        if len(sizes) > MAX_FILES:
            raise BundleRefused("too-large", f"{path} has {len(sizes)} files; the limit is {MAX_FILES}")
        if MANIFEST not in sizes:
            raise BundleRefused("missing-file", f"{path} has no {MANIFEST} at its top")
        bundle = cls(path, parse(_read(source, MANIFEST, MAX_JSON_BYTES)), source)
        bundle._verify(sizes)
        return bundle

    @classmethod
    def write(
        cls,
        path: str | os.PathLike[str],
        manifest: Manifest,
        files: Mapping[str, bytes | Path],
        *,
        replace: bool = False,
    ) -> Self:
        """Write a bundle folder whole or not at all, and give it opened.

        `files` maps each path in the bundle to its bytes, or to a file to copy. Hashes, sizes and
        the fingerprint are computed; the same content gives the same bytes. What stands at `path`
        is replaced only if asked for, and only if it is a bundle.
        """
        path = Path(path)
        if path.exists() or path.is_symlink():
            if not replace:
                raise AlreadyExists(f"{path} exists; choose another path, or pass replace=True")
            if path.is_symlink() or not (path / MANIFEST).is_file():
                raise AlreadyExists(f"{path} exists and is not a bundle folder; attar will not delete it")
        for name in files:
            check_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
            new = Path(scratch) / "new"
            entries = tuple(_copy(files[name], new, name) for name in sorted(files))
            manifest = _sealed(manifest, entries)
            (new / MANIFEST).write_bytes(serialise(manifest))
            try:
                cls.open(new)
            except BundleRefused as error:
                raise BundleRefused(error.code, f"{path} was not written: {error.args[1]}") from None
            if path.exists():
                path.rename(Path(scratch) / "old")
            new.rename(path)
        return cls.open(path)

    @classmethod
    def pack(
        cls, folder: str | os.PathLike[str], archive: str | os.PathLike[str], *, replace: bool = False
    ) -> Self:
        """Zip a bundle folder, whole or not at all, and give the zip opened.

        Entries are stored, sorted and undated, so the same bundle gives the same bytes everywhere.
        """
        bundle, archive = cls.open(folder), Path(archive)
        if archive.exists() and not (replace and archive.is_file()):
            raise AlreadyExists(f"{archive} exists; choose another path, or pass replace=True for a file")
        with tempfile.TemporaryDirectory(dir=archive.parent, prefix=f".{archive.name}.") as scratch:
            new = Path(scratch) / "new"
            with zipfile.ZipFile(new, "w", zipfile.ZIP_STORED) as zipped:
                for name in sorted([MANIFEST, *(entry.path for entry in bundle.manifest.files)]):
                    info = zipfile.ZipInfo(name, _ZIP_EPOCH)
                    info.create_system, info.external_attr = 3, (stat.S_IFREG | 0o644) << 16
                    zipped.writestr(info, bundle.read(name))
            new.replace(archive)
        return cls.open(archive)

    def read(self, name: str) -> bytes:
        """Give one file's bytes, checked against the manifest once more."""
        if name == MANIFEST:
            return _read(self._source, MANIFEST, MAX_JSON_BYTES)
        entry = self.manifest.file(name)
        data = _read(self._source, name, entry.bytes)
        if len(data) != entry.bytes:
            raise BundleRefused(
                "wrong-size", f"{self.path}: {name} has {len(data)} bytes; the manifest says {entry.bytes}"
            )
        found = sha256(data).hexdigest()
        if found != entry.sha256:
            raise BundleRefused(
                "wrong-hash",
                f"{self.path}: {name} is damaged: its sha256 is {found}, the manifest says {entry.sha256}; "
                "fetch or export the bundle again",
            )
        return data

    def variant(self, name: str) -> Variant:
        """Give the variant of that name, or NotFound that lists them."""
        return self.manifest.variant(name)

    @property
    def report(self) -> Mapping[str, object]:
        """What was measured when the bundle was made; empty if it has no report."""
        if REPORT not in {entry.path for entry in self.manifest.files}:
            return {}
        return cast("Mapping[str, object]", read_json(self.read(REPORT), REPORT))

    def _verify(self, sizes: Mapping[str, int]) -> None:
        listed = {entry.path: entry.bytes for entry in self.manifest.files}
        for name in listed:
            if name not in sizes:
                raise BundleRefused("missing-file", f"{self.path} lacks {name}, which its manifest lists")
        for name in sizes:
            if name != MANIFEST and name not in listed:
                raise BundleRefused(
                    "unlisted-file", f"{self.path} holds {name}, which its manifest does not list; remove it"
                )
        for name, size in listed.items():
            if sizes[name] != size:
                raise BundleRefused(
                    "wrong-size", f"{self.path}: {name} has {sizes[name]} bytes; the manifest says {size}"
                )
            _check_content(name, self.read(name))
        computed = fingerprint(self.manifest)
        if computed != self.manifest.fingerprint:
            raise BundleRefused(
                "fingerprint",
                f"{self.path} declares fingerprint {self.manifest.fingerprint!r}; its content gives {computed!r}",
            )


def _source(path: Path) -> _Source:
    if path.is_dir():
        return _Folder(path)
    if not path.exists():
        raise NotFound(f"no bundle at {path}: no such file or folder")
    if not zipfile.is_zipfile(path):
        raise BundleRefused("not-a-bundle", f"{path} is neither a folder nor a zip file")
    return _Zip(path)


@dataclass(frozen=True, slots=True)
class _Folder:
    root: Path

    def sizes(self) -> Mapping[str, int]:
        found = {}
        for folder, below, files in os.walk(self.root):
            for name in (*below, *files):
                entry = Path(folder) / name
                mode = entry.lstat().st_mode
                shown = entry.relative_to(self.root).as_posix()
                if stat.S_ISREG(mode):
                    found[shown] = entry.lstat().st_size
                elif not stat.S_ISDIR(mode):
                    raise BundleRefused(
                        "symlink", f"{self.root}: {shown} is a link or a device; a bundle holds plain files"
                    )
        return found

    def open(self, name: str) -> IO[bytes]:
        return (self.root / name).open("rb")


@dataclass(frozen=True, slots=True)
class _Zip:
    path: Path

    def sizes(self) -> Mapping[str, int]:
        found: dict[str, int] = {}
        with self._archive() as archive:
            for info in archive.infolist():
                self._check(info)
                if info.orig_filename in found:
                    raise BundleRefused("duplicate-path", f"{self.path} holds {info.filename} twice; zip it again")
                if not info.is_dir():
                    found[info.filename] = info.file_size
        return found

    def open(self, name: str) -> IO[bytes]:
        with self._archive() as archive:  # the entry keeps the file open until it is closed
            return archive.open(name)

    def _archive(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self.path)
        except zipfile.BadZipFile as error:
            raise BundleRefused("bad-zip", f"{self.path} is a damaged zip: {error}") from None

    def _check(self, info: zipfile.ZipInfo) -> None:
        if info.filename != info.orig_filename:  # zipfile has cut it at a NUL or turned a backslash
            raise BundleRefused("hostile-path", f"{self.path} holds {info.orig_filename!r}, no plain path")
        check_path(f"{info.filename}x.json" if info.is_dir() else info.filename)
        if stat.S_ISLNK(info.external_attr >> 16):
            raise BundleRefused("symlink", f"{self.path}: {info.filename} is a link; a bundle holds plain files")
        if info.file_size > MAX_FILE_BYTES:
            raise BundleRefused(
                "too-large", f"{self.path}: {info.filename} declares {info.file_size} bytes; the limit is {MAX_FILE_BYTES}"
            )
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise BundleRefused(
                "bad-zip", f"{self.path}: {info.filename} is encrypted or oddly compressed; store or deflate it"
            )


def _read(source: _Source, name: str, limit: int) -> bytes:
    """Read at most one byte more than `limit`: what a file claims of itself is not believed."""
    try:
        with source.open(name) as file:
            return file.read(limit + 1)
    except (zipfile.BadZipFile, EOFError, OSError, ValueError) as error:
        raise BundleRefused("bad-zip", f"{name} cannot be read: {error}") from error


def _check_content(name: str, data: bytes) -> None:
    """Look inside the kinds of file that could carry more than data."""
    if name.endswith(".onnx"):
        check_onnx(data, name)
    elif name.endswith(".npz"):
        _check_arrays(data, name)
    elif name.endswith(".json"):
        read_json(data, name)


def _check_arrays(data: bytes, name: str) -> None:
    """Refuse an npz whose members are anything but plain arrays; only their headers are read."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for info in archive.infolist():
                with archive.open(info) as member:
                    version = np.lib.format.read_magic(member)
                    header = {
                        (1, 0): np.lib.format.read_array_header_1_0,
                        (2, 0): np.lib.format.read_array_header_2_0,
                    }[version](member)
                    size = member.tell() + int(np.prod(header[0], dtype=object)) * header[2].itemsize
                if header[2].hasobject:
                    raise BundleRefused("bad-arrays", f"{name}: {info.filename} holds pickled objects; save plain arrays")
                if size != info.file_size or size > MAX_FILE_BYTES:
                    raise BundleRefused("bad-arrays", f"{name}: {info.filename} has {info.file_size} bytes; its header says {size}")
    except (zipfile.BadZipFile, EOFError, KeyError, NotImplementedError, RuntimeError) as error:
        raise BundleRefused("bad-arrays", f"{name} is not an npz of plain arrays: {error}") from None
    except ValueError as error:
        if isinstance(error, BundleRefused):
            raise
        raise BundleRefused("bad-arrays", f"{name} is not an npz of plain arrays: {error}") from None


def _copy(content: bytes | Path, root: Path, name: str) -> FileEntry:
    target = root / name
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        target.write_bytes(content)
    else:
        shutil.copyfile(content, target)
    data = target.read_bytes()
    return FileEntry(path=name, sha256=sha256(data).hexdigest(), bytes=len(data))


def _sealed(manifest: Manifest, entries: tuple[FileEntry, ...]) -> Manifest:
    """Fill in what follows from the content."""
    listed = replace(manifest, files=entries)
    try:
        return replace(listed, fingerprint=fingerprint(listed))
    except NotFound as error:
        raise InvalidInput(f"the manifest names a file that was not given: {error}") from error
