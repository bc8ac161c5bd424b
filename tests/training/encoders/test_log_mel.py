"""Log-mel frames and their scaling in the graph are those of the definition, and of a library."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from attar.errors import InvalidInput
from attar.training.encoders.instance_norm import instance_norm
from attar.training.encoders.log_mel import LogMel, LogMelConfig, mel_filters

seeds = st.integers(0, 999)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def log_mel(waves: Tensor, *, rate: int, window: int, hop: int, bands: int = 80) -> Tensor:
    """Run the module in the precision of the waveforms."""
    shape = LogMelConfig(hertz=rate, window=window, hop=hop, bands=bands)
    frames: Tensor = LogMel(shape).to(waves.dtype)(waves)
    return frames


def log_mel_oracle(
    wave: list[float], rate: int, window: int, hop: int, bands: int
) -> list[list[float]]:
    """The definition, one sum at a time: transform, triangles, logarithm."""
    mel = [2595 * math.log10(1 + rate / 2 / 700) * at / (bands + 1) for at in range(bands + 2)]
    corner = [700 * (10 ** (m / 2595) - 1) for m in mel]
    rows = []
    for start in range(0, len(wave) - window + 1, hop):
        part = [
            x * (0.5 - 0.5 * math.cos(2 * math.pi * at / window))
            for at, x in enumerate(wave[start : start + window])
        ]
        power = []
        for k in range(window // 2 + 1):
            turns = [-2j * math.pi * k * at / window for at in range(window)]
            power.append(
                abs(sum(x * np.exp(turn) for x, turn in zip(part, turns, strict=True))) ** 2
            )
        row = []
        for band in range(bands):
            low, middle, high = corner[band : band + 3]
            energy = 0.0
            for k, p in enumerate(power):
                hertz = k * rate / window
                rise, fall = (hertz - low) / (middle - low), (high - hertz) / (high - middle)
                energy += p * max(0.0, min(rise, fall))
            row.append(math.log(max(energy, 1e-6)))
        rows.append(row)
    return [list(column) for column in zip(*rows, strict=True)]


def test_log_mel_frames_are_those_of_the_definition() -> None:
    waves = torch.randn(2, 150, generator=seeded(0), dtype=torch.float64)
    found = log_mel(waves, rate=8000, window=64, hop=20, bands=9)
    assert found.shape == (2, 9, 5)
    for wave, bands in zip(waves, found, strict=True):
        expected = log_mel_oracle(wave.tolist(), 8000, 64, 20, 9)
        np.testing.assert_allclose(bands.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("hertz", [200.0, 800.0, 3000.0])
def test_a_tone_is_loudest_in_its_own_band(hertz: float) -> None:
    wave = torch.sin(2 * math.pi * hertz / 8000 * torch.arange(4000))[None]
    loudest = log_mel(wave, rate=8000, window=512, hop=128, bands=40).mean(2).argmax()
    mel = 2595 * math.log10(1 + hertz / 700) / (2595 * math.log10(1 + 4000 / 700)) * 41
    assert abs(int(loudest) + 1 - mel) <= 1


def test_bands_add_up_to_one_between_the_first_and_the_last() -> None:
    total = mel_filters(8000, 512, 40).sum(0)
    frequencies = torch.arange(257) * 8000 / 512
    inside = (frequencies > 60) & (frequencies < 3700)
    torch.testing.assert_close(total[inside], torch.ones(int(inside.sum())))


def test_silence_is_the_floor() -> None:
    found = log_mel(torch.zeros(1, 600), rate=8000, window=256, hop=80, bands=20)
    torch.testing.assert_close(found, torch.full_like(found, math.log(1e-6)))


def test_frames_refuse_what_they_cannot_do() -> None:
    with pytest.raises(InvalidInput, match="80 bands are finer than 200 samples at 8000 Hz"):
        LogMelConfig(hertz=8000, window=200, hop=80, bands=80)
    with pytest.raises(InvalidInput, match="hop must be at least 1"):
        LogMelConfig(hop=0)
    with pytest.raises(InvalidInput, match=r"a waveform needs 768 samples or more.*got 767"):
        LogMelConfig().refuse_short(767)


def test_log_mel_frames_are_those_of_transformers() -> None:
    """Of its HTK triangles and power spectra, which share no code with attar's."""
    waves = 0.1 * torch.randn(3, 4000, generator=seeded(0))
    found = log_mel(waves, rate=8000, window=512, hop=256, bands=40)
    filters = mel_filter_bank(257, 40, 0.0, 4000.0, 8000, norm=None, mel_scale="htk")
    for wave, bands in zip(waves.numpy(), found, strict=True):
        expected = spectrogram(
            wave,
            window_function(512, "hann"),
            frame_length=512,
            hop_length=256,
            power=2.0,
            center=False,
            mel_filters=filters,
            mel_floor=1e-6,
            log_mel="log",
        )
        np.testing.assert_allclose(bands.numpy(), expected, atol=1e-3)


@given(
    offset=st.floats(-100, 100), factor=st.floats(0.01, 100), length=st.integers(2, 50), seed=seeds
)
def test_normalized_channels_have_mean_zero_and_variance_one_in_any_unit(
    offset: float, factor: float, length: int, seed: int
) -> None:
    plain = torch.randn(3, 2, length, generator=seeded(seed), dtype=torch.float64)
    found = instance_norm(plain * factor + offset)
    torch.testing.assert_close(found, instance_norm(plain), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found.mean(2), torch.zeros(3, 2, dtype=torch.float64))
    torch.testing.assert_close(found.square().mean(2), torch.ones(3, 2, dtype=torch.float64))


def test_a_constant_channel_becomes_zero() -> None:
    assert not instance_norm(torch.full((2, 3, 5), 7.0)).any()
