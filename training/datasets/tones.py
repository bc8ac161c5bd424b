"""Tones: seeded clips of notes, chords and glides, for audio that is here without a download."""

from itertools import permutations
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.source import Source

RATE = 8000  # Hz
LENGTH = 8000  # samples
Timbre: TypeAlias = Literal["flute", "reed"]
ORDERS = tuple(permutations(range(3)))
CHORD, RISE, FALL = range(len(ORDERS), len(ORDERS) + 3)
CLASSES = len(ORDERS) + 3


def tones(timbre: Timbre = "flute", *, train: int = 720, test: int = 360, seed: int = 0) -> Source:
    """Give one-second clips at 8 kHz in [-1, 1], and which of nine figures each one plays.

    A figure is three notes in one of their six orders, a chord of all three, or a glide up or down
    over their range. Root, intervals, onsets, loudness and background noise vary from clip to clip,
    so that the mean spectrum does not show the order. A flute is low, with few overtones and white
    noise; a reed is higher, has odd overtones and vibrato, and hums. Both have the same figures.
    """
    draw = np.random.default_rng([seed, ("flute", "reed").index(timbre)])
    count = train + test
    labels = draw.permutation(np.arange(count) % CLASSES)
    clips = torch.from_numpy(np.stack([_clip(int(label), timbre, draw) for label in labels]))[
        :, None
    ]
    return Source(
        train=clips[:train],
        train_labels=labels[:train],
        test=clips[train:],
        test_labels=labels[train:],
        rate=RATE,
    )


def _clip(label: int, timbre: Timbre, draw: np.random.Generator) -> NDArray[np.float32]:
    time = np.arange(LENGTH) / RATE
    root = (180 if timbre == "flute" else 320) * 2 ** draw.uniform(0, 1)
    third, fifth = draw.uniform(3, 5), draw.uniform(7, 10)  # semitones above the root
    notes = root * 2 ** (np.array([0, third, fifth]) / 12)
    onset = draw.uniform(0, 0.1)
    if label == CHORD:
        played = sum(_note(note, onset, 0.9, time, timbre) for note in notes) / 3
    elif label in (RISE, FALL):
        ends = notes[[0, 2]] if label == RISE else notes[[2, 0]]
        course = ends[0] * (ends[1] / ends[0]) ** np.clip((time - onset) / 0.85, 0, 1)
        played = _voice(course, timbre) * _envelope(time, onset, 0.85)
    else:
        starts = onset + np.array([0, 0.3, 0.6]) + draw.uniform(-0.03, 0.03, 3)
        order = zip(ORDERS[label], starts, strict=True)
        played = sum(_note(notes[index], start, 0.28, time, timbre) for index, start in order)
    noise = draw.normal(size=LENGTH)
    if timbre == "reed":
        noise = noise / 2 + np.sin(2 * np.pi * 100 * time + draw.uniform(0, 2 * np.pi))
    clip = played * draw.uniform(0.2, 0.6) + noise * draw.uniform(0.01, 0.05)
    return np.clip(clip, -1, 1).astype(np.float32)


def _note(
    note: float, start: float, length: float, time: NDArray[np.float64], timbre: Timbre
) -> NDArray[np.float64]:
    return _voice(np.full(LENGTH, note), timbre) * _envelope(time, start, length)


def _voice(course: NDArray[np.float64], timbre: Timbre) -> NDArray[np.float64]:
    """Sing along a course of frequencies (LENGTH,) in Hz."""
    if timbre == "reed":
        course = course * (1 + 0.01 * np.sin(2 * np.pi * 6 * np.arange(LENGTH) / RATE))
    phase = 2 * np.pi * np.cumsum(course) / RATE
    overtones = (1, 2, 3) if timbre == "flute" else (1, 3, 5)
    fall = 2.0 if timbre == "flute" else 0.7
    voice: NDArray[np.float64] = sum(np.sin(n * phase) / n**fall for n in overtones)
    return voice / 2


def _envelope(time: NDArray[np.float64], start: float, length: float) -> NDArray[np.float64]:
    """Rise within 10 ms and die away over `length` seconds."""
    since = time - start
    return (
        np.clip(since / 0.01, 0, 1)
        * np.exp(-2 * np.clip(since, 0, None) / length)
        * (since < length)
    )
