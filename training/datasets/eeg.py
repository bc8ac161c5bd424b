"""EEG, made up: seeded noise with rhythms, and spike-wave bursts to be found in it."""

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.source import Source

RATE = 128  # Hz
LENGTH = 512  # samples of a segment


def eeg(*, train: int = 480, test: int = 240, seed: int = 0) -> Source:
    """Give four-second segments of one channel, labelled 1 where there is a burst, else 0.

    A channel is autoregressive noise (poles at 0 and 10 Hz) whose alpha rhythm waxes and wanes, in
    units of its deviation, with one to three blinks several times as large. A burst are three
    spike-wave complexes a second for 1 to 2 s, larger than blinks; one in five training segments
    has one, and half of the test segments.
    """
    draw = np.random.default_rng([seed, RATE])
    parts = []
    for count, every in ((train, 5), (test, 2)):
        labels = draw.permutation(np.arange(count) % every == 0).astype(np.int64)
        series = np.stack([_segment(draw, burst=bool(label)) for label in labels])
        parts.append((torch.from_numpy(series.astype(np.float32))[:, None], labels))
    (seen, seen_labels), (held, held_labels) = parts
    return Source(train=seen, train_labels=seen_labels, test=held, test_labels=held_labels)


def _segment(draw: np.random.Generator, *, burst: bool) -> NDArray[np.float64]:
    segment = _background(draw)
    if burst:
        added = _burst(draw)
        start = draw.integers(LENGTH - len(added))
        segment[start : start + len(added)] += added
    return segment


def _background(draw: np.random.Generator) -> NDArray[np.float64]:
    """Pass white noise through the poles; a window around the alpha rhythm moves its strength."""
    drift = _filtered(draw.normal(size=2 * LENGTH), 0.0, 0.9)
    alpha = _filtered(draw.normal(size=2 * LENGTH), 10.0, 0.97)
    time = np.arange(2 * LENGTH) / RATE
    swell = 0.5 + 0.5 * np.sin(2 * np.pi * draw.uniform(0.1, 0.3) * time + draw.uniform(0, 6.3))
    series = drift / drift.std() + draw.uniform(0.5, 1.5) * swell * alpha / alpha.std()
    background = (series / series.std())[LENGTH:]
    for _ in range(draw.integers(1, 4)):
        blink = draw.uniform(3, 5) * np.sin(
            np.linspace(0, np.pi, int(draw.uniform(0.2, 0.4) * RATE))
        )
        start = draw.integers(LENGTH - len(blink))
        background[start : start + len(blink)] += draw.choice([-1, 1]) * blink
    return np.asarray(background)


def _filtered(white: NDArray[np.float64], hertz: float, radius: float) -> NDArray[np.float64]:
    """Filter by a pair of poles of `radius` at a frequency, as a convolution with its response."""
    time = np.arange(LENGTH)
    response = radius**time * np.cos(2 * np.pi * hertz / RATE * time)
    return np.convolve(white, response)[: len(white)]


def _burst(draw: np.random.Generator) -> NDArray[np.float64]:
    """Make complexes of a sharp spike and a slow wave, about three a second."""
    time = np.arange(int(draw.uniform(1, 2) * RATE)) / RATE
    phase = (draw.uniform(2.5, 3.5) * time) % 1
    spike = np.exp(-(((phase - 0.15) / 0.04) ** 2))
    wave = np.where(phase > 0.3, np.sin(np.pi * (phase - 0.3) / 0.7), 0)
    return np.asarray(draw.uniform(4, 8) * (spike * 1.5 - wave))
