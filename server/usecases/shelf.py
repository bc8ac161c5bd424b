"""A shelf: heads on disk, one file a name, each there whole or not at all, read once."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar

from attar.errors import AlreadyExists, NotFound, Overloaded, Unavailable
from attar.server.collections.disk import (
    check_name,
    disk_errors,
    is_name,
    make_folder,
    read_file,
    remove,
    require_space,
    sweep,
    sync_folder,
    what_is_wrong,
    write_whole,
)

log = logging.getLogger("attar.server")

_HEAD_BYTES: Final = 2**32


class Head(Protocol):
    """What can be kept: it writes itself."""

    def to_bytes(self) -> bytes:
        """Give the file's content."""


H = TypeVar("H", bound=Head)


class Shelf(Generic[H]):
    """Heads of one kind under one folder; `kind` is said in messages."""

    def __init__(
        self,
        folder: Path,
        kind: str,
        read: Callable[[bytes], H],
        *,
        max_heads: int = 100,
        reserve_bytes: int = 0,
    ) -> None:
        """Read every head, which blocks; `damaged` says which could not be read and why.

        No more than `max_heads` are put there, and they leave `reserve_bytes` of the disk free.
        """
        self._folder = folder
        self._kind = kind
        self._max_heads = max_heads
        self._reserve = reserve_bytes
        self._heads: dict[str, H] = {}
        self._writing = asyncio.Lock()
        self.damaged: dict[str, str] = {}
        try:
            make_folder(folder)
            sweep(folder)
        except OSError as error:  # the server lives without, and each call says why
            log.error("%ss: %s", kind, error)  # noqa: TRY400 (no bug, so no trace)
        for path in sorted(folder.glob("*.npz")):
            if is_name(path.stem):  # what cannot be a head's name is not ours
                self._read(path, read)

    def refuse_taken(self, name: str) -> None:
        """Raise when a head cannot be put under that name.

        `InvalidInput` for what is no name, `AlreadyExists`, or `Overloaded` for one head too many.
        """
        check_name(self._kind, name)
        if name in self._heads or name in self.damaged:
            raise AlreadyExists(f"{self._kind} {name} exists; choose another name or delete it")
        if (there := len(self._heads) + len(self.damaged)) >= self._max_heads:
            raise Overloaded(
                f"{there} {self._kind}s are there, the limit; delete one, or raise max_heads"
            )

    async def put(self, name: str, head: H) -> None:
        """Keep a new head; it survives a restart when this returns."""
        async with self._writing:
            self.refuse_taken(name)
            await asyncio.to_thread(self._write, name, head)
            self._heads[name] = head

    def get(self, name: str) -> H:
        """Give the head of that name; raises `NotFound`, or `Unavailable` for a damaged one."""
        if name in self.damaged:
            raise Unavailable(f"{self.damaged[name]}; delete it and fit it again")
        try:
            return self._heads[name]
        except KeyError:
            raise self._unknown(name) from None

    def names(self) -> list[str]:
        """List the names of the heads that can be used."""
        return sorted(self._heads)

    async def delete(self, name: str) -> None:
        """Remove a head, damaged or not."""
        async with self._writing:
            if name not in self._heads and name not in self.damaged:
                raise self._unknown(name)
            await asyncio.to_thread(self._remove, name)
            self._heads.pop(name, None)
            self.damaged.pop(name, None)

    def _read(self, path: Path, read: Callable[[bytes], H]) -> None:
        try:
            self._heads[path.stem] = read(read_file(path, limit=_HEAD_BYTES))
        except Exception as error:  # noqa: BLE001 (one spoiled file must not stop the others)
            why = f"{self._kind} {path.stem} is damaged: {what_is_wrong(error)}; its file is kept"
            log.error("not served: %s (%s: %r)", why, path, error)  # noqa: TRY400
            self.damaged[path.stem] = why

    def _write(self, name: str, head: H) -> None:
        data = head.to_bytes()
        with disk_errors(f"{self._kind} {name}"):
            make_folder(self._folder)
            require_space(self._folder, self._reserve + len(data))
            write_whole(self._path(name), data)

    def _remove(self, name: str) -> None:
        with disk_errors(f"{self._kind} {name}"):
            remove(self._path(name))
            sync_folder(self._folder)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.npz"

    def _unknown(self, name: str) -> NotFound:
        known = ", ".join(self.names()[:20]) or "none"
        return NotFound(f"no {self._kind} {name[:80]!r}; this server has {known}")
