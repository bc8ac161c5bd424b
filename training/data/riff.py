"""RIFF: a wav file's header, and where its samples lie; PCM and IEEE floats of any width."""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from attar.errors import InvalidInput

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
OTHERS = {2: "ADPCM", 6: "A-law", 7: "mu-law", 17: "IMA ADPCM", 49: "GSM", 85: "MP3"}
TAIL = bytes.fromhex("000000001000800000aa00389b71")  # of every extensible format's identifier
WIDTHS = {PCM: (1, 2, 3, 4), FLOAT: (4, 8)}  # bytes a sample
OPEN_END = 0x7FFF0000  # a size from here on is a stream's whose writer knew no length
RATES = range(1, 1_000_001)  # Hz
LOUDEST = 128.0  # a float sample is in [-1, 1] but for some headroom; whole numbers go far beyond


@dataclass(frozen=True, slots=True)
class Header:
    """What a wav file says of its samples, held to the bytes that are there."""

    frames: int
    rate: int  # Hz
    channels: int
    width: int  # bytes a sample
    floating: bool
    start: int  # of the first frame in the file


def read_header(path: Path) -> Header:
    """Read a wav file's header.

    Raises InvalidInput for a file that is none, is cut, has no samples, or whose samples are
    compressed.
    """
    try:
        with path.open("rb") as file:
            return _header(path, file, path.stat().st_size)
    except (OSError, struct.error, ValueError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(
            f"{path} cannot be read as a wav file of PCM samples ({error}); convert or remove it"
        ) from error


def read_frames(path: Path, header: Header, start: int, count: int) -> NDArray[np.float64]:
    """Read `count` frames from one on, (frames, channels): PCM in [-1, 1), floats as they are.

    Raises InvalidInput for floats that are not finite or are no sound in [-1, 1].
    """
    size = header.width * header.channels
    try:
        with path.open("rb") as file:
            file.seek(header.start + start * size)
            content = file.read(min(count, header.frames - start) * size)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from error
    content = content[: len(content) - len(content) % size]
    samples = (
        _floats(path, content, header) if header.floating else _integers(content, header.width)
    )
    return samples.reshape(-1, header.channels)


def _header(path: Path, file: BinaryIO, size: int) -> Header:
    mark, _, form = struct.unpack("<4sI4s", file.read(12))
    if mark != b"RIFF" or form != b"WAVE":
        raise ValueError(f"it begins with {mark!r} and not with RIFF and WAVE")
    layout = None
    while len(chunk := file.read(8)) == 8:
        name, length = struct.unpack("<4sI", chunk)
        if name == b"fmt ":
            layout = _layout(file.read(length + length % 2))
        elif name == b"data":
            if layout is None:
                raise ValueError("its samples come before its format")
            return _held(path, layout, file.tell(), length, size)
        else:
            file.seek(length + length % 2, 1)
    raise InvalidInput(f"{path} holds no samples; take it away")


def _layout(content: bytes) -> tuple[int, int, int, bool]:
    """Give channels, rate, bytes a sample and whether they are floats."""
    form, channels, rate, _, block, bits = struct.unpack("<HHIIHH", content[:16])
    if form == EXTENSIBLE:
        if len(content) < 40 or content[26:40] != TAIL:
            raise ValueError("its extensible format is none that is known")
        (form,) = struct.unpack("<H", content[24:26])
    if form not in WIDTHS:
        raise ValueError(f"its samples are {OTHERS.get(form, f'of format {form}')}")
    width = bits // 8
    if width not in WIDTHS[form] or bits % 8 or channels < 1 or block != channels * width:
        raise ValueError(f"{channels} channels of {bits} bits in {block} bytes")
    if rate not in RATES:
        raise ValueError(f"its rate is {rate} Hz")
    return channels, rate, width, form == FLOAT


def _held(
    path: Path, layout: tuple[int, int, int, bool], start: int, length: int, size: int
) -> Header:
    """Hold the size of the samples to that of the file."""
    channels, rate, width, floating = layout
    there = size - start
    if length > there and length < OPEN_END:
        raise InvalidInput(
            f"{path} says that it has {length:,} bytes of samples, and {there:,} are there; copy "
            "it again or remove it"
        )
    frames = min(length, there) // (channels * width)
    if frames < 1:
        raise InvalidInput(f"{path} holds no samples; take it away")
    return Header(frames, rate, channels, width, floating, start)


def _floats(path: Path, content: bytes, header: Header) -> NDArray[np.float64]:
    samples = np.frombuffer(content, f"<f{header.width}").astype(np.float64)
    loudest = np.abs(samples).max(initial=0)
    if not loudest < LOUDEST:  # which NaN fails too
        raise InvalidInput(
            f"{path} has float samples up to {loudest:.4g}; sound is finite and in [-1, 1], so "
            "divide by its full scale"
        )
    return samples


def _integers(content: bytes, width: int) -> NDArray[np.float64]:
    """Decode PCM, little-endian and (at 8 bits) unsigned."""
    raw = np.frombuffer(content, np.uint8).reshape(-1, width)
    wide = np.zeros((len(raw), 4), np.uint8)  # the most significant bytes of an int32
    wide[:, 4 - width :] = raw ^ 0x80 if width == 1 else raw
    values: NDArray[np.float64] = wide.view("<i4")[:, 0].astype(np.float64) / 2**31
    return values
