"""HTTP/2 by hand (RFC 9113), for what no client of gRPC does: frames as bytes, and no courtesy."""

import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, Self

DATA: Final = 0
HEADERS: Final = 1
RST_STREAM: Final = 3
SETTINGS: Final = 4
PING: Final = 6
WINDOW_UPDATE: Final = 8
END_STREAM: Final = 1
ACK: Final = 1
END_HEADERS: Final = 4
CANCEL: Final = 8
_INITIAL_WINDOW_SIZE: Final = 4
_WINDOW: Final = 65_535  # bytes, until the peer says otherwise
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_FRAME: Final = 16_384  # bytes, the most that a peer must take


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame: a 24-bit length, a type, flags, a stream, and what they are about."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


GREETING: Final = _PREFACE + frame(SETTINGS, 0, 0)
"""What begins a connection, without a call."""


def message(encoded: bytes) -> bytes:
    """A message as gRPC sends it: not compressed, its length, itself."""
    return struct.pack(">BI", 0, len(encoded)) + encoded


def head(path: str, more: Mapping[str, str] | None = None) -> bytes:
    """The fields of a call, each a literal of HPACK that is not indexed (RFC 7541, 6.2.2).

    `more` are further ones.
    """
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "localhost",
        "te": "trailers",
        "content-type": "application/grpc",
        **(more or {}),
    }
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in fields.items())


def _text(text: str) -> bytes:
    if len(text) >= 2**7 - 1:
        raise ValueError("HPACK writes a longer text with a longer length")
    return bytes([len(text)]) + text.encode()


class Connection:
    """A connection that takes at most `window` bytes of each stream, and sends the given frames.

    What comes is read, and counted with its bytes by its frame's type; pings and settings are
    acknowledged.
    """

    def __init__(self, port: int, *, window: int = 65_535) -> None:
        """Connect, and say what is taken."""
        self.seen = Counter[int]()
        self.bytes = Counter[int]()
        self.heads: list[bytes] = []
        self._windows = Counter[int]()  # bytes that the peer has let each stream send, 0 is all
        self._window = _WINDOW
        self._stream = -1
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        settings = struct.pack(">HI", _INITIAL_WINDOW_SIZE, window)
        self.send(_PREFACE + frame(SETTINGS, 0, 0, settings))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        """Give the connection."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._reader.join()

    @property
    def closed(self) -> bool:
        """Whether the server has closed it."""
        return not self._reader.is_alive()

    def send(self, sent: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(sent)

    def open(self, path: str, more: Mapping[str, str] | None = None) -> bytes:
        """The frame that opens the next stream, with `more` fields."""
        self._stream += 2
        return frame(HEADERS, END_HEADERS, self._stream, head(path, more))

    def data(self, body: bytes, *, end: bool = True) -> bytes:
        """The frames of a body on the last stream that was opened."""
        parts = [body[i : i + _FRAME] for i in range(0, len(body), _FRAME)]
        last = len(parts) - 1
        return b"".join(
            frame(DATA, END_STREAM if end and i == last else 0, self._stream, part)
            for i, part in enumerate(parts)
        )

    def pour(self, bodies: list[bytes], path: str, *, for_s: float) -> int:
        """Open a stream for each body, and send what the peer takes of all; gives those bytes.

        No body is ended. A stream that the peer closes is left.
        """
        left = {}
        for body in bodies:
            self.send(self.open(path))
            left[self._stream] = memoryview(body)
        sent = Counter[int]()
        end = time.monotonic() + for_s
        while time.monotonic() < end and not self.closed:
            before = sent[0]
            for stream, rest in left.items():
                free = self._window + self._windows[stream] - sent[stream]
                free = min(free, _WINDOW + self._windows[0] - sent[0], _FRAME)
                part = rest[sent[stream] :][: max(0, free)]
                if part:
                    self.send(frame(DATA, 0, stream, bytes(part)))
                    sent[stream] += len(part)
                    sent[0] += len(part)
            if sent[0] == before:
                time.sleep(0.01)
        return sent[0]

    def reset(self) -> bytes:
        """The frame that resets that stream."""
        return frame(RST_STREAM, 0, self._stream, struct.pack(">I", CANCEL))

    def _read(self) -> None:
        with suppress(OSError), self._socket.makefile("rb") as came:
            while len(start := came.read(9)) == 9:
                size = int.from_bytes(start[:3], "big")
                kind, flags, stream = struct.unpack(">BBI", start[3:])
                payload = came.read(size)
                if kind == WINDOW_UPDATE:
                    self._windows[stream] += int.from_bytes(payload, "big")
                if kind == SETTINGS:
                    settings = dict(struct.iter_unpack(">HI", payload))
                    self._window = settings.get(_INITIAL_WINDOW_SIZE, self._window)
                self.bytes[kind] += size
                if kind == HEADERS:
                    self.heads.append(payload)
                self.seen[kind] += 1
                if kind in (PING, SETTINGS) and not flags & ACK:
                    self.send(frame(kind, ACK, 0, payload if kind == PING else b""))
