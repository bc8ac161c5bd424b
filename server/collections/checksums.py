"""Checksums: whether a shard's files are as they were when they were last written.

The engine has none, and a bit that a disk turns gives other vectors or payloads without a word. So
once a collection rests or is closed, the CRC-32 of each file of its shard is written to
`checksums.json` in the same folder, and compared when it is opened. A write, and the opening, which
may change files, removes that file before anything else: a shard that was written to when its
process was killed has none, and is opened as it is. Zeros count as the holes that they may be, so a
copy without holes has the same sums.
"""

import json
import os
import zlib
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Final, TypeVar

from ..disk import read_file, sync_folder, sync_tree, write_whole

R = TypeVar("R")

SUMS_FILE: Final = "checksums.json"
_SUMS_BYTES: Final = 16 * 2**20
_BLOCK: Final = 2**20


def crc32(path: Path) -> Generator[None, None, int]:
    """Give the CRC-32 of a file's size and of its blocks that are not all zeros, block by block."""
    with path.open("rb", buffering=0) as file:
        descriptor = file.fileno()
        size = os.fstat(descriptor).st_size
        checksum, offset = zlib.crc32(str(size).encode()), 0
        while offset < size:
            try:
                offset = os.lseek(descriptor, offset, os.SEEK_DATA) // _BLOCK * _BLOCK
            except OSError:  # nothing but a hole is left
                break
            block = os.pread(descriptor, _BLOCK, offset)
            if block.lstrip(b"\0"):
                checksum = zlib.crc32(block, zlib.crc32(str(offset).encode(), checksum))
            offset += _BLOCK
            yield
    return checksum


def of_facts(facts: object) -> int:
    """Give the CRC-32 of what a JSON file says."""
    return zlib.crc32(json.dumps(facts, sort_keys=True).encode())


def take_sums(shard: Path) -> Generator[None, None, dict[str, int]]:
    """Give the CRC-32 of each file of a shard, by name; yields often, for it may take seconds."""
    files = {}
    for path in sorted(shard.rglob("*")):
        if path.is_file():
            files[str(path.relative_to(shard))] = yield from crc32(path)
    return files


def finish(taking: Generator[None, None, R], *, unless: Callable[[], bool]) -> R | None:
    """Run to the end and give what that gave, or None once `unless` holds; call again to go on."""
    while not unless():
        try:
            next(taking)
        except StopIteration as ended:
            result: R = ended.value
            return result
    return None


def write_sums(shard: Path, files: dict[str, int]) -> None:
    """Keep the sums of a shard that nobody writes to; durable, once its files are."""
    sync_tree(shard)
    facts = {"shard": shard.name, "files": files, "crc32": of_facts([shard.name, files])}
    write_whole(shard.with_name(SUMS_FILE), json.dumps(facts).encode())


def read_sums(shard: Path) -> dict[str, int] | None:
    """Give the sums of a shard's files, if it has any; raises ValueError where they are damaged."""
    path = shard.with_name(SUMS_FILE)
    try:
        facts = json.loads(read_file(path, limit=_SUMS_BYTES))
        name, files = facts["shard"], facts["files"]
        if facts["crc32"] != of_facts([name, files]):
            raise ValueError("their own sum is another")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"{SUMS_FILE} is not as it was written") from error
    return dict(files) if name == shard.name else None


def check_sums(shard: Path) -> None:
    """Raise ValueError where a shard's files are not those that its sums are of, if it has any.

    Sums that are damaged themselves, or of another shard, say nothing.
    """
    try:
        files = read_sums(shard)
    except ValueError:
        return
    if files is not None:
        compare_sums(shard, files)


def compare_sums(shard: Path, files: dict[str, int]) -> None:
    """Raise ValueError where a shard's files are not those that these sums are of."""
    path = shard.with_name(SUMS_FILE)
    there = finish(take_sums(shard), unless=lambda: False) or {}
    bad = [name for name, checksum in files.items() if there.get(name) != checksum]
    if bad:
        error = ValueError(f"{len(bad)} of its {len(files)} files are not as they were written")
        error.add_note(f"{', '.join(bad[:10])}; without {path} it is opened as it is")
        raise error


def forget_sums(shard: Path) -> None:
    """Remove the sums of a shard that is about to change; durable."""
    path = shard.with_name(SUMS_FILE)
    if path.exists():
        path.unlink()
        sync_folder(path.parent)
