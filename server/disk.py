"""Disk: names that cannot leave their folder, and files that are whole or absent.

A file written here survives the process (SIGKILL at any moment leaves the old one or the new one),
and a power loss as far as the disk keeps what fsync says it kept.

The folders are the operator's too: a file manager, a backup or a bad disk may leave anything in
them. What is read is a regular file of a bounded size; what is swept has a name of ours; what else
lies there stays. A caller gets a message without a path, and the log has the path.
"""

import errno
import logging
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from attar.errors import AttarError, DiskFull, InvalidInput, Unavailable

log = logging.getLogger("attar.server")

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# What a killed writer leaves: a folder being made or removed, or a file of `write_whole`.
_UNFINISHED: Final = re.compile(r"\.([0-9a-f]{32}|[a-z0-9_]{8}(\.part)?)")
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


def is_name(name: str) -> bool:
    """Whether a name is safe as a file's."""
    return _NAME.fullmatch(name) is not None


def check_name(what: str, name: str) -> str:
    """Give back a name that is safe as a file's: `what` is said in the message when it is not."""
    if not is_name(name):
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


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, durably."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_folder(path.parent)


def sync_tree(folder: Path) -> None:
    """Bring a folder, all that is in it, and its name to the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        else:
            sync_folder(path)
    sync_folder(folder)
    sync_folder(folder.parent)


def read_file(path: Path, *, limit: int) -> bytes:
    """Give what is in a file; raises OSError, or ValueError where it is no file of `limit` bytes.

    A pipe is not waited for, and a device or a file that somebody let grow is not read.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123 (by descriptor)
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is no file")
        if status.st_size > limit:
            raise ValueError(f"it has {status.st_size} bytes, and the limit is {limit}")
        return file.read(limit)


def remove(path: Path) -> None:
    """Remove what lies there: a file, a link, a folder and all that is in it, or nothing."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what killed writers left in a folder, as far as that can be removed."""
    with suppress(OSError):
        for path in folder.iterdir():
            if _UNFINISHED.fullmatch(path.name):
                with suppress(OSError):
                    remove(path)


def require_space(folder: Path, needed: int) -> None:
    """Raise `DiskFull` when the disk of a folder has less than `needed` bytes left."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskFull(
            f"the disk of data_dir has {free >> 20} MiB left, and {needed >> 20} MiB of it are kept"
            " free; delete collections or snapshots, or give it more room. Nothing was written"
        )


def refusal(error: OSError) -> AttarError:
    """The error for a caller when the disk fails: the system's message, and no path."""
    if error.errno in _FULL:
        return DiskFull("the disk of data_dir is full; delete something or give it more room")
    return Unavailable(
        f"the disk of data_dir cannot be used: {error.strerror or type(error).__name__}; the"
        " server's log says where"
    )


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Log what the disk refuses in the block, of `what`, and raise the error for a caller."""
    try:
        yield
    except OSError as error:
        log.error("%s: %s", what, error)
        raise refusal(error) from error


def what_is_wrong(error: BaseException) -> str:
    """Say why something could not be read, in words that hold no path."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, KeyError):
        return f"it lacks {error}"
    if isinstance(error, ValueError | RecursionError):  # our own words, or those of a parser
        return str(error)
    return "it cannot be opened"
