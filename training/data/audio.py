"""Recordings: wav files as clips of one rate and one length, read when they are used."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from attar.errors import InvalidInput

from .folder import Files, files_of
from .riff import RATES, read_frames, read_header
from .source import Rows, Source, item_shape
from .split import DataSplit

LONGEST = 2**26  # samples of a clip: 23 minutes of 48 kHz


@dataclass(frozen=True, slots=True)
class Waveforms:
    """Clips of one channel, (1, samples) each, as waveforms."""

    clips: Rows

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, rows: Int[Tensor, "b"], /) -> Float[Tensor, "b samples"]:
        return self.clips[rows][:, 0]


def waveforms(data: Source, *, hertz: int) -> Source:
    """Give a source's clips as waveforms, (samples,) each; those that are so stay as they are.

    Raises InvalidInput for clips of several channels, and where their rate is known to be another
    than `hertz`.
    """
    if data.rate not in (None, hertz):
        raise InvalidInput(
            f"the recordings are at {data.rate:,} Hz, and the encoder takes {hertz:,} Hz: read "
            f"them by rate={hertz}, or train with frames.hertz={data.rate}"
        )
    shape = item_shape(data.train)
    if len(shape) == 1:
        return data
    if len(shape) != 2 or shape[0] != 1:
        raise InvalidInput(
            f"sound has one channel, (1, samples) an item; got {shape}: average its channels"
        )
    test = None if data.test is None else Waveforms(data.test)
    return replace(data, train=Waveforms(data.train), test=test)


@dataclass(frozen=True, slots=True)
class WavFiles:
    """Mono clips of `length` samples at `rate` Hz, in [-1, 1].

    A longer recording gives its middle, of which alone is read; a shorter one is followed by zeros.
    """

    paths: tuple[Path, ...]
    rate: int
    length: int

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: Int[Tensor, "b"], /) -> Float[Tensor, "b 1 length"]:
        clips = [_clip(self.paths[row], self.rate, self.length) for row in rows.tolist()]
        return torch.from_numpy(np.stack(clips))[:, None]


def audio_folder(folder: Path, *, rate: int | None = None, length: int | None = None) -> DataSplit:
    """Give the recordings of `folder/class/...` and each one's class, or those of a flat folder.

    `rate` in Hz is the first recording's unless given, and others are resampled to it; `length` in
    samples is one second. Raises InvalidInput when there are none or other data too (see
    `folder.files_of`), or the first is no PCM or float wav.
    """
    return wav_files(files_of(folder, kind="recordings")[1], rate=rate, length=length)


def wav_files(files: Files, *, rate: int | None, length: int | None) -> DataSplit:
    """Give recordings that `files_of` listed."""
    classes = files.classes()
    chosen_rate = rate
    rate = read_header(files.paths[0]).rate if rate is None else rate
    length = rate if length is None else length
    if rate not in RATES or not 1 <= length <= LONGEST:
        raise InvalidInput(
            f"rate and length must be at least 1, and at most {RATES[-1]:,} Hz and {LONGEST:,} "
            f"samples; got {rate} Hz, {length} samples"
        )
    whose = "the first recording's" if chosen_rate is None else "as given"
    notes = (
        f"{rate:,} Hz, {whose}, to which others are resampled; channels are averaged",
        f"clips of {length:,} samples: a longer recording's middle, a shorter one and zeros",
    )
    items = WavFiles(files.paths, rate, length)
    return DataSplit(str(files.folder), items, classes, files.passed_over, notes, rate=rate)


def lengths(clips: Float[Tensor, "b 1 n"]) -> Int[Tensor, "b"]:
    """Give how many samples of each clip were recorded: those before the zeros that end it.

    A recording that ends in exact silence counts as ending where that begins.
    """
    positions = torch.arange(1, clips.shape[2] + 1, device=clips.device)
    return (positions * (clips[:, 0] != 0)).amax(1)


def fitted(samples: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """Keep the middle `length` of (n,) samples, or add zeros after them."""
    if len(samples) >= length:
        return samples[(len(samples) - length) // 2 :][:length]
    return np.pad(samples, (0, length - len(samples)))


def _clip(path: Path, rate: int, length: int) -> NDArray[np.float32]:
    """Read the middle of a recording, average its channels and bring it to a rate."""
    header = read_header(path)
    needed = math.ceil(length * header.rate / rate)
    start = max(header.frames - needed, 0) // 2
    samples = read_frames(path, header, start, needed).mean(1)
    if header.rate != rate:
        from scipy.signal import resample_poly

        common = math.gcd(rate, header.rate)
        samples = resample_poly(samples, rate // common, header.rate // common)
    return fitted(samples.astype(np.float32), length)
