"""Real servers for tests: one in a thread of this process, or one in a process of its own."""

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attar.server.app import running
from attar.server.settings import Settings


def settings(*bundles: Path, data_dir: Path, **changes: Any) -> Settings:
    """Give settings for a test: free ports, one thread, a short grace, no heartbeat to count."""
    defaults = {"port": 0, "metrics_port": None, "http_port": None, "threads": 1, "grace_s": 5.0}
    defaults |= {"heartbeat_s": 600.0}
    return Settings(bundles=bundles, data_dir=data_dir, **{**defaults, **changes})


@contextmanager
def serving(chosen: Settings) -> Iterator[str]:
    """Run a server in a thread with a loop of its own; gives its address."""
    started = threading.Event()
    address: list[str] = []
    failure: list[BaseException] = []
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def run() -> None:
        async with running(chosen) as port:
            address.append(f"{chosen.host}:{port}")
            started.set()
            await stop.wait()

    def work() -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(run())
        except BaseException as error:
            failure.append(error)
        finally:
            started.set()

    thread = threading.Thread(target=work)
    thread.start()
    started.wait()
    try:
        if address:
            yield address[0]
    finally:
        if not failure:
            loop.call_soon_threadsafe(stop.set)
        thread.join()
    if failure:
        raise failure[0]


@contextmanager
def process(*arguments: str, ready_file: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run `python -m attar.server`; gives the process and its port, and kills it at the end."""
    own = ["--ready-file", str(ready_file), "--http-port=off"]  # an argument may choose another
    command = [sys.executable, "-m", "attar.server", *own, *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            deadline = time.monotonic() + 60
            while not ready_file.exists():
                if server.poll() is not None or time.monotonic() > deadline:
                    server.kill()
                    raise AssertionError(server.communicate()[1])
                time.sleep(0.02)
            yield server, int(ready_file.read_text("utf-8"))
        finally:
            server.kill()


def free_port() -> int:
    """Give a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
