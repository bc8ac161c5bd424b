"""The store's own process: qdrant_edge holds the interpreter while it works, so it gets another.

The child serves one call at a time, read from a socket; it ends when the socket does, so it cannot
outlive the server by more than the call it is in. If it dies, the call in it and those behind it
fail with `Unavailable`, and the next call starts another, which finds everything acknowledged. A
death says little of the data, since whatever is short of memory is killed. So a collection that
could not be opened is tried again: directly if the child died of it, and by later calls of it.

A write is acknowledged once the child has it in its log and, with `durability` "synced", once the
log is on the disk. This process syncs it, so searches do not wait for the disk, and writes that
wait at the same time share one sync.

What takes longer than a call may, the building of an index and the packing of a snapshot, is done
to a copy by a third process, see `builder`. Writes to the collection wait while it is copied; reads
never do, but for the moment in which the built copy takes the place of the old shard.
"""

import asyncio
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Concatenate, Final, Literal, ParamSpec, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from attar.errors import AttarError, BackendError, DiskFull, NotFound, Replaced, Unavailable
from attar.values import PointId, Snapshot

from ..disk import check_name, disk_errors, make_folder, refusal, require_space, sweep, sync_folder
from ..limits import malloc_trim
from . import index_builder, process_pipe
from .filters import Condition
from .qdrant_edge import OPENING_BYTES, RESERVE_BYTES, EdgeStore, sync_log
from .store import (
    UNLIMITED,
    Description,
    Hit,
    Page,
    Payload,
    Point,
    Search,
    Size,
)

Durability: TypeAlias = Literal["synced", "written"]

P = ParamSpec("P")
R = TypeVar("R")
log = logging.getLogger("attar.server")

_SYNC_S: Final = 1.0  # how long a write may wait for its sync, which searches wait out too
_SYNCS: Final = 4  # collections whose logs are synced at a time
_IDLE_S: Final = 1.0  # without a call, after which what the last ones took goes back
_CLOSE_S: Final = 30.0  # for the last call and the last sync
_OPENINGS: Final = 3  # deaths of the child at one collection, before the others go on without it
_PAUSE_S: Final = (2.0, 600.0)  # before such a collection is tried again, and the longest, doubling
_CATCH_UP: Final = 500  # points brought to a copy in one call, between which reads go on
# A build copies everything, so what was written since the last must be a fair part of it: then
# builds cost no more than a constant for each point that was ever written, even when they fail.
_NEW: Final = 0.25


@dataclass(frozen=True, slots=True)
class _Shut:
    """Why a collection is not open, and from when on a call of it tries again (monotonic, s)."""

    reason: str
    pause_s: float
    again: float


class StoreProcess:
    """A `Store` on `EdgeStore` in a child process."""

    def __init__(
        self,
        root: Path,
        *,
        snapshots: Path | None = None,
        index_after: int = 0,
        reserve_bytes: int = RESERVE_BYTES,
        durability: Durability = "synced",
    ) -> None:
        """Start the child and open every collection; blocks until that is done.

        A write that was answered survives the loss of power, or with `durability` "written" the
        death of every process, and of power once it is a second old. `snapshots` is the folder of
        snapshots, next to the root by default. Once `index_after` points are not in a collection's
        index it is built in the background; 0: only by `optimize`.
        """
        self._root = root
        self._snapshots = snapshots or root.with_name("snapshots")
        self._index_after = index_after
        self._reserve = reserve_bytes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="attar-store")
        self._child: tuple[subprocess.Popen[bytes], Connection] | None = None
        self._closed = False
        self._descriptions: dict[str, Description] = {}
        self._writing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._durability: Durability = durability
        self._disk = ThreadPoolExecutor(_SYNCS, thread_name_prefix="attar-sync")
        self._syncing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._next_syncs: dict[str, asyncio.Task[None]] = {}
        self._builds: dict[str, asyncio.Task[None]] = {}
        self._written: Counter[str] = Counter()  # points, since the last build began
        self._building = asyncio.Lock()  # one at a time: each takes a core
        self._shut: dict[str, _Shut] = {}
        try:
            make_folder(root)
            self._thread.submit(self._start).result()
            for folder in self._snapshots.glob("*"):
                sweep(folder)
        except (DiskFull, OSError) as error:  # the server lives without, and each call tries again
            log.error("collections: %s", error)

    @property
    def damaged(self) -> dict[str, str]:
        """Which collections cannot be used, and why, in words without a path."""
        return {name: shut.reason for name, shut in self._shut.items()}

    # ------------------------------------------------------------------ the contract

    async def names(self) -> list[str]:
        """List the collections, damaged ones too."""
        return await self._call(EdgeStore.names)

    async def create(self, description: Description) -> None:
        """Make an empty collection, whole or not at all; raises `AlreadyExists`."""
        await self._call(EdgeStore.create, description)

    async def delete(self, name: str) -> None:
        """Remove whatever has that name, damaged or not."""
        await self._give_up(name)
        async with self._writing[name]:
            try:
                await self._call(EdgeStore.delete, name)
            finally:
                self._descriptions.pop(name, None)
        self._shut.pop(name, None)
        self._writing.pop(name, None)
        self._written.pop(name, None)

    async def describe(self, name: str) -> Description:
        """Give what a collection was made for."""
        if name in self._shut:
            await self._run(self._try_again, name)
        if name not in self._descriptions:
            self._descriptions[name] = await self._call(EdgeStore.describe, name)
        return self._descriptions[name]

    async def size(self, of: Description) -> Size:
        """Count a collection's points."""
        return await self._on(EdgeStore.size, of)

    async def upsert(
        self,
        of: Description,
        ids: Sequence[PointId],
        vectors: NDArray[np.float32],
        payloads: Sequence[Payload],
    ) -> None:
        """Add or replace points, all or none: (n, dims) vectors; durable when it returns."""
        async with self._writing[of.name]:
            size = await self._on(EdgeStore.upsert, of, ids, vectors, payloads)
        await self._synced(of.name)
        self._written[of.name] += len(ids)
        written, new = self._written[of.name], size.points - size.indexed
        if 0 < self._index_after <= min(new, written) and written >= _NEW * size.points:
            self._build(of)

    async def search(
        self, of: Description, vectors: NDArray[np.float32], search: Search
    ) -> list[list[Hit]]:
        """Give each query's hits, best first: (n, dims) vectors."""
        return await self._on(EdgeStore.search, of, vectors, search)

    async def keyword_search(
        self, of: Description, texts: Sequence[str], search: Search
    ) -> list[list[Hit]]:
        """Give the points that have words of each text, best first by BM25."""
        return await self._on(EdgeStore.keyword_search, of, texts, search)

    async def retrieve(
        self,
        of: Description,
        ids: Sequence[PointId],
        *,
        with_vectors: bool,
        with_payload: bool = True,
        max_bytes: int = UNLIMITED,
    ) -> list[Point]:
        """Give the points that exist, in the order of `ids`, or refuse above `max_bytes`."""
        return await self._on(
            EdgeStore.retrieve,
            of,
            ids,
            with_vectors=with_vectors,
            with_payload=with_payload,
            max_bytes=max_bytes,
        )

    async def scroll(
        self,
        of: Description,
        *,
        where: Condition,
        limit: int,
        start: PointId | None,
        with_vectors: bool,
        max_bytes: int = UNLIMITED,
    ) -> Page:
        """Give a page of the points that match, from `start` on, which may end at `max_bytes`."""
        return await self._on(
            EdgeStore.scroll,
            of,
            where=where,
            limit=limit,
            start=start,
            with_vectors=with_vectors,
            max_bytes=max_bytes,
        )

    async def count(self, of: Description, where: Condition) -> int:
        """Count the points that match."""
        return await self._on(EdgeStore.count, of, where)

    async def delete_points(self, of: Description, ids: Sequence[PointId]) -> None:
        """Remove those of the points that exist; durable when it returns."""
        async with self._writing[of.name]:
            await self._on(EdgeStore.delete_points, of, ids)
        await self._synced(of.name)

    async def delete_matching(self, of: Description, where: Condition) -> None:
        """Remove the points that match, all or none; durable when it returns."""
        async with self._writing[of.name]:
            await self._on(EdgeStore.delete_matching, of, where)
        await self._synced(of.name)

    async def vectors(self, of: Description, *, limit: int = UNLIMITED) -> NDArray[np.float32]:
        """Give every vector, in the order of ids, up to so many: (points, dims)."""
        return await self._on(EdgeStore.vectors, of, limit=limit)

    async def optimize(self, of: Description) -> None:
        """Build the collection's index; it goes on when the caller leaves."""
        await self._on(EdgeStore.size, of)  # is it there?
        build = self._build(of)
        await asyncio.wait((build,))
        if build.cancelled():
            raise Unavailable(
                f"the index of collection {of.name} is not built: the collection was deleted or"
                " replaced meanwhile, or the server is closing"
            )
        build.result()

    async def snapshot(self, of: Description) -> Snapshot:
        """Keep a collection as it is now; writes wait while it is copied, reads do not."""
        target = self._snapshots / of.name
        making = target / f".{uuid.uuid4().hex}"
        try:
            with disk_errors(f"snapshot of collection {of.name}"):
                async with self._working("pack", of, making, follow=False) as packing:
                    return _describe_snapshot(index_builder.snapshot_path(target, await packing))
        finally:
            await asyncio.to_thread(shutil.rmtree, making, ignore_errors=True)

    async def snapshots(self, name: str) -> list[Snapshot]:
        """List a collection's snapshots, oldest first, also when it was deleted since."""
        folder = self._snapshots / check_name("collection", name)

        def look() -> list[Snapshot]:
            paths = filter(index_builder.is_snapshot, folder.glob("*.zip"))
            return sorted(
                map(_describe_snapshot, paths),
                key=lambda snapshot: (snapshot.created_s, snapshot.id),
            )

        with disk_errors(f"snapshots of collection {name}"):
            return await asyncio.to_thread(look)

    async def restore(
        self, name: str, snapshot: str, *, to: str, replace: bool
    ) -> tuple[Description, Size]:
        """Make the collection `to` of a snapshot of `name`, whole or not at all."""
        path = self._snapshot(name, snapshot)
        check_name("collection", to)
        replacing = None
        with suppress(NotFound, Unavailable):  # a damaged one is replaced, whichever it was
            replacing = await self.describe(to)
        making = self._root / f".{uuid.uuid4().hex}"
        try:
            with disk_errors(f"snapshot {snapshot}"):
                require_space(self._root, self._reserve + 2 * path.stat().st_size)
                await index_builder.build("unpack", path, making)
            await self._give_up(to)
            async with self._writing[to]:
                description = await self._call(
                    EdgeStore.adopt, making, to=to, replace=replace, replacing=replacing
                )
                self._descriptions.pop(to, None)
                self._shut.pop(to, None)
            return description
        finally:
            await asyncio.to_thread(shutil.rmtree, making, ignore_errors=True)

    async def delete_snapshot(self, name: str, snapshot: str) -> None:
        """Remove a snapshot."""
        path = self._snapshot(name, snapshot)
        with disk_errors(f"snapshot {snapshot}"):
            path.unlink(missing_ok=True)
            await asyncio.to_thread(sync_folder, path.parent)

    async def close(self) -> None:
        """Let the child finish, close its shards and end; what is being built is given up."""
        for name in (*self._builds,):
            await self._give_up(name)
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._stop)
        self._thread.shutdown()
        self._disk.shutdown()

    # ------------------------------------------------------------------ durability

    async def _synced(self, name: str) -> None:
        """Return once what was written before is on the disk; all who wait share the next sync."""
        if self._durability == "written":
            return
        if name not in self._next_syncs:
            task = asyncio.get_running_loop().create_task(self._sync(name))
            task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            self._next_syncs[name] = task
        await asyncio.shield(self._next_syncs[name])

    async def _sync(self, name: str) -> None:
        # The sync that is under way may have begun before the write, so this is another.
        async with self._syncing[name]:
            del self._next_syncs[name]
            loop = asyncio.get_running_loop()
            with disk_errors(f"collection {name}"):
                await loop.run_in_executor(self._disk, sync_log, self._root / name)

    # ------------------------------------------------------------------ copies

    def building(self, name: str) -> bool:
        """Whether the collection's index is being built."""
        return name in self._builds

    def _snapshot(self, name: str, snapshot: str) -> Path:
        folder = self._snapshots / check_name("collection", name)
        return index_builder.snapshot_path(folder, snapshot)

    def _build(self, of: Description) -> asyncio.Task[None]:
        """Begin to build a collection's index, or give the build that is under way."""
        if of.name not in self._builds:
            self._written[of.name] = 0
            task = asyncio.get_running_loop().create_task(self._optimize(of))
            self._builds[of.name] = task
            task.add_done_callback(lambda ended: self._ended(of.name, ended))
        return self._builds[of.name]

    async def _give_up(self, name: str) -> None:
        """End the build of a collection's index, if one is under way."""
        if name in self._builds:
            await _end(self._builds[name])

    def _ended(self, name: str, build: asyncio.Task[None]) -> None:
        del self._builds[name]
        if not build.cancelled() and (error := build.exception()) is not None:
            log.warning("the index of collection %s was not built: %s", name, type(error).__name__)

    async def _optimize(self, of: Description) -> None:
        copy = self._root / of.name / f"shard-{uuid.uuid4().hex}"
        try:
            async with (
                self._building,
                self._working("optimize", of, copy, follow=True) as optimizing,
            ):
                await optimizing
                left = await self._on(EdgeStore.catch_up, of, copy, limit=_CATCH_UP)
                # Each call leaves room for others, so more may be written than one brings over.
                for _ in range(2 * left // _CATCH_UP):
                    if left <= _CATCH_UP:
                        break
                    left = await self._on(EdgeStore.catch_up, of, copy, limit=_CATCH_UP)
                async with self._writing[of.name]:
                    await self._on(EdgeStore.change_over, of, copy)
        except BaseException:
            with suppress(AttarError):  # the child may be gone, and the copy with it
                await self._on(EdgeStore.forget_copy, of)
            raise

    @asynccontextmanager
    async def _working(
        self, command: str, of: Description, target: Path, *, follow: bool
    ) -> AsyncIterator[asyncio.Task[str]]:
        """Have a builder work on the collection as it is now; the builder ends with the block."""
        require_space(self._root, self._reserve)
        copied = asyncio.Event()
        async with AsyncExitStack() as stack:
            async with self._writing[of.name]:
                try:
                    source, folder = await self._on(EdgeStore.begin_copy, of, follow=follow)
                    work = asyncio.create_task(
                        index_builder.build(command, source, folder, target, copied=copied.set)
                    )
                    stack.push_async_callback(_end, work)
                    waiting = asyncio.create_task(copied.wait())
                    stack.push_async_callback(_end, waiting)
                    await asyncio.wait((waiting, work), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    await self._on(EdgeStore.end_copy, of)
            yield work

    # ------------------------------------------------------------------ the child

    @property
    def _alive(self) -> bool:
        return self._child is not None

    async def _on(
        self,
        method: Callable[Concatenate[EdgeStore, Description, P], R],
        of: Description,
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Run a method that works on a collection, if it still is the one that `of` describes."""
        if of.name in self._shut:
            await self._run(self._try_again, of.name)
        try:
            return await self._call(method, of, *args, **kwargs)
        except (NotFound, Replaced):
            self._descriptions.pop(of.name, None)
            raise

    async def _call(
        self,
        method: Callable[Concatenate[EdgeStore, P], R],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Run a method of the store in the child, off the loop; its errors are raised here."""
        if self._closed:
            raise Unavailable("the collections are closed; retry when the server is up again")
        response = await self._run(self._exchange, method.__name__, args, kwargs)
        result: R = response
        return result

    async def _run(self, work: Callable[..., Any], *args: Any) -> Any:
        """Do what concerns the child in the one thread that may."""
        with disk_errors("collections"):
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)

    def _exchange(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._child is None:
            self._start()
        return self._ask(method, args, kwargs)

    def _try_again(self, name: str) -> None:
        """Open a collection that could not be opened, once it has had its pause, or raise why."""
        shut = self._shut.get(name)
        if shut is None:
            return
        if time.monotonic() < shut.again:
            raise Unavailable(shut.reason)
        if self._child is None:
            self._start()
        try:
            self._ask("open_collection", (name,), {})
        except Unavailable as error:
            if self._alive:
                self._keep_shut(name, error)
            else:
                self._keep_shut(name, _died(name, deaths=1))
                self._start()
            raise Unavailable(self._shut[name].reason) from error
        del self._shut[name]
        log.info("collection %s is open again", name)

    def _keep_shut(self, name: str, error: Unavailable) -> None:
        before = self._shut.get(name)
        pause_s = _PAUSE_S[0] if before is None else min(2 * before.pause_s, _PAUSE_S[1])
        self._shut[name] = _Shut(str(error), pause_s, time.monotonic() + pause_s)
        log.error("not served: %s (%s)", error, "; ".join(getattr(error, "__notes__", ())))

    def _ask(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._child is None:
            raise Unavailable("the collections are closed; retry when the server is up again")
        try:
            self._child[1].send((method, args, kwargs))
            good, response = process_pipe.receive(self._child[1])
        except (EOFError, OSError) as error:
            self._stop()
            raise Unavailable(
                "the collections stopped before they had answered; retry, it starts again"
            ) from error
        if not good:
            if method != "open_collection" and (notes := getattr(response, "__notes__", ())):
                log.error("collections: %s", "; ".join(notes))
            raise response
        return response

    def _start(self) -> None:
        """Start a child that has every collection open but those that are shut."""
        deaths: Counter[str] = Counter()
        while (name := self._open_all()) is not None:
            deaths[name] += 1
            if deaths[name] == _OPENINGS:
                self._keep_shut(name, _died(name, deaths=_OPENINGS))

    def _open_all(self) -> str | None:
        """Start a child and open what is not shut; give the collection at which it died, if any."""
        for name in self._launch():
            if name in self._shut:
                continue
            try:
                self._ask("open_collection", (name,), {})
            except Unavailable as error:
                if not self._alive:
                    return name
                self._keep_shut(name, error)
        return None

    def _launch(self) -> list[str]:
        """Start a child and give the names that it finds."""
        make_folder(self._root)
        require_space(self._root, min(self._reserve, OPENING_BYTES))
        ours, theirs = socket.socketpair()
        with ours, theirs:
            # -P: in a checkout, the child must not take the folder it is in for the package.
            command = [sys.executable, "-P", "-m", __name__, str(theirs.fileno()), str(self._root)]
            child = subprocess.Popen(
                [*command, str(self._reserve)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
            self._child = (child, Connection(ours.detach()))
        try:
            names: list[str] = self._ask("names", (), {})
        except AttarError:
            self._stop()
            raise
        return names

    def _stop(self) -> None:
        if self._child is None:
            return
        child, connection = self._child
        self._child = None
        connection.close()
        try:
            child.wait(_CLOSE_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _died(name: str, *, deaths: int) -> Unavailable:
    """Say that the child died at a collection, which may be whole: memory may have been short."""
    times = "time" if deaths == 1 else "times"
    return Unavailable(
        f"collection {name} is not open: opening it was ended {deaths} {times}. A later call tries"
        " again; where that does not help, is memory short? Else restore a snapshot of it, or"
        " delete it"
    )


async def _end(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _describe_snapshot(path: Path) -> Snapshot:
    status = path.stat()
    return Snapshot(path.stem, path.parent.name, status.st_mtime, status.st_size)


def _sync_when_due(connection: Connection, store: EdgeStore) -> None:
    """Sync once the oldest write has waited long enough; return when a call is there to be read."""
    while (since := store.unsynced_since) is not None:
        left = since + _SYNC_S - time.monotonic()
        if left > 0 and connection.poll(left):
            return
        store.sync()


def _rest(connection: Connection, store: EdgeStore | None) -> None:
    """Do what there is time for until a call comes."""
    malloc_trim.trim()
    if store is not None:
        store.rest(unless=connection.poll)


def serve(connection: Connection, root: Path, reserve_bytes: int) -> None:
    """Answer calls until the other end closes."""
    store: EdgeStore | None = None
    malloc_trim.keep_no_large_blocks()
    while True:
        try:
            if store is not None:
                _sync_when_due(connection, store)
            if not connection.poll(_IDLE_S):
                _rest(connection, store)
            method, args, kwargs = connection.recv()
        except (EOFError, OSError):
            break
        try:
            store = store or EdgeStore(root, reserve_bytes=reserve_bytes)
            response = (True, getattr(store, method)(*args, **kwargs))
        except AttarError as error:
            response = (False, error)
        except OSError as error:
            response = (False, refusal(error))
            response[1].add_note(f"{method}: {error}")
        except Exception as error:
            response = (False, BackendError(f"the collections failed at {method}: {error!r}"))
        try:
            process_pipe.send(connection, response)
        except OSError:
            break
        del args, kwargs, response  # the next call may be long in coming
    if store is not None:
        store.close()


if __name__ == "__main__":
    # A terminal's ^C and a supervisor's SIGTERM are for the server, which then closes the socket.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    serve(Connection(int(sys.argv[1])), Path(os.fsdecode(sys.argv[2])), int(sys.argv[3]))
