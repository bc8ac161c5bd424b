"""The index builder: work on a copy of a shard, or on a snapshot, in a process of its own.

    optimize SOURCE FOLDER TARGET    copy a shard, and build the copy's index
    pack SOURCE FOLDER TARGET        copy a shard and the description in FOLDER into a snapshot
    unpack SNAPSHOT TARGET           check a snapshot and unpack it

It says on its output, one JSON object a line, when the source may be
written again (`copied`), and how it ended (`done`, with what was made, or `error`).

A snapshot is a zip named by the SHA-256 of its bytes, so its name is its check. It holds the folder
that the collection had: `collection.json` and the shard.
"""

import asyncio
import ctypes
import hashlib
import json
import logging
import os
import re
import shutil
import signal
import sys
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import qdrant_edge as edge

from attar.errors import AttarError, BackendError, DiskFull, NotFound, Unavailable

from ..disk import make_folder, refusal, require_space, sync_folder, sync_tree
from .qdrant_edge import COLLECTION_FILE, RESERVE_BYTES

log = logging.getLogger("attar.server")

_CHUNK: Final = 2**20
_LOOK_BYTES: Final = 64 * 2**20  # between two looks at what the disk has left
_ID: Final = re.compile(r"[0-9a-f]{64}")
_NICE: Final = 5
_PDEATHSIG: Final = 1  # of linux/prctl.h
_ERRORS: Final = {kind.reason: kind for kind in (BackendError, DiskFull, Unavailable)}


def snapshot_path(folder: Path, snapshot: str) -> Path:
    """Where a snapshot lies; raises `NotFound` for one that is not there, whatever its name."""
    path = folder / f"{snapshot[:80]}.zip"
    if not is_snapshot(path):
        raise NotFound(f"snapshot {snapshot[:80]!r} is not there; list those of the collection")
    return path


def is_snapshot(path: Path) -> bool:
    """Whether a file is named as a snapshot is; other things may lie there."""
    return _ID.fullmatch(path.stem) is not None and path.suffix == ".zip" and path.is_file()


async def build(*arguments: str | Path, copied: Callable[[], None] | None = None) -> str:
    """Run a builder and give what it made; `copied` is called once the source is free again.

    The builder dies with the task that awaits this.
    """
    command = [sys.executable, "-P", "-m", __name__, str(os.getpid()), *map(str, arguments)]
    running = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
    )
    try:
        message: dict[str, Any] = {}
        while line := await _output(running).readline():
            message = json.loads(line)
            if "copied" in message and copied is not None:
                copied()
        code = await running.wait()
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()
    if "error" in message:
        log.error("%s: %s", arguments[0], message.get("detail", message["error"]))
        raise _ERRORS[message["reason"]](message["error"])
    if "done" not in message:
        raise Unavailable(
            f"{arguments[0]} died with status {code}: is memory or disk short? Retry when they are"
            " not"
        )
    return str(message["done"])


def _output(running: asyncio.subprocess.Process) -> asyncio.StreamReader:
    if running.stdout is None:
        raise BackendError("a builder without a pipe is a bug in attar")
    return running.stdout


def optimize(source: Path, _folder: Path, target: Path) -> None:
    """Copy a shard to `target` and build the copy's index."""
    _require_room(source, target.parent)
    copy_tree(source, target)
    _say(copied=True)
    os.nice(_NICE)  # what takes minutes, nobody waits for
    shard = edge.EdgeShard.load(str(target), None)
    shard.optimize()
    shard.close()
    sync_tree(target)
    _say(done=str(target))


def pack(source: Path, folder: Path, target: Path) -> None:
    """Keep a shard, and its collection's description in `folder`, in the parent of `target`.

    It is made in `target`, which the caller removes.
    """
    make_folder(target.parent)
    _require_room(source, target.parent)
    copy_tree(source, target / source.name)
    shutil.copy(folder / COLLECTION_FILE, target / COLLECTION_FILE)
    _say(copied=True)
    # A log is mostly holes, which level 1 makes nothing of; vectors do not compress.
    archive = target / "snapshot.zip"
    with zipfile.ZipFile(archive, "x", zipfile.ZIP_DEFLATED, compresslevel=1) as zipped:
        for path in sorted(target.rglob("*")):
            if path.is_file() and path != archive:
                zipped.write(path, path.relative_to(target))
    _sync(archive)
    snapshot = _digest(archive)
    archive.rename(target.parent / f"{snapshot}.zip")
    sync_folder(target.parent)
    _say(done=snapshot)


def check_snapshot(snapshot: Path) -> None:
    """Raise ValueError where a snapshot's bytes are not those of its name."""
    if (digest := _digest(snapshot)) != snapshot.stem:
        raise ValueError(f"its bytes hash to {digest}")


def unpack(snapshot: Path, target: Path) -> None:
    """Unpack a snapshot whose bytes are those of its name."""
    try:
        check_snapshot(snapshot)
    except ValueError as error:
        raise Unavailable(
            f"snapshot {snapshot.stem} is damaged: {error}; restore another one"
        ) from error
    make_folder(target)
    try:
        _unpack(snapshot, target)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise Unavailable(
            f"snapshot {snapshot.stem} has one name twice, as a file and as a folder; restore"
            " another one"
        ) from error
    sync_tree(target)
    _say(done=str(target))


def _unpack(snapshot: Path, target: Path) -> None:
    written = 0
    with zipfile.ZipFile(snapshot) as zipped:
        for member in zipped.infolist():
            path = target / member.filename
            if ".." in path.parts or not path.is_relative_to(target):
                raise Unavailable(f"snapshot {snapshot.stem} names {member.filename!r}, a path")
            path.parent.mkdir(parents=True, exist_ok=True)
            with zipped.open(member) as packed, path.open("xb") as unpacked:
                while chunk := packed.read(_CHUNK):
                    # What was a hole becomes one again.
                    if chunk.count(0) == len(chunk):
                        unpacked.seek(len(chunk), os.SEEK_CUR)
                    else:
                        if written % _LOOK_BYTES < _CHUNK:  # a small zip may hold much
                            require_space(target, RESERVE_BYTES)
                        written += unpacked.write(chunk)
                unpacked.truncate(member.file_size)


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder of files, leaving holes holes: a new shard's log is 64 MiB of them."""
    target.mkdir(parents=True)
    for path in sorted(source.rglob("*")):  # a folder comes before what is in it
        there = target / path.relative_to(source)
        if path.is_dir():
            there.mkdir()
        else:
            _copy(path, there)


def _require_room(source: Path, target: Path) -> None:
    """Raise `DiskFull` unless a copy, and an index as large again, leave the reserve free."""
    size = sum(512 * path.stat().st_blocks for path in source.rglob("*"))
    require_space(target, RESERVE_BYTES + 2 * size)


def _copy(source: Path, target: Path) -> None:
    with source.open("rb", buffering=0) as points, target.open("xb", buffering=0) as copy:
        size, offset = os.fstat(points.fileno()).st_size, 0
        copy.truncate(size)
        while offset < size:
            try:
                offset = os.lseek(points.fileno(), offset, os.SEEK_DATA)
            except OSError:  # nothing but a hole is left
                break
            end = os.lseek(points.fileno(), offset, os.SEEK_HOLE)
            while offset < end:
                data = os.pread(points.fileno(), min(_CHUNK, end - offset), offset)
                offset += os.pwrite(copy.fileno(), data, offset)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _say(**what: object) -> None:
    print(json.dumps(what), flush=True)  # noqa: T201 (the protocol)


_COMMANDS: Final[Mapping[str, Callable[..., None]]] = {
    "optimize": optimize,
    "pack": pack,
    "unpack": unpack,
}


def _die_with(parent: int) -> None:
    """Have the kernel end this process with its parent, even where that is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was killed before
        sys.exit(1)


def main(parent: str, command: str, *arguments: str) -> None:
    """Do what the arguments say, and say how it ended."""
    _die_with(int(parent))
    try:
        _COMMANDS[command](*map(Path, arguments))
    except AttarError as error:
        _say(error=str(error), reason=error.reason)
    except OSError as error:
        refused = refusal(error)
        _say(error=str(refused), reason=refused.reason, detail=f"{error}")
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        refused = Unavailable("the snapshot is damaged: its zip cannot be read; restore another")
        _say(error=str(refused), reason=refused.reason, detail=f"{arguments}: {error!r}")
    except Exception as error:
        _say(error=f"{command} failed: {error!r}", reason=BackendError.reason)


if __name__ == "__main__":
    main(*sys.argv[1:])
