"""Pipe: what the store's process answers, read so that others run meanwhile.

One call of pickle holds the interpreter until the whole answer is there, which may have 64 MiB. So
each payload is pickled by itself, and between two of them the reader lets others run.
"""

import io
import pickle
from multiprocessing.connection import Connection
from typing import Any

from attar.server.steps import STEP_BYTES, give_way


def send(connection: Connection, answer: object) -> None:
    """Send an answer, for `receive`."""
    written = io.BytesIO()
    _Pickler(written, pickle.HIGHEST_PROTOCOL).dump(answer)
    connection.send_bytes(written.getbuffer())


def receive(connection: Connection) -> Any:
    """Wait for an answer and give it; raises EOFError where the other end is closed."""
    return _Unpickler(io.BytesIO(connection.recv_bytes())).load()


class _Pickler(pickle.Pickler):
    def persistent_id(self, value: object) -> bytes | None:
        """A payload's own pickle, in its place."""
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL) if type(value) is dict else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, written: io.BytesIO) -> None:
        super().__init__(written)
        self._since = 0

    def persistent_load(self, pickled: bytes) -> object:
        """The payload."""
        self._since += len(pickled)
        if self._since > STEP_BYTES:
            self._since = 0
            give_way()
        return pickle.loads(pickled)  # noqa: S301 (our own child's)
