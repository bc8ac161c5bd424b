"""Digests: SHA-256 of what a run was given, by which it is known again wherever it lies."""

import os
from collections.abc import Iterable, Iterator
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Final

SHA256: Final = "sha256"  # how a lineage calls a digest


def of_texts(texts: Iterable[str]) -> str:
    """Give the digest of texts in their order."""
    digest = sha256()
    for text in texts:
        content = text.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()


def of_path(path: Path, *, without: Path | None = None) -> str:
    """Give the digest of a file's bytes, or of every file in a folder: its name and its bytes.

    Nothing is sampled: this is a pass over all bytes. Links are followed. Hidden files and folders,
    and a folder `without`, such as that of a run inside its own data, are left out.
    """
    if path.is_file():
        with path.open("rb") as file:
            return file_digest(file, "sha256").hexdigest()
    parts: list[str] = []
    for file_path in sorted(_files(path, without)):
        parts += [file_path.relative_to(path).as_posix(), of_path(file_path)]
    return of_texts(parts)


def _files(folder: Path, without: Path | None) -> Iterator[Path]:
    """Give the files of a folder and those inside it, each folder once, however it is linked."""
    left_out = {without.resolve()} if without is not None else set()
    seen: set[Path] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        here = Path(parent).resolve()
        if here in seen or here in left_out:
            folders.clear()
            continue
        seen.add(here)
        # Sorted: which of two links to one folder is followed must not depend on the disk.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = (Path(parent) / name for name in files if not name.startswith("."))
        yield from (path for path in paths if path.is_file())
