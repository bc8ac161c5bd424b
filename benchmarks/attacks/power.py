"""Power: what the disk has of a server's data folder if the power is lost now.

A server that runs with `recorded(disk)` as its environment has what Python syncs copied to `disk`,
as it was when the sync began: files by their content, folders by the names in them. `lose` makes
the data folder of that alone. What is synced by the engine itself is not in it, so it has less than
a real disk would.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_RECORDER: Final = """\
import fcntl, json, os, stat, struct, threading
real, disk = os.fsync, os.environ["ATTACKED_DISK"]

def sparse_copy(source, target, size):
    os.truncate(target, size)
    place = 0
    while place < size:
        try:
            place = os.lseek(source, place, os.SEEK_DATA)
        except OSError:
            return
        end = os.lseek(source, place, os.SEEK_HOLE)
        place += os.pwrite(target, os.pread(source, end - place, place), place)

def identity(path):
    # With its generation: another file gets the number of one that is removed.
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        (generation,) = struct.unpack("I", fcntl.ioctl(opened, 0x80087601, bytes(8))[:4])
    except OSError:  # such a file system counts on
        generation = 0
    finally:
        number = os.fstat(opened).st_ino
        os.close(opened)
    return f"{number}-{generation}"

def identities(folder):
    for entry in os.scandir(folder):
        try:
            yield entry.name, identity(f"/proc/self/fd/{folder}/{entry.name}")
        except OSError:  # gone meanwhile, or a socket
            pass

def fsync(descriptor):
    status = os.fstat(descriptor)
    source = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY)
    folder = stat.S_ISDIR(status.st_mode)
    name = f"{disk}/{identity(f'/proc/self/fd/{descriptor}')}{'.names' if folder else ''}"
    making = f"{name}.{os.getpid()}.{threading.get_ident()}"
    with open(making, "wb") as target:
        if folder:
            target.write(json.dumps(dict(identities(source))).encode())
        else:
            sparse_copy(source, target.fileno(), status.st_size)
    os.close(source)
    real(descriptor)
    os.replace(making, name)

os.fsync = fsync
"""


def recorded(disk: Path) -> Mapping[str, str]:
    """Give the environment of a server whose syncs are to be copied to `disk`."""
    patched = disk.with_name(f"{disk.name}-patched")
    disk.mkdir()
    patched.mkdir()
    (patched / "sitecustomize.py").write_text(_RECORDER, "utf-8")
    return {"PYTHONPATH": str(patched), "ATTACKED_DISK": str(disk)}


def lose(disk: Path, data: Path, target: Path) -> Path:
    """Make `target` what the disk has of the folder `data`."""
    (top,) = disk.glob(f"{data.stat().st_ino}-*.names")
    _restore(disk, top.stem, target)
    return target


def _restore(disk: Path, identity: str, target: Path) -> None:
    target.mkdir(parents=True)
    names = json.loads((disk / f"{identity}.names").read_bytes())
    for name, of in names.items():
        if (disk / f"{of}.names").exists():
            _restore(disk, of, target / name)
        elif (disk / of).exists():  # otherwise its name was synced, and nothing of it
            shutil.copyfile(disk / of, target / name)
