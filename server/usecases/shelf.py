"""A shelf: heads on disk, one file a name, each there whole or not at all, read once."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from attar.errors import AlreadyExists, NotFound, Unavailable
from attar.server.collections.disk import check_name, sync_folder, write_whole


class Head(Protocol):
    """What can be kept: it writes itself."""

    def to_bytes(self) -> bytes:
        """Give the file's content."""


H = TypeVar("H", bound=Head)


class Shelf(Generic[H]):
    """Heads of one kind under one folder; `kind` is said in messages."""

    def __init__(self, folder: Path, kind: str, read: Callable[[bytes], H]) -> None:
        """Read every head, which blocks; `damaged` says which could not be read and why."""
        self._folder = folder
        self._kind = kind
        self._heads: dict[str, H] = {}
        self._writing = asyncio.Lock()
        self.damaged: dict[str, str] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.glob("*.npz")):
            try:
                self._heads[path.stem] = read(path.read_bytes())
            except Exception as error:  # noqa: BLE001 (one spoiled file must not stop the others)
                self.damaged[path.stem] = f"{kind} {path.stem} is damaged: {error}"

    def refuse_taken(self, name: str) -> None:
        """Raise `InvalidInput` or `AlreadyExists` when a head cannot be put under that name."""
        check_name(self._kind, name)
        if name in self._heads or name in self.damaged:
            raise AlreadyExists(f"{self._kind} {name} exists; choose another name or delete it")

    async def put(self, name: str, head: H) -> None:
        """Keep a new head; it survives a restart when this returns."""
        async with self._writing:
            self.refuse_taken(name)
            await asyncio.to_thread(write_whole, self._path(name), head.to_bytes())
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
            await asyncio.to_thread(_remove, self._path(name))
            await asyncio.to_thread(sync_folder, self._folder)
            self._heads.pop(name, None)
            self.damaged.pop(name, None)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.npz"

    def _unknown(self, name: str) -> NotFound:
        known = ", ".join(self.names()[:20]) or "none"
        return NotFound(f"no {self._kind} {name[:80]!r}; this server has {known}")


def _remove(path: Path) -> None:
    """Remove what lies there: a head's file, a folder that somebody put there, or nothing."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
