"""The pool of worker processes: more processes behind the same ports.

The kernel shares connections out among them (SO_REUSEPORT). Each has models, queues and metrics of
its own. What is kept on disk has one owner, the first process: the others forward to it the calls
that it must answer. They end when it does.
"""

import asyncio
import contextlib
import logging
import pickle
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from attar.errors import Unavailable

from ..cooperative import available_cores
from ..settings import Settings

log = logging.getLogger("attar.server")

READY: Final = b"ready\n"
_ENTRY: Final = "attar.server.processes.main"
_RESTART_S: Final = 1.0
_END_S: Final = 5.0  # for what comes after the grace: closing models, flushing traces


@dataclass(frozen=True, slots=True)
class Worker:
    """What a worker gets through a pipe: settings may hold secrets."""

    settings: Settings
    owner: Path  # the Unix socket of the process that owns what is kept


class Workers:
    """The workers in addition to the first process; none where `workers` is 1."""

    def __init__(self, settings: Settings) -> None:
        """Make the folder of the owner's socket, which only this user can reach."""
        self._settings = settings
        self._folder = (
            tempfile.TemporaryDirectory(prefix="attar-") if settings.workers > 1 else None
        )
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._keepers: list[asyncio.Task[None]] = []

    @property
    def folder(self) -> Path | None:
        """What the processes share, and only this user can reach; None where there is one."""
        return None if self._folder is None else Path(self._folder.name)

    @property
    def address(self) -> str | None:
        """Where the owner must listen for them, as gRPC spells it; None where there are none."""
        return None if self._folder is None else f"unix:{self._owner}"

    @property
    def _owner(self) -> Path:
        return Path(self._folder.name if self._folder else "") / "owner"

    async def start(self, port: int, http_port: int | None) -> None:
        """Start them on the owner's ports and wait until all answer; Unavailable if one ends."""
        self._settings = self._settings.model_copy(update={"http_port": http_port})
        numbers = range(1, self._settings.workers)
        await asyncio.gather(*(self._start(number, port) for number in numbers))
        self._keepers = [asyncio.create_task(self._keep(number, port)) for number in numbers]

    async def stop(self, grace_s: float) -> None:
        """Let them finish what they accepted, within the grace, and end them."""
        for keeper in self._keepers:
            keeper.cancel()
        if self._keepers:
            await asyncio.wait(self._keepers)
        for process in self._processes.values():
            _signal(process, signal.SIGTERM)
        endings = [asyncio.ensure_future(process.wait()) for process in self._processes.values()]
        if endings:
            _, late = await asyncio.wait(endings, timeout=grace_s + _END_S)
            for process in self._processes.values() if late else ():
                _signal(process, signal.SIGKILL)
            await asyncio.wait(endings)
        self._processes.clear()

    def close(self) -> None:
        """Remove the folder."""
        if self._folder is not None:
            self._folder.cleanup()

    async def _start(self, number: int, port: int) -> None:
        # -P: in a checkout, it must not take the folder it is in for the package.
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", _ENTRY),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self._processes[number] = process
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("a worker without pipes is a bug in attar")
        process.stdin.write(
            pickle.dumps(Worker(worker_settings(self._settings, number, port), self._owner))
        )
        with contextlib.suppress(ConnectionError):
            await process.stdin.drain()  # and it stays open: its end shows the worker that we ended
        if await process.stdout.readline() != READY:
            code = await process.wait()
            raise Unavailable(f"worker {number} ended with {code} when it was started; see its log")

    async def _keep(self, number: int, port: int) -> None:
        """Start another whenever it ends."""
        while True:
            code = await self._processes[number].wait()
            log.error("worker %d ended with %d; it is started again", number, code)
            await asyncio.sleep(_RESTART_S)
            try:
                await self._start(number, port)
            except Unavailable as error:
                log.error("%s", error)


def part_of_the_cores(settings: Settings) -> Settings:
    """Give each of several workers its share of the cores as threads, unless `threads` is set."""
    if settings.workers == 1 or settings.threads is not None:
        return settings
    threads = max(1, available_cores() // settings.workers)
    return settings.model_copy(update={"threads": threads})


def worker_settings(settings: Settings, number: int, port: int) -> Settings:
    """Give the settings of one worker: the owner's, but for what each has of its own."""
    own = {"port": port, "workers": 1, "ready_file": None}
    if settings.metrics_port:
        own["metrics_port"] = settings.metrics_port + number
    return settings.model_copy(update=own)


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
