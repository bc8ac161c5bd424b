"""Recordings, as WAV files and as the packed set of spoken digits has them."""

import lzma
import wave
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FULL = {1: 2**7, 2: 2**15, 3: 2**23, 4: 2**31}  # by bytes a sample


def save(
    path: Path, samples: NDArray[np.float64], *, rate: int = 8000, size: int = 2, channels: int = 1
) -> None:
    """Write samples in [-1, 1), the same in every channel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = np.round(samples * FULL[size]).astype(np.int64) + (128 if size == 1 else 0)
    raw = np.repeat(whole, channels).astype("<i8").view(np.uint8).reshape(-1, 8)[:, :size]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(size)
        file.setframerate(rate)
        file.writeframes(raw.tobytes())


def tone(rate: int, samples: int, hz: float = 100) -> NDArray[np.float64]:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(samples) / rate)


def pack(folder: Path, clips: list[list[int]], **meta: list[object]) -> None:
    """Write recordings as the packed set has them: by its specification alone."""
    samples = [sample for clip in clips for sample in clip]
    words = []
    for before, sample in zip([0, *samples], samples, strict=False):
        difference = (sample - before + 2**15) % 2**16 - 2**15
        words.append((2 * difference if difference >= 0 else -2 * difference - 1) % 2**16)
    planes = bytes(word >> 8 for word in words) + bytes(word & 255 for word in words)
    (folder / "audio.xz").write_bytes(lzma.compress(planes))
    arrays: dict[str, Any] = {name: np.array(values) for name, values in meta.items()}
    np.savez(folder / "meta.npz", offset=np.cumsum([0, *map(len, clips)]), **arrays)


CLIPS = [[0, 32767, -32768, 5], [-1], [7, 8], [300, -300, 300]]
META: dict[str, list[object]] = {
    "digit": [3, 1, 3, 1],
    "speaker": ["ann", "ben", "ann", "cat"],
    "is_test": [0, 1, 0, 0],
}
