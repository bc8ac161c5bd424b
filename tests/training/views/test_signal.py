"""Views of spectrograms: what is altered is what they say."""

import pytest
import torch
from torch import Tensor

from attar.errors import InvalidInput
from attar.training.views.spectrogram import alter


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
