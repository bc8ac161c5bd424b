"""The store's own process: qdrant_edge holds the interpreter while it works, so it gets another.

The child serves one call at a time, read from a socket; it ends when the socket does, so it cannot
outlive the server by more than the call it is in. If it dies, the call in it and those behind it
fail with `Unavailable`, and the next call starts another, which finds everything acknowledged.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from attar.errors import AttarError, BackendError, Unavailable

from .qdrant_edge import EdgeStore

P = ParamSpec("P")
R = TypeVar("R")

_SYNC_S: Final = 1.0  # how long a write may wait for its sync, which searches wait out too
_CLOSE_S: Final = 30.0  # for the last call and the last sync


class StoreProcess:
    """An `EdgeStore` in a child process; `damaged` maps what cannot be opened to why."""

    def __init__(self, root: Path) -> None:
        """Start the child and open every collection; blocks until that is done."""
        self._root = root
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="attar-store")
        self._child: tuple[subprocess.Popen[bytes], Connection] | None = None
        self._closed = False
        self.damaged: dict[str, str] = {}
        self._thread.submit(self._start).result()

    @property
    def _alive(self) -> bool:
        return self._child is not None

    async def call(
        self,
        method: Callable[Concatenate[EdgeStore, P], R],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Run a method of the store in the child, off the loop; its errors are raised here."""
        if self._closed:
            raise Unavailable("the collections are closed; retry when the server is up again")
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(
            self._thread, self._exchange, method.__name__, args, kwargs
        )
        result: R = answer
        return result

    async def close(self) -> None:
        """Let the child finish, close its shards and end."""
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._stop)
        self._thread.shutdown()

    def _exchange(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._child is None:
            self._start()
        return self._ask(method, args, kwargs)

    def _ask(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._child is None:
            raise Unavailable("the collections are closed")
        try:
            self._child[1].send((method, args, kwargs))
            good, answer = self._child[1].recv()
        except (EOFError, OSError) as error:
            self._stop()
            raise Unavailable(
                "the process of the collections died; retry, it starts again"
            ) from error
        if not good:
            raise answer
        return answer

    def _start(self) -> None:
        """Start a child and open what is not known to be damaged; one that kills the child is."""
        ours, theirs = socket.socketpair()
        with theirs:
            # -P: in a checkout, the child must not take the folder it is in for the package.
            command = [sys.executable, "-P", "-m", __name__, str(theirs.fileno()), str(self._root)]
            child = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
            )
        self._child = (child, Connection(ours.detach()))
        try:
            names = self._ask("names", (), {})
        except AttarError:
            self._stop()
            raise
        for name in names:
            if name in self.damaged:
                continue
            try:
                self._ask("open_collection", (name,), {})
            except Unavailable as error:
                self.damaged[name] = str(error)
            if not self._alive:
                self.damaged[name] = (
                    f"collection {name} is damaged: the engine died opening it; restore"
                    f" {self._root / name} from a copy, or delete it"
                )
                self._start()
                return

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


def _sync_when_due(connection: Connection, store: EdgeStore) -> None:
    """Sync once the oldest write has waited long enough; return when a call is there to be read."""
    while (since := store.unsynced_since) is not None:
        left = since + _SYNC_S - time.monotonic()
        if left > 0 and connection.poll(left):
            return
        store.sync()


def serve(connection: Connection, root: Path) -> None:
    """Answer calls until the other end closes."""
    store: EdgeStore | None = None
    while True:
        try:
            if store is not None:
                _sync_when_due(connection, store)
            method, args, kwargs = connection.recv()
        except (EOFError, OSError):
            break
        try:
            store = store or EdgeStore(root)
            answer = (True, getattr(store, method)(*args, **kwargs))
        except AttarError as error:
            answer = (False, error)
        except Exception as error:  # noqa: BLE001 - whatever fails is told; a panic of the engine ends the child
            answer = (False, BackendError(f"the collections failed at {method}: {error!r}"))
        try:
            connection.send(answer)
        except OSError:
            break
    if store is not None:
        store.close()


if __name__ == "__main__":
    # A terminal's ^C and a supervisor's SIGTERM are for the server, which then closes the socket.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    serve(Connection(int(sys.argv[1])), Path(os.fsdecode(sys.argv[2])))
