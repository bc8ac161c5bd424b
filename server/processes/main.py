"""`python -m attar.server.processes.main`: one of several workers, started by the first process."""

import asyncio
import os
import pickle
import signal
import sys

from attar.errors import AttarError

from ..app import serve
from .pool import READY, Worker


def main() -> int:
    """Serve as the first process says on stdin, until SIGTERM or until stdin ends with it."""
    worker: Worker = pickle.load(sys.stdin.buffer)  # noqa: S301 (our own parent's)
    try:
        asyncio.run(_serve(worker))
    except AttarError as error:
        sys.stderr.write(f"attar: {error}\n")
        return 2
    return 0


async def _serve(worker: Worker) -> None:
    loop = asyncio.get_running_loop()
    # Nothing more is ever written there: it can be read once it is closed.
    loop.add_reader(sys.stdin.fileno(), _end, loop)
    await serve(worker.settings, owner=worker.owner, ready=_tell)


def _end(loop: asyncio.AbstractEventLoop) -> None:
    loop.remove_reader(sys.stdin.fileno())
    os.kill(os.getpid(), signal.SIGTERM)


def _tell(_port: int) -> None:
    sys.stdout.buffer.write(READY)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
