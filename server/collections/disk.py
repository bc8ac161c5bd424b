"""Disk: names that cannot leave their folder, and files that are whole or absent.

A file written here survives the process (SIGKILL at any moment leaves the old one or the new one),
and a power loss as far as the disk keeps what fsync says it kept.
"""

import os
import re
import tempfile
from pathlib import Path
from typing import Final

from attar.errors import InvalidInput

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def check_name(what: str, name: str) -> str:
    """Give back a name that is safe as a file's: `what` is said in the message when it is not."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"a {what}'s name has 1 to 64 letters, digits, dots, dashes or underscores and begins"
            f" with a letter or a digit; got {name[:80]!r}"
        )
    return name


def write_whole(path: Path, data: bytes) -> None:
    """Put `data` at `path`, all of it or nothing, durably."""
    descriptor, temporary = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: what was created, renamed or removed there."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
