"""Unpacked size: a bound on the bytes that a compressed file may become in memory."""

from pathlib import Path
from typing import Final

from attar.errors import InvalidInput

FREE_BYTES: Final = 2**28
"""Bytes that any file may become."""

RATIO: Final = 100
"""A larger file may become so many times its own size; compressed prose becomes 3 to 10 times."""


class UnpackedSize:
    """The bound of one file. A file of a megabyte may be made that becomes a terabyte."""

    def __init__(self, path: Path) -> None:
        """Look at the size of the file."""
        self._path = path
        self._most = max(FREE_BYTES, RATIO * path.stat().st_size)

    def require(self, size: int) -> None:
        """Raise InvalidInput for a file that becomes so many bytes, or more."""
        if size > self._most:
            raise InvalidInput(
                f"{self._path} becomes more than {self._most:,} bytes when it is read, as no "
                "sound file of its size does; write it without compression if it is yours"
            )
