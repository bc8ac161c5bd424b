"""The store of heads: one file a head on disk, each whole or absent, read once."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, Literal, Protocol, TypeVar

from attar.errors import AlreadyExists, InvalidInput, LimitReached, NotFound, Unavailable
from attar.heads import KnnAnomaly, LinearClassifier

from ..collections.store import UNLIMITED
from ..disk import (
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
from ..engine.models import Model, Models
from ..limits.head_capacity import Capacity
from .embedding_space import SpaceMember, model_for

log = logging.getLogger("attar.server")

BUNDLED: Final = "/"
"""What is between the name of a model and that of a head of its bundle."""

_HEAD_BYTES: Final = 2**32


class Head(Protocol):
    """What can be kept: it writes itself."""

    def to_bytes(self) -> bytes:
        """Give the file's content."""


H = TypeVar("H", bound=Head)
Fitted = TypeVar("Fitted", bound=KnnAnomaly | LinearClassifier)
V = TypeVar("V")


def read_head(path: Path, read: Callable[[bytes], H], *, limit: int = _HEAD_BYTES) -> H:
    """Give a head from its file; raises what is wrong with it."""
    return read(read_file(path, limit=limit))


class HeadStore(Generic[H]):
    """Heads of one kind under one folder; `kind` is said in messages."""

    def __init__(
        self,
        folder: Path,
        kind: str,
        read: Callable[[bytes], H],
        *,
        max_heads: int = UNLIMITED,
        capacity: Capacity | None = None,
        reserve_bytes: int = 0,
    ) -> None:
        """Read every head, which blocks; `damaged` says which are not served, why, and the fix.

        No more than `max_heads` are put there, of no more bytes than `capacity` has, and they leave
        `reserve_bytes` of the disk free. What `capacity` has no room for is not read.
        """
        self._folder = folder
        self._kind = kind
        self._max_heads = max_heads
        self._capacity = capacity or Capacity()
        self._sizes: dict[str, int] = {}
        self._reserve = reserve_bytes
        self._heads: dict[str, H] = {}
        self._writing = asyncio.Lock()
        self.damaged: dict[str, str] = {}
        try:
            make_folder(folder)
            sweep(folder)
        except OSError as error:  # the server lives without, and each call says why
            log.error("%ss: %s", kind, error)
        for path in sorted(folder.glob("*.npz")):
            if is_name(path.stem):  # what cannot be a head's name is not ours
                self._read(path, read)

    def refuse_taken(self, name: str) -> None:
        """Raise when a head cannot be put under that name.

        `InvalidInput` for what is no name, `AlreadyExists`, or `LimitReached` where there are
        `max_heads`.
        """
        check_name(self._kind, name)
        if name in self.damaged:
            raise AlreadyExists(f"{self.damaged[name]}. Or choose another name")
        if name in self._heads:
            raise AlreadyExists(f"{self._kind} {name} exists; choose another name or delete it")
        if (there := len(self._heads) + len(self.damaged)) >= self._max_heads:
            raise LimitReached(
                f"{there} {self._kind}s are there, the limit; delete one, or raise max_heads"
            )

    def refuse_large(self, name: str, size: int) -> None:
        """Raise `LimitReached` when a head of so many bytes cannot be put, before it is made."""
        self._capacity.refuse_beyond(size, f"{self._kind} {name}")

    async def put(self, name: str, head: H) -> None:
        """Keep a new head; it survives a restart when this returns."""
        async with self._writing:
            self.refuse_taken(name)
            data = await asyncio.to_thread(head.to_bytes)
            self._capacity.take(len(data), f"{self._kind} {name}")
            try:
                await asyncio.to_thread(self._write, name, data)
            except BaseException:
                self._capacity.give_back(len(data))
                raise
            self._heads[name], self._sizes[name] = head, len(data)

    def get(self, name: str) -> H:
        """Give the head of that name; raises `NotFound`, or `Unavailable` for a damaged one."""
        if name in self.damaged:
            raise Unavailable(self.damaged[name])
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
            self._capacity.give_back(self._sizes.pop(name, 0))
            self.damaged.pop(name, None)

    def _read(self, path: Path, read: Callable[[bytes], H]) -> None:
        try:
            size = path.stat().st_size
            if (left := self._capacity.left) < size <= _HEAD_BYTES:
                self._leave_out(path, size)
                return
            head = read_head(path, read, limit=min(_HEAD_BYTES, left))
            self._capacity.take(size, f"{self._kind} {path.stem}")
        except Exception as error:
            why = (
                f"{self._kind} {path.stem} is damaged: {what_is_wrong(error)}; its file is kept: "
                "delete it and fit it again, or restore its file from a copy"
            )
            log.error("not served: %s (%s: %r)", why, path, error)
            self.damaged[path.stem] = why
        else:
            self._heads[path.stem], self._sizes[path.stem] = head, size

    def _leave_out(self, path: Path, size: int) -> None:
        """Do not serve a head for which there is no room."""
        why = (
            f"{self._kind} {path.stem} is not served: it has {size} bytes, and the heads before it "
            f"and in bundles {self._capacity.taken} of max_heads_bytes, {self._capacity.limit}; "
            "its file is kept: "
            "raise that, or delete heads, and start the server again"
        )
        log.error("%s (%s)", why, path)
        self.damaged[path.stem] = why

    def _write(self, name: str, data: bytes) -> None:
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


class Heads(Generic[Fitted, V]):
    """Heads of one kind as callers see them: each is described by a value.

    Those that were fitted have a name, and those of a served bundle are called MODEL/HEAD.
    """

    def __init__(
        self,
        store: HeadStore[Fitted],
        describe: Callable[[str, Fitted], V],
        *,
        kind: Literal["detector", "classifier"],
        of: type[Fitted],
        models: Models,
    ) -> None:
        """Describe the heads of `store`, and those of the class `of` in the bundles of `models`."""
        self._head_store = store
        self._describe = describe
        self._kind = kind
        self._of = of
        self._models = models
        self.damaged = store.damaged

    async def get(self, name: str) -> V:
        """Describe one; raises `NotFound`, or `Unavailable` for a damaged one."""
        return self._describe(name, self._head(name))

    async def list(self) -> tuple[V, ...]:
        """Describe every one that can be used: those that were fitted, then those of bundles."""
        bundled = (
            f"{model.name}/{name}"
            for model in {model.name: model for model in self._models}.values()
            for name, head in model.heads.items()
            if isinstance(head, self._of)
        )
        return tuple([await self.get(name) for name in (*self._head_store.names(), *bundled)])

    async def delete(self, name: str) -> None:
        """Remove one that was fitted, damaged or not."""
        if BUNDLED in name:
            self._head(name)  # which says what it is not
            raise InvalidInput(
                f"{self._kind} {name} is part of the bundle of its model and cannot be deleted; "
                "unload the model, or serve a bundle without it"
            )
        await self._head_store.delete(name)

    def _head(self, name: str) -> Fitted:
        """Give a head that was fitted, or one of a served bundle."""
        if BUNDLED not in name:
            return self._head_store.get(name)
        model_name, _, head_name = name.partition(BUNDLED)
        model = self._models[model_name]
        head = model.heads.get(head_name)
        if not isinstance(head, self._of):
            heads = model.heads.items()
            names = ", ".join(name for name, head in heads if isinstance(head, self._of))
            raise NotFound(
                f"the bundle of model {model.name} has no {self._kind} {head_name[:80]!r}; it has "
                f"{names or 'none'}"
            )
        return head

    def _head_and_model(self, name: str) -> tuple[Fitted, Model]:
        """Give a head, and the model that embeds into its space."""
        head = self._head(name)
        member = SpaceMember(self._kind, name, head.model, head.fingerprint)
        return head, model_for(self._models, member)
