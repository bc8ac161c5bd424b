"""Spoken digits: the Free Spoken Digit Dataset, whole in one compressed file.

3000 recordings at 8 kHz of six speakers (https://github.com/Jakobovski/free-spoken-digit-dataset).
`audio.xz` holds all samples, int16: differences from one to the next, zig-zagged so that small ones
are small numbers, the high bytes before the low ones. `meta.npz` has `offset`, `digit`, `speaker`
and `is_test` of each. The repository's own `recordings` are a folder of wav files like any other.
"""

import lzma
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from attar.errors import InvalidInput

from ..data.arrays import Npz
from ..data.audio import fitted
from ..data.source import Source, subset

AUDIO, META = "audio.xz", "meta.npz"
RATE = 8000  # Hz
FULL = np.float32(2**15)  # what a sample of 1 is


@dataclass(frozen=True, slots=True)
class Clips:
    """Recordings back to back, row i from offset[i] to offset[i + 1], as clips of one length.

    A longer recording gives its middle; a shorter one is followed by zeros.
    """

    samples: NDArray[np.int16]
    offset: NDArray[np.int64]
    length: int

    def __len__(self) -> int:
        return len(self.offset) - 1

    def __getitem__(self, rows: Int[Tensor, "b"], /) -> Float[Tensor, "b 1 length"]:
        spans = [slice(self.offset[row], self.offset[row + 1]) for row in rows.tolist()]
        clips = [fitted(self.samples[s].astype(np.float32) / FULL, self.length) for s in spans]
        return torch.from_numpy(np.stack(clips))[:, None]


def spoken_digits(
    folder: Path,
    *,
    length: int = RATE,
    speakers: Sequence[str] | None = None,
    test_speakers: Sequence[str] | None = None,
) -> Source:
    """Give clips of `length` samples in [-1, 1] and the digit that each one says.

    Without speakers the split is the official one, which shares all speakers between its parts and
    is nearly solved by anything. `speakers` train and `test_speakers` test instead; where only the
    latter are named, all others train.

    Raises InvalidInput for a damaged folder, a speaker that is not there, or one in both parts.
    """
    meta = Npz(folder / META)
    samples = _samples(folder / AUDIO)
    try:
        offset, digit, speaker, is_test = (
            meta[name] for name in ("offset", "digit", "speaker", "is_test")
        )
    except KeyError as error:
        raise InvalidInput(f"{folder / META} has no array {error}") from error
    clips = Clips(samples, offset.astype(np.int64), length)
    if length < 1 or len(samples) != offset[-1] or len(clips) != len(digit):
        raise InvalidInput(
            f"{folder} must have {offset[-1]} samples of {len(digit)} recordings, and length must "
            f"be at least 1; got {len(samples)} of {len(clips)}, and length {length}"
        )
    test = is_test.astype(np.bool_)
    train = ~test
    if speakers is not None or test_speakers is not None:
        train, test = _spoken_by(np.asarray(speaker).astype(str), speakers, test_speakers)
    rows, held = np.flatnonzero(train), np.flatnonzero(test)
    labels = digit.astype(np.int64)
    return Source(
        train=subset(clips, torch.from_numpy(rows)),
        train_labels=labels[rows],
        test=subset(clips, torch.from_numpy(held)) if len(held) else None,
        test_labels=labels[held] if len(held) else None,
        rate=RATE,
    )


def _spoken_by(
    speaker: NDArray[np.str_], train: Sequence[str] | None, test: Sequence[str] | None
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    there = sorted(set(speaker.tolist()))
    tested = list(test or ())
    trained = [name for name in there if name not in tested] if train is None else list(train)
    if not trained or set(trained) & set(tested) or not {*trained, *tested} <= set(there):
        raise InvalidInput(
            f"speakers must be some of {', '.join(there)}, each in one part; got {trained} to "
            f"train and {tested} to test"
        )
    return np.isin(speaker, trained), np.isin(speaker, tested)


def _samples(path: Path) -> NDArray[np.int16]:
    try:
        with lzma.open(path) as file:
            content = file.read()
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise InvalidInput(f"{path} cannot be decompressed: {error}") from error
    if len(content) % 2:
        raise InvalidInput(f"{path} must hold samples of two bytes; got {len(content)} bytes")
    high, low = np.frombuffer(content, np.uint8).reshape(2, -1).astype(np.uint16)
    zigzag = (high << 8) | low
    difference = ((zigzag >> 1) ^ (0 - (zigzag & 1))).astype(np.uint16).view(np.int16)
    samples: NDArray[np.int16] = np.cumsum(difference, dtype=np.int16)
    return samples
