"""Views of spectrograms, and frames: what is altered is what they say."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from attar.errors import InvalidInput
from attar.training.views.frames import log_mel, mel_filters, normalized
from attar.training.views.spectrogram import alter

seeds = st.integers(0, 999)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def frames(n: int = 500, bins: int = 20, length: int = 70) -> Tensor:
    return 5 + torch.rand(n, bins, length, generator=seeded(7))


def test_an_alteration_leaves_all_but_the_hidden_cells() -> None:
    view = alter(frames(), seeded(0), magnitude=0.0)
    hidden = view.params["hidden"]
    assert torch.equal(view.data[~hidden], frames()[~hidden])
    assert 0.1 < hidden.float().mean() < 0.4


def test_time_hides_its_share_in_spans_with_three_fates() -> None:
    view = alter(frames(2000), seeded(0), time=0.2, frequency=0.0, magnitude=0.0)
    hidden = view.params["hidden"]
    assert torch.equal(hidden, hidden[:, :1].expand_as(hidden))
    assert hidden[:, 0].sum(1).tolist() == [14] * 2000  # two spans of seven of 70 frames
    zeroed, stayed, replaced = 0, 0, 0
    for before, after, frame in zip(frames(2000), view.data, hidden[:, 0], strict=True):
        seen, was = after[:, frame], before[:, frame]
        zeroed += not seen.any()
        stayed += torch.equal(seen, was)
        if seen.all() and not torch.equal(seen, was):
            replaced += 1
            elsewhere = (seen.T[:, None] == before.T[None]).all(2)  # (14, 70)
            assert elsewhere.any(1).all()
    assert zeroed + stayed + replaced == 2000
    assert zeroed == pytest.approx(1600, abs=80)
    assert stayed == pytest.approx(200, abs=65)


def test_frequency_zeroes_one_band_of_every_width_and_place() -> None:
    view = alter(frames(2000), seeded(0), time=0.0, magnitude=0.0)
    hidden = view.params["hidden"]
    assert torch.equal(hidden, hidden[:, :, :1].expand_as(hidden))
    band = hidden[:, :, 0]
    assert not view.data[hidden].any()
    assert torch.equal(view.data[~hidden], frames(2000)[~hidden])
    widths = band.sum(1).bincount().tolist()
    assert len(widths) == 5  # 0 to a fifth of 20 bins
    assert min(widths) > 300
    assert (band.int().diff(prepend=torch.zeros(2000, 1)) == 1).sum(1).max() == 1  # one run
    assert band.any(0).all()


def test_magnitude_makes_its_share_noisy() -> None:
    view = alter(frames(2000), seeded(0), time=0.0, frequency=0.0)
    assert view.params["hidden"].all()
    noise = view.data - frames(2000)
    noisy = noise.flatten(1).any(1)
    assert int(noisy.sum()) == pytest.approx(300, abs=80)
    assert float(noise[noisy].std()) == pytest.approx(0.2, abs=0.005)


def test_an_alteration_refuses_what_it_cannot_do() -> None:
    with pytest.raises(InvalidInput, match=r"frequency must be in \[0, 1\]; got 1.2"):
        alter(frames(), seeded(0), frequency=1.2)
    with pytest.raises(InvalidInput, match="span must be"):
        alter(frames(2, 4, 5), seeded(0))


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
        log_mel(torch.zeros(1, 600), rate=8000, window=200, hop=80)
    with pytest.raises(InvalidInput, match=r"window in \[2, samples = 100\]; got 80 and 256"):
        log_mel(torch.zeros(1, 100), rate=8000, window=256, hop=80)


@given(
    offset=st.floats(-100, 100), factor=st.floats(0.01, 100), length=st.integers(2, 50), seed=seeds
)
def test_normalized_channels_have_mean_zero_and_variance_one_in_any_unit(
    offset: float, factor: float, length: int, seed: int
) -> None:
    plain = torch.randn(3, 2, length, generator=seeded(seed), dtype=torch.float64)
    found = normalized(plain * factor + offset)
    torch.testing.assert_close(found, normalized(plain), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found.mean(2), torch.zeros(3, 2, dtype=torch.float64))
    torch.testing.assert_close(found.square().mean(2), torch.ones(3, 2, dtype=torch.float64))


def test_a_constant_channel_becomes_zero() -> None:
    assert not normalized(torch.full((2, 3, 5), 7.0)).any()
