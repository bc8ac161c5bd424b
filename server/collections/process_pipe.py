"""The pipe to the store's process: large answers are read so that other calls run meanwhile.

One call of pickle holds the interpreter until the whole answer is there, which may have 64 MiB. So
each payload is pickled by itself, and between two of them the reader lets others run. A large array
goes as it lies in memory, so that neither end has it twice.
"""

import io
import pickle
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any, Final

from ..cooperative import STEP_BYTES, give_way


def send(connection: Connection, response: object) -> None:
    """Send an answer, for `receive`."""
    written, apart = io.BytesIO(), list[memoryview]()

    def lies_apart(buffer: pickle.PickleBuffer) -> bool:
        """Keep a large array to be sent by itself; what is small stays in the pickle."""
        raw = buffer.raw()
        if raw.nbytes <= _LARGE_BYTES:
            return True
        apart.append(raw)
        return False

    pickler = _Pickler(written, pickle.HIGHEST_PROTOCOL, buffer_callback=lies_apart)
    pickler.dump(response)
    connection.send_bytes(len(apart).to_bytes(4, "little"))
    connection.send_bytes(written.getbuffer())
    for raw in apart:
        connection.send_bytes(raw)


def receive(connection: Connection) -> Any:
    """Wait for an answer and give it; raises EOFError where the other end is closed."""
    count = int.from_bytes(connection.recv_bytes(), "little")
    written = connection.recv_bytes()
    return _Unpickler(written, [connection.recv_bytes() for _ in range(count)]).load()


_LARGE_BYTES: Final = 2**20


class _Pickler(pickle.Pickler):
    def persistent_id(self, value: object) -> bytes | None:
        """A payload's own pickle, in its place."""
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL) if type(value) is dict else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, written: bytes, apart: Sequence[bytes]) -> None:
        super().__init__(io.BytesIO(written), buffers=apart)
        self._since = 0

    def persistent_load(self, pickled: bytes) -> object:
        """The payload."""
        self._since += len(pickled)
        if self._since > STEP_BYTES:
            self._since = 0
            give_way()
        return pickle.loads(pickled)  # noqa: S301 (our own child's)
