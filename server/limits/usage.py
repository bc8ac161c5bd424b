"""Usage: what each key has used of its rates and of its day, in one file that all workers count in.

A rate is held by what was spent beyond it: a second's worth may be spent in one go, and flows off
at the rate. A day is UTC's. It is begun by a later date, or after a day's time where the clock was
set back: a clock that goes back and forth gives no quota twice.

The file survives the process, also one that is killed. What a power loss takes are counts that the
system has not written yet: those of half a minute, as Linux does by default.
"""

import fcntl
import logging
import os
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

from attar.errors import Unavailable

from ..disk import read_file

log = logging.getLogger("attar.server")

Quantity: TypeAlias = Literal["requests", "items", "tokens"]
QUANTITIES: Final[tuple[Quantity, ...]] = get_args(Quantity)
DAY_S: Final = 86_400
LOCK_S: Final = 0.05  # another worker holds it for some microseconds
_MOST_BYTES: Final = 2**28  # of a file that is checked: two million keys
_SLOT: Final = 128  # bytes; a slot lies in one page, so it is not half written
_RECORD: Final = struct.Struct("<16sd3dqd3q")  # name, at, spent, day, began, today
_CHECK: Final = struct.Struct("<I")
_CLOSE: Final = 1e-9  # what floats lose


@dataclass(slots=True)
class Usage:
    """What one key has used; times are of `time.monotonic`, `day` an ordinal of a date in UTC."""

    at: float = 0.0
    spent: list[float] = field(default_factory=lambda: [0.0] * len(QUANTITIES))
    day: int = 0
    began: float = 0.0
    today: list[int] = field(default_factory=lambda: [0] * len(QUANTITIES))

    def pass_time(self, now: float, day: int, rates: tuple[float | None, ...]) -> None:
        """Let what was spent flow off until `now`, and begin another day where it is one."""
        passed = max(0.0, now - self.at)  # another boot's time may be later
        self.at = now
        self.spent = [
            0.0 if rate is None else max(0.0, spent - passed * rate)
            for spent, rate in zip(self.spent, rates, strict=True)
        ]
        self.began = min(self.began, now)
        if day > self.day or (day < self.day and now - self.began >= DAY_S):
            self.day, self.began = max(day, self.day), now
            self.today = [0] * len(QUANTITIES)

    def next_day_s(self, now: float, clock: datetime) -> float:
        """Seconds until another day begins: at midnight, unless the clock was set back."""
        if clock.toordinal() < self.day:
            return DAY_S - (now - self.began)
        midnight = datetime.combine(clock.date() + timedelta(days=1), datetime.min.time(), UTC)
        return (midnight - clock).total_seconds()

    def wait_s(self, index: int, amount: int, rate: float) -> float:
        """Seconds until so much of a quantity may be spent; 0 when it may be now.

        What is larger than a second's worth may be spent when nothing else is.
        """
        size = max(1.0, rate)
        over = self.spent[index] + min(amount, size) - size
        return over / rate if over > _CLOSE * size else 0.0

    def spend(self, amounts: tuple[int, ...]) -> None:
        """Count what may be spent, or what was."""
        for index, amount in enumerate(amounts):
            self.spent[index] += amount
            self.today[index] += amount


class Ledger:
    """What every key has used, by its name; in a file, or in memory alone."""

    def __init__(self, path: Path | None = None) -> None:
        """Keep it at `path`, which is made when something is counted."""
        self._path = path
        self._file = -1
        self._slots: dict[str, int] = {}
        self._usage: dict[str, Usage] = {}

    @contextmanager
    def entry(self, name: str) -> Iterator[Usage]:
        """What a key has used, for nobody else meanwhile; kept unless the block raises.

        Raises Unavailable where the file cannot be used: what is not counted is not let through.
        """
        if self._path is None:
            used = self._usage.get(name, Usage())
            yield used
            self._usage[name] = used
            return
        try:
            file = self._open(self._path)
            _lock(file)
        except OSError as error:
            raise _unusable(error) from error
        try:
            slot = self._slot(name)
            used = self._read(slot, name)
            yield used
            os.pwrite(file, _packed(name, used), slot * _SLOT)
        except OSError as error:
            raise _unusable(error) from error
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _open(self, path: Path) -> int:
        if self._file < 0:
            path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            self._file = os.open(path, flags, 0o600)
        return self._file

    def _slot(self, name: str) -> int:
        """The slot of a key: where another worker put it, or the next; under the lock."""
        if (known := self._slots.get(name)) is not None:
            return known
        count = os.fstat(self._file).st_size // _SLOT
        digest = _digest(name)
        slots = (slot for slot in range(count) if os.pread(self._file, 16, slot * _SLOT) == digest)
        slot = next(slots, count)
        if slot == count:
            os.pwrite(self._file, _packed(name, Usage()), slot * _SLOT)
        return self._slots.setdefault(name, slot)

    def _read(self, slot: int, name: str) -> Usage:
        content = os.pread(self._file, _SLOT, slot * _SLOT)
        if not _is_whole(content):
            log.error("%s is damaged: what key %s has used is counted from 0", self._path, name)
            return Usage()
        digest, at, *rest = _RECORD.unpack(content[: _RECORD.size])
        if digest != _digest(name):
            log.error("%s was changed by others; key %s is counted from 0", self._path, name)
            return Usage()
        return Usage(at=at, spent=rest[:3], day=rest[3], began=rest[4], today=rest[5:])


def damaged_slots(path: Path) -> int:
    """How many keys of a ledger's file are not as they were written."""
    content = read_file(path, limit=_MOST_BYTES)
    slots = [content[start : start + _SLOT] for start in range(0, len(content), _SLOT)]
    return sum(not _is_whole(slot) for slot in slots)


def _is_whole(slot: bytes) -> bool:
    record, check = slot[: _RECORD.size], slot[_RECORD.size :][: _CHECK.size]
    return len(slot) == _SLOT and _CHECK.pack(zlib.crc32(record)) == check


def _lock(file: int) -> None:
    """Take the file's lock, without waiting long on the event loop for a worker that stands."""
    ends = time.monotonic() + LOCK_S
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.0002)


def _packed(name: str, used: Usage) -> bytes:
    record = _RECORD.pack(_digest(name), used.at, *used.spent, used.day, used.began, *used.today)
    return (record + _CHECK.pack(zlib.crc32(record))).ljust(_SLOT, b"\0")


def _digest(name: str) -> bytes:
    return blake2b(name.encode(), digest_size=16).digest()


def _unusable(error: OSError) -> Unavailable:
    log.error("the usage of keys cannot be counted: %s", error)
    return Unavailable(
        f"what this key uses cannot be counted now ({error.strerror or 'the file is locked'}); "
        "retry later"
    )
