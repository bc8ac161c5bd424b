"""An archive: a zip whose directory was bounded and compared before anything of it is unpacked.

`zipfile` reads the whole directory first, however long it claims to be, and takes an entry's word
for where it lies. So the end of the file is read here before, by itself, and the entries have to
fill what comes before it: who reads from the front sees the same files as who reads the directory.
"""

import io
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

MAX_DIRECTORY_BYTES: Final = 2**20
"""Of a zip's directory: 1,000 files take some 100 kB."""

MAX_RATIO: Final = 100
"""Times that an entry of more than `FREE_BYTES` may unpack to its size; weights take 1.1, JSON 10.

Deflate itself goes up to 1,032.
"""

FREE_BYTES: Final = 2**20

DAMAGES: Final = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,  # an encrypted entry; NotImplementedError is one too
    ValueError,  # a name that is no UTF-8 among them
)
"""What `zipfile` raises on spoiled bytes, and what is raised here."""

_CHUNK: Final = 2**20
_END: Final = struct.Struct("<4s4H2LH")  # sig, disks, entries twice, size, offset, comment
_END64: Final = struct.Struct("<4sQ2H2L4Q")
_LOCATOR: Final = struct.Struct("<4sLQL")
_LOCAL: Final = struct.Struct("<4s5H3L2H")
_IN_64: Final = 0xFFFFFFFF
_EXTRA: Final = frozenset({0x0001, 0x000A, 0x5455, 0x7875})
"""Fields that an entry may have besides: its sizes of 64 bits, times (7-Zip, Info-ZIP), an owner.

Another may be a second name, which some readers take.
"""
_SIZES_FOLLOW: Final = 0x08  # a flag: sizes and checksum stand behind the data
_UTF8: Final = 0x800


def open_plain(path: Path, *, links: bool = True) -> IO[bytes]:
    """Open a plain file to read, and nothing that could block or never end; raises OSError.

    Without `links` a link is refused, whatever it leads to.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    flags |= 0 if links else getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "it is no plain file", str(path))
    return os.fdopen(descriptor, "rb")


def opened(file: IO[bytes], *, max_entries: int) -> zipfile.ZipFile:
    """Give a zip whose directory is as short as it should be, and whose entries fill the rest.

    Raises one of `DAMAGES`, a ValueError for what is well-formed and refused.
    """
    end, entries, start = _directory(file)
    if entries > max_entries:
        raise ValueError(f"it has {entries} entries; limit {max_entries}")
    if end - start > MAX_DIRECTORY_BYTES:
        raise ValueError(f"its directory has {end - start} bytes; limit {MAX_DIRECTORY_BYTES}")
    archive = zipfile.ZipFile(file)
    if len(archive.infolist()) != entries:
        raise ValueError(f"its directory has {len(archive.infolist())} entries, and says {entries}")
    free = 0
    for entry in sorted(archive.infolist(), key=lambda entry: entry.header_offset):
        if entry.header_offset < free:
            raise ValueError(f"{entry.filename} overlaps another entry")
        if entry.header_offset > free:
            raise ValueError(
                f"{entry.header_offset - free} bytes before {entry.filename} are no entry"
            )
        free = _end_of(file, entry)
        if free > start:
            raise ValueError(f"{entry.filename} runs into the directory")
    if free < start:
        raise ValueError(f"{start - free} bytes before the directory are no entry")
    return archive


def _end_of(file: IO[bytes], entry: zipfile.ZipInfo) -> int:
    """Give where an entry ends by its own header, of which the extra fields are checked."""
    file.seek(entry.header_offset)
    _, _, flags, *_, name_size, extra_size = _LOCAL.unpack(file.read(_LOCAL.size))
    file.seek(name_size, os.SEEK_CUR)
    for extra in (file.read(extra_size), entry.extra):
        for kind in _kinds(extra):
            if kind not in _EXTRA:
                raise ValueError(f"{entry.filename} has an extra field {kind:#06x}; zip it without")
    end: int = entry.header_offset + _LOCAL.size + name_size + extra_size + entry.compress_size
    if not flags & _SIZES_FOLLOW:
        return end
    file.seek(end)
    behind, sizes = file.read(24), (entry.CRC, entry.compress_size, entry.file_size)
    for form in ("<4sLQQ", "<4sLLL", "<LQQ", "<LLL"):
        mark = (b"PK\7\10",) if form.startswith("<4s") else ()
        if behind.startswith(due := struct.pack(form, *mark, *sizes)):
            return end + len(due)
    raise ValueError(f"{entry.filename} lacks the sizes that should stand behind it")


def _kinds(extra: bytes) -> Iterator[int]:
    """Give the kind of each extra field."""
    at = 0
    while at < len(extra):
        kind, size = struct.unpack_from("<HH", extra, at)
        yield kind
        at += 4 + size
    if at != len(extra):
        raise ValueError("an entry's extra fields are cut")


def check_method(entry: zipfile.ZipInfo) -> None:
    """Refuse, by a ValueError, an entry that is encrypted or oddly compressed."""
    if entry.flag_bits & 1 or entry.compress_type not in (
        zipfile.ZIP_STORED,
        zipfile.ZIP_DEFLATED,
    ):
        raise ValueError(f"{entry.filename} is encrypted or oddly compressed; store or deflate it")


def read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int) -> bytes:
    """Give at most `limit` bytes of an entry that unpacks to what it says; a ValueError else."""
    with open_entry(archive, entry) as file:
        data = io.BytesIO()  # by and by: in one go `zipfile` would hold it twice
        while (left := limit - data.tell()) and (chunk := file.read(min(_CHUNK, left))):
            data.write(chunk)
    return data.getvalue()


def open_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> IO[bytes]:
    """Open an entry whose own header says what the directory does, and which is no bomb."""
    check_method(entry)
    if entry.compress_type == zipfile.ZIP_STORED and entry.file_size != entry.compress_size:
        raise ValueError(
            f"{entry.filename} is stored in {entry.compress_size} bytes and claims "
            f"{entry.file_size}"
        )
    if entry.file_size > max(FREE_BYTES, MAX_RATIO * entry.compress_size):
        raise ValueError(
            f"{entry.filename} unpacks from {entry.compress_size} to {entry.file_size} bytes, more "
            f"than {MAX_RATIO} times; store it"
        )
    _check_header(archive, entry)
    return archive.open(entry)


def _check_header(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Refuse, by a ValueError, an entry whose own header says another thing than the directory."""
    file = archive.fp
    if file is None:
        raise ValueError("the archive is closed")
    file.seek(entry.header_offset)
    head = file.read(_LOCAL.size)
    mark, _, flags, method, _, _, crc, packed, size, name_size, extra_size = _LOCAL.unpack(head)
    name = file.read(name_size).decode("utf-8" if flags & _UTF8 else "cp437")
    extra = file.read(extra_size)
    if _IN_64 in {packed, size}:
        size, packed = _sizes_64(extra)
    sizes = crc, packed, size
    recorded = entry.CRC, entry.compress_size, entry.file_size
    # Info-ZIP writes the size in front even where the rest follows.
    follow = flags & _SIZES_FOLLOW and sizes in ((0, 0, 0), (0, 0, entry.file_size))
    same = sizes == recorded or follow
    if (
        mark != b"PK\3\4"
        or not same
        or (name, method, flags & 1)
        != (entry.orig_filename, entry.compress_type, entry.flag_bits & 1)
    ):
        raise ValueError(f"{entry.filename} has a header that the directory contradicts")


def _sizes_64(extra: bytes) -> tuple[int, int]:
    """Give an entry's size and packed size from its header's field of 64 bits."""
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        if kind == 1 and size >= 16:
            unpacked, packed = struct.unpack_from("<QQ", extra, 4)
            return unpacked, packed
        extra = extra[4 + size :]
    raise ValueError("an entry's header lacks its sizes of 64 bits")


def _directory(file: IO[bytes]) -> tuple[int, int, int]:
    """Read where the directory ends, how many entries it says it has, and where it starts.

    It has to fill what is between the last entry and the end's own record: what lies there
    otherwise is a second directory to somebody.
    """
    size = file.seek(0, os.SEEK_END)
    tail_size = min(size, _END.size + 0xFFFF)
    file.seek(size - tail_size)
    tail = file.read(tail_size)
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < _END.size:
        raise ValueError("it has no directory at its end")
    _, disk, first, here, entries, length, start, comment = _END.unpack_from(tail, at)
    if at + _END.size + comment != len(tail) or disk or first or here != entries:
        raise ValueError("its end is damaged, or on another disk")
    end = size - tail_size + at
    if end >= _LOCATOR.size + _END64.size:
        file.seek(end - _LOCATOR.size)
        mark, _, where, _ = _LOCATOR.unpack(file.read(_LOCATOR.size))
        if mark == b"PK\6\7":
            end -= _LOCATOR.size + _END64.size
            file.seek(end)
            mark, *_, here, entries, length, start = _END64.unpack(file.read(_END64.size))
            if mark != b"PK\6\6" or where != end or here != entries:
                raise ValueError("its end of 64 bits is damaged")
    if start + length != end:
        raise ValueError("its directory is not where its end says")
    return end, entries, start
