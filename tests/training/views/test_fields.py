"""Random fields have the spectrum they promise, and batch styles take amplitudes and no phases."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from attar.errors import InvalidInput, ShapeError
from attar.training.views.fields import gaussian_field, random_fields
from attar.training.views.fourier import batch_style, low_frequencies

Array = NDArray[np.float32]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int = 5, colours: int = 3, height: int = 20, width: int = 16) -> Tensor:
    return torch.rand(n, colours, height, width, generator=seeded(7))


@pytest.mark.parametrize("gamma", [1.0, 2.0, 3.0, 4.5])
def test_the_spectrum_of_a_field_falls_as_promised(gamma: float) -> None:
    noise = torch.randn(64, 48, 64, generator=seeded(0), dtype=torch.float64)
    power = np.square(np.abs(np.fft.fft2(gaussian_field(noise, gamma=gamma).numpy()))).mean(0)
    k = np.hypot(np.fft.fftfreq(48)[:, None], np.fft.fftfreq(64)).ravel()
    slope = np.polyfit(np.log(k[1:]), np.log(power.ravel()[1:]), 1)[0]
    assert slope == pytest.approx(-gamma, rel=0.1)


@given(
    height=st.integers(2, 9),
    width=st.integers(2, 9),
    gamma=st.floats(0, 6),
    seed=st.integers(0, 99),
)
def test_a_field_has_mean_zero_and_deviation_one(
    height: int, width: int, gamma: float, seed: int
) -> None:
    noise = torch.randn(3, height, width, generator=seeded(seed), dtype=torch.float64)
    field = gaussian_field(noise, gamma=gamma)
    torch.testing.assert_close(field.mean((1, 2)), torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(field.square().mean((1, 2)), torch.ones(3, dtype=torch.float64))


def test_without_deviation_the_images_are_unchanged() -> None:
    view = random_fields(images(), seeded(0), displacement=0, degrees=0, scale=0)
    assert torch.equal(view.data, images())
    assert not view.params


def test_deviations_are_the_requested_ones() -> None:
    view = random_fields(
        images(),
        seeded(0),
        displacement=0.1,
        degrees=9.0,
        scale=0.2,
        hue=0.3,
        saturation=0.4,
        brightness=0.5,
    )
    found = {name: field.square().mean((-2, -1)).sqrt() for name, field in view.params.items()}
    across_and_down = torch.tensor([1.6, 2.0]).expand(5, 2)  # a tenth of either side, in pixels
    torch.testing.assert_close(found.pop("displacement"), across_and_down)
    expected = {"angle": math.radians(9), "scale": 0.2, "hue": 0.3, "saturation": 0.4}
    assert found.keys() == {*expected, "brightness"}
    for name, deviation in {**expected, "brightness": 0.5}.items():
        torch.testing.assert_close(found[name], torch.full((5,), deviation))


def mirrored(at: float, size: int) -> float:
    """Reflect a place about the outer edges of the first and the last pixel."""
    at = (at + 0.5) % (2 * size)
    return min(max(min(at, 2 * size - at) - 0.5, 0.0), size - 1.0)


def bent(image: Array, fields: dict[str, Array]) -> Array:
    """Show at each pixel what its fields point at, pixel by pixel."""
    height, width = image.shape[1:]
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    out = np.zeros_like(image)
    for y in range(height):
        for x in range(width):
            angle, stretch = fields["angle"][y, x], math.exp(fields["scale"][y, x])
            dx, dy = x - middle_x, y - middle_y
            to_x = stretch * (math.cos(angle) * dx - math.sin(angle) * dy) + middle_x
            to_y = stretch * (math.sin(angle) * dx + math.cos(angle) * dy) + middle_y
            to_x = mirrored(to_x + fields["displacement"][0, y, x], width)
            to_y = mirrored(to_y + fields["displacement"][1, y, x], height)
            left, top = min(int(to_x), width - 2), min(int(to_y), height - 2)
            right, low = to_x - left, to_y - top
            corners = image[:, top : top + 2, left : left + 2]
            weights = np.array([[1 - low], [low]]) * np.array([1 - right, right])
            out[:, y, x] = (corners * weights).sum((1, 2))
    return out


def test_a_bent_image_shows_what_its_fields_point_at() -> None:
    view = random_fields(images(), seeded(0), displacement=0.1, degrees=20, scale=0.2)
    for row, image in enumerate(images()):
        fields = {name: field[row].numpy() for name, field in view.params.items()}
        np.testing.assert_allclose(view.data[row].numpy(), bent(image.numpy(), fields), atol=1e-4)


def test_colours_are_turned_bleached_and_brightened_as_said() -> None:
    still = {"displacement": 0.0, "degrees": 0.0, "scale": 0.0}
    red = torch.tensor([1.0, 0.0, 0.0])[:, None, None].expand(2, 3, 8, 8)
    turned = random_fields(red, seeded(0), **still, hue=0.05)
    hue = turned.params["hue"] % 1
    near = (hue < 1 / 6) | (hue > 5 / 6)  # where red is full, and either green or blue is none
    green, blue = (6 * hue).where(hue < 0.5, 0.0), (6 * (1 - hue)).where(hue > 0.5, 0.0)
    expected = torch.stack([torch.ones_like(hue), green, blue], 1)
    assert near.float().mean() > 0.9
    near = near[:, None].expand(-1, 3, -1, -1)
    torch.testing.assert_close(turned.data[near], expected[near], atol=1e-4, rtol=0)

    bleached = random_fields(red, seeded(0), **still, saturation=0.3)
    white = (-bleached.params["saturation"]).clamp(0, 1)
    expected = torch.stack([torch.ones_like(white), white, white], 1)
    torch.testing.assert_close(bleached.data, expected, atol=1e-4, rtol=0)

    grey = torch.full((2, 1, 8, 8), 0.5)
    bright = random_fields(grey, seeded(0), **still, brightness=0.3)
    expected = (grey + bright.params["brightness"][:, None]).clamp(0, 1)
    torch.testing.assert_close(bright.data, expected)


def test_fields_refuse_what_they_cannot_do() -> None:
    with pytest.raises(InvalidInput, match=r"deviation of scale must be at least 0; got -0.1"):
        random_fields(images(), seeded(0), scale=-0.1)
    with pytest.raises(ShapeError, match=r"hue and saturation need \(n, 3, h, w\)"):
        random_fields(images(colours=1), seeded(0), hue=0.1)


@settings(max_examples=40)
@given(
    height=st.integers(3, 12),
    width=st.integers(3, 12),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_a_batch_shares_one_images_low_amplitudes_and_keeps_its_phases(
    height: int, width: int, share: float, seed: int
) -> None:
    before = torch.rand(4, 2, height, width, generator=seeded(seed), dtype=torch.float64)
    view = batch_style(before, seeded(seed), area=(share, share))
    style = int(view.params["style"][0])
    assert view.params["style"].tolist() == [style] * 4
    low = low_frequencies(height, width, float(view.params["area"][0]))
    old, new = torch.fft.rfft2(before), torch.fft.rfft2(view.data)
    shared = old[style].abs().where(low, old.abs())
    torch.testing.assert_close(new.abs(), shared)
    torch.testing.assert_close(new, torch.polar(shared, old.angle()))
    torch.testing.assert_close(view.data[style], before[style])


@given(height=st.integers(1, 15), width=st.integers(1, 15), share=st.floats(0, 1))
def test_low_frequencies_are_the_largest_centred_box_in_their_share(
    height: int, width: int, share: float
) -> None:
    low = low_frequencies(height, width, share)
    # All frequencies, of which half are left out by symmetry, with 0 in the middle.
    mirrored = low.roll(-1, 0).flip(0)[:, 1 : (width + 1) // 2].flip(1)
    whole = np.fft.fftshift(torch.cat([low, mirrored], 1).numpy())
    assert whole.any() or math.sqrt(share) * min(height, width) < 1 + 1e-9
    for side, inside in ((height, whole.any(1)), (width, whole.any(0))):
        found = int(inside.sum())
        assert found <= math.sqrt(share) * side + 1e-9
        assert found + 2 > math.sqrt(share) * side - 1e-9 or not whole.any()
    inner = whole[whole.any(1)][:, whole.any(0)]
    assert inner.all()


def test_a_share_of_nothing_changes_nothing() -> None:
    assert torch.equal(batch_style(images(), seeded(0), area=(0, 0)).data, images())


def test_shares_are_drawn_between_their_ends() -> None:
    generator = seeded(0)
    drawn = [
        float(batch_style(images(), generator, area=(0.2, 0.6)).params["area"][0])
        for _ in range(99)
    ]
    assert 0.2 <= min(drawn) < 0.25
    assert 0.55 < max(drawn) <= 0.6


@pytest.mark.parametrize("area", [(-0.1, 0.5), (0.6, 0.5), (0.5, 1.1)])
def test_an_area_that_is_none_is_refused(area: tuple[float, float]) -> None:
    with pytest.raises(InvalidInput, match="area must be 0 <= low <= high <= 1"):
        batch_style(images(), seeded(0), area=area)
