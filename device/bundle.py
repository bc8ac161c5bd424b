"""A bundle is a folder, or the same zipped, that is believed only after every byte was checked.

Nothing in it runs but ONNX graphs of standard operators: no pickle, no code, no path that leaves.
docs/bundle.md is the format on one page, with everything that is refused.
"""

import io
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from dataclasses import replace as changed
from hashlib import sha256
from pathlib import Path
from typing import IO, Protocol, Self, cast

import numpy as np

from . import archive
from .errors import AlreadyExists, BundleRefused, InvalidInput, NotFound
from .manifest import (
    MAX_FILE_BYTES,
    MAX_MANIFEST_BYTES,
    FileEntry,
    Manifest,
    Variant,
    check_path,
    fingerprint,
    parse,
    read_json,
    serialise,
)
from .onnx_scan.check import check_onnx
from .signature import MAX_SIGNATURE_BYTES, SIGNATURE, check, parse_signature, signed

MANIFEST = "manifest.json"
REPORT = "report.json"
HEADS = "heads/"

MAX_FILES = 1000
"""A bundle has some ten files; a list of a million is an attack on its reader."""

MAX_BUNDLE_BYTES = 8 * 2**30
"""All files together, uncompressed: what a reader may be made to hash."""

MAX_TEXT_BYTES = 64 * 2**20
"""Of one file that is neither a graph nor arrays: the largest tokenizers have some 40 MB."""

_MOST_ENTRIES = 4 * MAX_FILES  # files and folders, of which a folder is read no further
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can say: equal content gives equal bytes


class _Source(Protocol):
    """Where a bundle's bytes lie."""

    def sizes(self) -> Mapping[str, int]:
        """Give every file's path and claimed size, having refused whatever is not a plain file."""

    def read(self, name: str, limit: int) -> bytes:
        """Read at most one byte more than `limit`: what a file claims of itself is not believed."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened and verified bundle."""

    path: Path
    manifest: Manifest
    content: str
    """SHA-256 of the manifest's bytes, and so of everything: it has the hashes of the others."""
    _source: _Source = field(repr=False, compare=False)
    _signature: bytes | None = field(default=None, repr=False, compare=False)
    require_signature: Path | None = field(default=None, repr=False, compare=False)
    """The keys, one of which signed it; None where that was not asked."""

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        content: str | None = None,
        require_signature: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Verify a bundle folder or zip and give it; only that of `content`, where it is given.

        With `require_signature`, a PEM file of public keys, one of those must have signed it.

        Raises InvalidInput for what is no path or holds no keys, NotFound where nothing stands at
        either path, MissingExtra, and BundleRefused that says what is wrong.

        Example:
            >>> Bundle.open("student.attar").manifest.name
            'student'
        """
        given: object = path
        if not isinstance(given, str | os.PathLike) or not str(given):
            raise InvalidInput(f"a bundle's path is text or a Path; got {path!r:.80}")
        path = Path(path)
        keys = None if require_signature is None else Path(require_signature).absolute()
        return cls._verified(path, _source(path), content=content, require_signature=keys)

    @classmethod
    def write(
        cls,
        path: str | os.PathLike[str],
        manifest: Manifest,
        files: Mapping[str, bytes | Path],
        *,
        replace: bool = False,
    ) -> Self:
        """Write a bundle folder, whole or not at all, and give it opened.

        `manifest` describes the encoder and `files` maps each path in the bundle to its bytes, or
        to a file to copy. Hashes, sizes and the fingerprint are computed; the same content gives
        the same bytes. Whatever `open` would refuse is refused before it is written. A bundle that
        stands at `path` is replaced if `replace` says so, and anything else there never:
        AlreadyExists.
        """
        path = Path(path)
        if path.exists() or path.is_symlink():
            if not replace:
                raise AlreadyExists(f"{path} exists; choose another path, or pass replace=True")
            if path.is_symlink() or not (path / MANIFEST).is_file():
                raise AlreadyExists(f"{path} is not a bundle folder, so it is not replaced")
        for name in files:
            check_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
            new = Path(scratch) / "new"
            entries = tuple(_copy(files[name], new, name) for name in sorted(files))
            manifest = _sealed(manifest, entries)
            (new / MANIFEST).write_bytes(serialise(manifest))
            bundle = cls._verified(path, _Folder(new))
            if path.exists():
                path.rename(Path(scratch) / "old")
            new.rename(path)
        return cls(path, bundle.manifest, bundle.content, _Folder(path))

    @classmethod
    def pack(
        cls,
        folder: str | os.PathLike[str],
        archive: str | os.PathLike[str],
        *,
        replace: bool = False,
    ) -> Self:
        """Zip the bundle in `folder` to `archive`, whole or not at all, and give the zip opened.

        Entries are stored, sorted and undated: the same bundle gives the same bytes everywhere.
        Raises AlreadyExists where something stands there; with `replace`, where it is no file.
        """
        bundle, target = cls.open(folder), Path(archive)
        if target.exists() and not (replace and target.is_file()):
            raise AlreadyExists(f"{target} exists; choose another path, or replace a file")
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
            new = Path(scratch) / "new"
            bundle._zip(new, bundle._signature)  # noqa: SLF001 (our own)
            new.replace(target)
        return changed(bundle, path=target, _source=_Zip(target))

    def sign(self, key: Path) -> Self:
        """Sign the bundle, folder or zip, by the private key in a PEM file, and give it opened.

        The signature stands in signature.json, in the place of one that is there; nothing else
        changes. Raises what `attar.signature.signed` does.
        """
        manifest = self.read(MANIFEST)
        if sha256(manifest).hexdigest() != self.content:
            raise BundleRefused(
                "wrong-hash", f"{self.path}: {MANIFEST} was changed meanwhile; open it again"
            )
        signature = signed(manifest, key)
        path = self.path.resolve()
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
            new = Path(scratch) / "new"
            if isinstance(self._source, _Folder):
                new.write_bytes(signature)
                new.replace(path / SIGNATURE)
            else:
                self._zip(new, signature)
                new.replace(path)
        return changed(self, _signature=signature)

    def _zip(self, path: Path, signature: bytes | None) -> None:
        """Write everything to a new zip."""
        names = [MANIFEST, *(entry.path for entry in self.manifest.files)]
        signatures = {} if signature is None else {SIGNATURE: signature}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as zipped:
            for name in sorted([*names, *signatures]):
                info = zipfile.ZipInfo(name, _ZIP_EPOCH)
                info.create_system = 3  # Unix, wherever it runs: the mode below is Unix's
                info.external_attr = (stat.S_IFREG | 0o644) << 16
                zipped.writestr(info, signatures.get(name) or self.read(name))

    def read(self, name: str) -> bytes:
        """Give the bytes of the file `name`, checked against the manifest once more.

        Raises NotFound for one that it does not list, BundleRefused for a damaged one.
        """
        if name == MANIFEST:
            return self._source.read(MANIFEST, MAX_MANIFEST_BYTES)
        entry = self.manifest.file(name)
        data = self._source.read(name, entry.bytes)
        self._check_size(name, len(data))
        digest = sha256(data).hexdigest()
        if digest != entry.sha256:
            raise BundleRefused(
                "wrong-hash",
                f"{self.path}: {name} is damaged: its sha256 is {digest} "
                f"and the manifest says {entry.sha256}; fetch or export the bundle again",
            )
        return data

    @property
    def signed_by(self) -> str | None:
        """The public key that signature.json names, 64 hex digits; believe it of checked ones.

        None for an unsigned bundle; raises BundleRefused for a signature that is none.
        """
        return None if self._signature is None else parse_signature(self._signature)[0].hex()

    def variant(self, name: str) -> Variant:
        """Give the variant of that name, or NotFound that lists them."""
        return self.manifest.variant(name)

    @property
    def head_files(self) -> tuple[FileEntry, ...]:
        """The files that may be heads: arrays in heads/."""
        return tuple(
            entry
            for entry in self.manifest.files
            if entry.path.startswith(HEADS) and entry.path.endswith(".npz")
        )

    @property
    def report(self) -> Mapping[str, object]:
        """What was measured when the bundle was made; empty if it has no report."""
        if REPORT not in {entry.path for entry in self.manifest.files}:
            return {}
        return _report(self.read(REPORT))

    @classmethod
    def _verified(
        cls,
        path: Path,
        source: _Source,
        *,
        content: str | None = None,
        require_signature: Path | None = None,
    ) -> Self:
        """Check everything in `source`, which stands at `path` or will."""
        sizes = source.sizes()
        if len(sizes) > MAX_FILES:
            raise BundleRefused("too-large", f"{path} has {len(sizes)} files; limit {MAX_FILES}")
        if (total := sum(sizes.values())) > MAX_BUNDLE_BYTES:
            raise BundleRefused("too-large", f"{path} has {total} bytes; limit {MAX_BUNDLE_BYTES}")
        if MANIFEST not in sizes:
            raise BundleRefused("missing-file", f"{path} has no {MANIFEST} at its top")
        manifest = source.read(MANIFEST, MAX_MANIFEST_BYTES)
        digest = sha256(manifest).hexdigest()
        if content not in (None, digest):
            raise BundleRefused(
                "wrong-hash",
                f"{path}: {MANIFEST} has sha256 {digest}, where {content} was expected: it was "
                "changed meanwhile; load it again",
            )
        signature = None
        if SIGNATURE in sizes:
            signature = source.read(SIGNATURE, MAX_SIGNATURE_BYTES)
        if require_signature is not None:  # before anything else that the bundle says is believed
            check(manifest, signature, require_signature, str(path))
        bundle = cls(path, parse(manifest), digest, source, signature, require_signature)
        bundle._verify_files(sizes)
        computed = fingerprint(bundle.manifest)
        if computed != bundle.manifest.fingerprint:
            raise BundleRefused(
                "fingerprint",
                f"{path} declares fingerprint {bundle.manifest.fingerprint!r} "
                f"and its content gives {computed!r}; let Bundle.write compute it",
            )
        return bundle

    def _verify_files(self, sizes: Mapping[str, int]) -> None:
        listed = {entry.path for entry in self.manifest.files}
        for name in sorted(listed - sizes.keys()):
            raise BundleRefused(
                "missing-file", f"{self.path} lacks {name}, which its manifest lists"
            )
        for name in sorted(sizes.keys() - listed - {MANIFEST, SIGNATURE}):
            raise BundleRefused(
                "unlisted-file",
                f"{self.path} holds {name}, which its manifest does not list; remove it",
            )
        for name in sorted(listed):
            self._check_size(name, sizes[name])  # before reading: a claim too large is not read
            _check_kind_size(name, sizes[name])
            _check_content(name, self.read(name))

    def _check_size(self, name: str, size: int) -> None:
        declared = self.manifest.file(name).bytes
        if size != declared:
            raise BundleRefused(
                "wrong-size",
                f"{self.path}: {name} has {size} bytes and the manifest says {declared}; "
                "fetch or export the bundle again",
            )


def _source(path: Path) -> _Source:
    try:
        is_folder, is_there = path.is_dir(), path.exists()
    except OSError as error:
        raise NotFound(f"no bundle at {str(path)[:80]}: {error.strerror}") from None
    # Read again later, as after a fork: by then the process may work in another folder.
    if is_folder:
        return _Folder(path.absolute())
    if not is_there:
        raise NotFound(f"no bundle at {path}: no such file or folder")
    try:
        with archive.open_plain(path) as file:
            is_zip = zipfile.is_zipfile(file)
    except OSError as error:
        raise BundleRefused("not-a-bundle", f"{path} cannot be read: {error.strerror}") from None
    if not is_zip:
        raise BundleRefused("not-a-bundle", f"{path} is neither a folder nor a zip file")
    return _Zip(path.absolute())


@dataclass(frozen=True, slots=True)
class _Folder:
    root: Path

    def sizes(self) -> Mapping[str, int]:
        sizes = {}
        for count, entry in enumerate(self._entries()):
            status = entry.stat(follow_symlinks=False)
            shown = Path(entry.path).relative_to(self.root).as_posix()
            if count >= _MOST_ENTRIES:
                raise BundleRefused(
                    "too-large", f"{self.root} has more than {count} files; limit {MAX_FILES}"
                )
            if stat.S_ISREG(status.st_mode):
                sizes[shown] = status.st_size
            elif not stat.S_ISDIR(status.st_mode):
                raise BundleRefused(
                    "symlink", f"{self.root}: {shown} is a link or a device, no plain file"
                )
        return sizes

    def _entries(self) -> Iterator[os.DirEntry[str]]:
        """Give what lies in the folder and below, one by one: it may be a million."""
        todo = [os.fspath(self.root)]
        try:
            while todo:
                with os.scandir(todo.pop()) as entries:
                    for entry in entries:
                        yield entry
                        if entry.is_dir(follow_symlinks=False):
                            todo.append(entry.path)
        except OSError as error:
            raise BundleRefused(
                "missing-file", f"{self.root} cannot be read: {error.strerror}; put it back"
            ) from None

    def read(self, name: str, limit: int) -> bytes:
        try:
            with archive.open_plain(self.root / name, links=False) as file:
                return file.read(limit + 1)
        except OSError as error:
            raise BundleRefused(
                "missing-file",
                f"{self.root}: {name} cannot be read: {error.strerror}; put the bundle back",
            ) from None


@dataclass(frozen=True, slots=True)
class _Zip:
    path: Path

    def sizes(self) -> Mapping[str, int]:
        sizes: dict[str, int] = {}
        try:
            with archive.open_plain(self.path) as file:
                entries = archive.opened(file, max_entries=_MOST_ENTRIES).infolist()
        except archive.DAMAGES as error:
            raise BundleRefused("bad-zip", f"{self.path} is a damaged zip: {error}") from None
        for entry in entries:
            self._check(entry)
            if entry.filename in sizes:
                raise BundleRefused(
                    "duplicate-path", f"{self.path} holds {entry.filename} twice; zip it again"
                )
            if not entry.is_dir():
                sizes[entry.filename] = entry.file_size
        return sizes

    def read(self, name: str, limit: int) -> bytes:
        try:
            with archive.open_plain(self.path) as file:
                zipped = archive.opened(file, max_entries=_MOST_ENTRIES)
                return archive.read(zipped, zipped.getinfo(name), limit + 1)
        except FileNotFoundError:
            raise BundleRefused("missing-file", f"{self.path} is gone; put it back") from None
        except KeyError:
            raise BundleRefused("missing-file", f"{self.path} lacks {name} by now") from None
        except archive.DAMAGES as error:
            raise BundleRefused("bad-zip", f"{self.path}: {name} is damaged: {error}") from None

    def _check(self, entry: zipfile.ZipInfo) -> None:
        # zipfile cuts a name at a NUL and, on Windows, turns backslashes.
        if entry.filename != entry.orig_filename:
            raise BundleRefused("hostile-path", f"{self.path} holds {entry.orig_filename!r}")
        check_path(entry.filename.removesuffix("/"))
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise BundleRefused("symlink", f"{self.path}: {entry.filename} is a link")
        if entry.file_size > MAX_FILE_BYTES:
            raise BundleRefused(
                "too-large",
                f"{self.path}: {entry.filename} declares {entry.file_size} bytes; "
                f"limit {MAX_FILE_BYTES}",
            )
        try:
            archive.check_method(entry)
        except ValueError as error:
            raise BundleRefused("bad-zip", f"{self.path}: {error}") from None


def _check_kind_size(name: str, size: int) -> None:
    """Refuse a text that is larger than a program would read in one piece."""
    limit = MAX_TEXT_BYTES
    if name.endswith((".onnx", ".npz")):
        return
    if name == REPORT:
        limit = MAX_MANIFEST_BYTES
    if size > limit:
        raise BundleRefused("too-large", f"{name} has {size} bytes; limit {limit}")


def _check_content(name: str, data: bytes) -> None:
    """Look inside the kinds of file that could carry more than data."""
    if name.endswith(".onnx"):
        check_onnx(data, name)
    elif name.endswith(".npz"):
        _check_arrays(data, name)
    elif name == REPORT:
        _report(data)


def _report(data: bytes) -> Mapping[str, object]:
    report = read_json(data, REPORT)
    if not isinstance(report, dict):
        raise BundleRefused("bad-json", f"{REPORT} must be an object; got {type(report).__name__}")
    return cast("Mapping[str, object]", report)


def _check_arrays(data: bytes, name: str) -> None:
    """Refuse an npz whose members are anything but plain arrays; only their headers are read."""
    try:
        with archive.opened(io.BytesIO(data), max_entries=MAX_FILES) as zipped:
            members = zipped.infolist()
            if (total := sum(member.file_size for member in members)) > MAX_FILE_BYTES:
                raise BundleRefused(
                    "too-large", f"{name} unpacks to {total} bytes; limit {MAX_FILE_BYTES}"
                )
            if len(set(zipped.namelist())) < len(members):
                raise ValueError("it holds an array twice")
            for member in members:
                with archive.open_entry(zipped, member) as file:
                    size = _npy_size(file)
                if size != member.file_size:
                    raise ValueError(f"{member.filename} holds objects or is cut")
    except BundleRefused:
        raise
    except Exception as error:  # noqa: BLE001 (zipfile and numpy raise many kinds on spoiled bytes)
        raise BundleRefused(
            "bad-arrays", f"{name} is not an npz of plain arrays: {error}; use numpy.savez"
        ) from None


def _npy_size(file: IO[bytes]) -> int:
    """Give how many bytes an .npy file must have by its header; -1 for one of pickled objects."""
    if np.lib.format.read_magic(file) == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    else:
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    count = int(np.prod(shape, dtype=object))
    if count and not dtype.itemsize:
        raise ValueError(f"it holds {count} items of no bytes")
    return -1 if dtype.hasobject else file.tell() + count * dtype.itemsize


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
    listed = changed(manifest, files=entries)
    try:
        return changed(listed, fingerprint=fingerprint(listed))
    except NotFound as error:
        raise InvalidInput(f"the manifest does not fit the files given: {error}") from error
