"""Scattering follows its formula, is stable under deformations, and amplifies nothing."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attar.errors import InvalidInput
from attar.training.encoders.image import image_encoder
from attar.training.encoders.scattering import (
    Filters,
    Scattering,
    ScatteringConfig,
    ScatteringEncoder,
)

Map = NDArray[np.float64]


def images(count: int, side: int = 32) -> Tensor:
    """Draw smooth blobs, as natural images have more of what is slow."""
    draw = np.random.default_rng(0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    spectrum = 1 / np.maximum(frequency, 1 / side)
    noise = np.fft.fft2(draw.standard_normal((count, side, side))) * spectrum
    smooth = np.fft.ifft2(noise).real
    smooth /= smooth.std()
    return torch.from_numpy(smooth[:, None]).float()


def morlet(scale: int, angle: float) -> NDArray[np.complex128]:
    """Sample a Morlet wavelet, of its own free scale, from the quadratic form of its envelope."""
    deviation = 0.8 * 2**scale
    reach = math.ceil(6 * deviation)
    places = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1.0)] * 2, indexing="xy"), -1)
    ahead = np.array([math.cos(angle), math.sin(angle)])
    aside = np.array([-math.sin(angle), math.cos(angle)])
    form = (np.outer(ahead, ahead) + np.outer(aside, aside) / 4) / deviation**2
    envelope = np.exp(-np.einsum("yxi,ij,yxj->yx", places, form, places) / 2)
    wave = np.exp(1j * (3 * math.pi / 4 / 2**scale) * (places @ ahead))
    made: NDArray[np.complex128] = (
        envelope * (wave - (envelope * wave).sum() / envelope.sum()) / envelope.sum()
    )
    return made


def mean(deviation: float) -> Map:
    reach = math.ceil(3 * deviation)
    bump = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * deviation**2))
    both: Map = np.outer(bump, bump) / bump.sum() ** 2
    return both


def convolved(x: Map, kernel: NDArray[np.generic], step: int) -> NDArray[np.complex128]:
    """Convolve by the fast Fourier transform, the border's values going on outside."""
    reach = len(kernel) // 2
    padded = np.pad(x, 2 * reach, mode="edge")
    product = np.fft.fft2(padded) * np.fft.fft2(kernel, padded.shape)
    whole: NDArray[np.complex128] = np.fft.ifft2(product)
    return whole[3 * reach :, 3 * reach :][: len(x) : step, : len(x) : step]


def scattered(x: Map, scales: int, angles: int, gain: float) -> list[Map]:
    """Give the paths of one map, in the order of the docstring."""
    turns = [math.pi * place / angles for place in range(angles)]

    def modulus(x: Map, scale: int, turn: float) -> Map:
        found: Map = gain * np.abs(convolved(x, morlet(scale, turn), 2**scale))
        return found

    def average(x: Map, scale: int) -> Map:
        left = scales - scale
        return convolved(x, mean(0.8 * 2 ** (left - 1)), 2**left).real

    found = [average(x, 0)]
    for first in range(scales):
        once = [modulus(x, first, turn) for turn in turns]
        found += [average(path, first) for path in once]
        for second in range(first + 1, scales):
            twice = [modulus(path, second - first, turn) for path in once for turn in turns]
            found += [average(path, second) for path in twice]
    return found


@pytest.mark.parametrize(("scales", "angles"), [(1, 4), (2, 3), (3, 2)])
def test_coefficients_are_those_of_an_independent_fourier_computation(
    scales: int, angles: int
) -> None:
    bank, x = Scattering(scales=scales, angles=angles), images(2, side=16)
    finest = bank.wavelets[0]
    assert isinstance(finest, Filters)
    gain = float(torch.linalg.vector_norm(finest.kernels)) / math.sqrt(
        sum(np.square(np.abs(morlet(0, math.pi * a / angles))).sum() for a in range(angles))
    )
    found = bank(x)
    assert found.shape == (2, bank.paths, 16 // 2**scales, 16 // 2**scales)
    for image, paths in zip(x[:, 0].double().numpy(), found.numpy(), strict=True):
        expected = np.stack(scattered(image, scales, angles, gain))
        np.testing.assert_allclose(paths, expected, atol=2e-5)


def test_channels_are_scattered_each_alone() -> None:
    bank = Scattering(scales=2, angles=4)
    x = images(6).reshape(2, 3, 32, 32)
    apart = torch.cat([bank(x[:, channel : channel + 1]) for channel in range(3)], 1)
    torch.testing.assert_close(bank(x), apart)
    assert bank.paths == 1 + 4 * 2 + 4**2


def test_a_constant_image_is_its_own_average_and_nothing_else() -> None:
    found = Scattering(scales=2, angles=8)(torch.full((1, 1, 32, 32), 0.7))
    torch.testing.assert_close(found[0, 0], torch.full((8, 8), 0.7))
    assert found[0, 1:].abs().max() < 1e-6


@pytest.mark.parametrize(("scales", "angles"), [(1, 8), (2, 8), (2, 16), (3, 8)])
def test_no_frequency_is_amplified_and_with_eight_angles_few_are_lost(
    scales: int, angles: int
) -> None:
    bank = Scattering(scales=scales, angles=angles)
    slowest = bank.averages[-1]
    assert isinstance(slowest, Filters)
    passed = torch.fft.fft2(slowest.kernels[0, 0], (100, 100)).abs().square()
    for filters in bank.wavelets:
        assert isinstance(filters, Filters)
        real, imaginary = filters.kernels[:, 0].chunk(2)
        power = torch.fft.fft2(torch.complex(real, imaginary), (100, 100)).abs().square().sum(0)
        passed += (power + power.flip(0, 1).roll((1, 1), (0, 1))) / 2
    assert passed.max() <= 1.002
    frequency = torch.fft.fftfreq(100)
    inside = torch.hypot(frequency[:, None], frequency) <= 0.4  # corners are not for wavelets
    assert passed[inside].min() >= 0.3
    x = images(8)
    kept = bank(x).square().sum((1, 2, 3)) * 4**scales / x.square().sum((1, 2, 3))
    assert kept.min() >= 0.5
    assert kept.max() <= 1.05  # a border's values that go on outside are seen once more


def moved(x: Tensor, field: Tensor) -> Tensor:
    """Sample images at their pixels plus a field (h, w, 2), in shares of half a side."""
    identity = torch.eye(2, 3).expand(len(x), 2, 3)
    grid = torch.nn.functional.affine_grid(identity, list(x.shape), align_corners=False)
    return torch.nn.functional.grid_sample(
        x, grid + field, padding_mode="border", align_corners=False
    )


def relative(a: Tensor, b: Tensor) -> float:
    return float(torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(a))


def test_shifts_move_coefficients_less_than_pixels_and_less_the_coarser_the_scale() -> None:
    x = images(8) - images(8).mean((2, 3), keepdim=True)
    shifted = x.roll((1, 1), (2, 3))
    change = [
        relative(bank(x), bank(shifted))
        for bank in (Scattering(scales=scales, angles=4) for scales in (1, 2, 3))
    ]
    assert change[0] < relative(x, shifted)
    assert change[2] < change[1] < change[0]


def test_small_bends_change_coefficients_in_proportion() -> None:
    x, bank = images(8), Scattering(scales=3, angles=4)
    wave = torch.sin(torch.linspace(0, 2 * math.pi, 32))
    field = torch.stack([wave[:, None].expand(32, 32), wave.expand(32, 32)], -1)
    plain = moved(x, 0 * field)
    changes = [relative(bank(plain), bank(moved(x, size * field))) for size in (0.01, 0.02, 0.04)]
    assert changes[0] < changes[1] < changes[2] < 5 * changes[0]
    assert changes[2] < relative(plain, moved(x, 0.04 * field))


def test_only_the_adapter_learns() -> None:
    encoder = ScatteringEncoder(ScatteringConfig(channels=1, side=8, angles=4, width=8))
    assert not list(encoder.scattering.parameters())
    names = [name for name, _ in encoder.named_parameters()]
    assert all(name.startswith(("adapter.", "project.")) for name in names)
    assert any(name.startswith("scattering.") for name in encoder.state_dict())


@pytest.mark.parametrize(("side", "grid"), [(8, 2), (20, 4), (8, 1)])
def test_the_features_are_the_means_of_the_cells_of_the_adapters_maps(side: int, grid: int) -> None:
    shape = ScatteringConfig(channels=1, side=side, angles=2, width=6, grid=grid, normalized=False)
    encoder = ScatteringEncoder(shape).eval()
    x = images(3, side)
    expected = nn.functional.adaptive_avg_pool2d(encoder.adapter(encoder.scattering(x)), grid)
    assert encoder.dim == 6 * grid**2
    torch.testing.assert_close(encoder(x), expected.flatten(1))


def test_the_scattering_encoder_of_recipes_has_the_papers_adapter() -> None:
    for side, grid in ((4, 1), (8, 2), (32, 4)):
        encoder = image_encoder("scattering", channels=3, side=side)
        assert isinstance(encoder, ScatteringEncoder)
        first = next(part for part in encoder.adapter if isinstance(part, nn.Conv2d))
        assert first.kernel_size == (3, 3)
        assert encoder.dim == encoder.shape.width * grid**2


@pytest.mark.parametrize("wrong", [{"kernel": 2}, {"grid": 9}])
def test_a_grid_finer_than_the_maps_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InvalidInput, match=r"kernel must be 1 or 3 and grid at most side / 2 \*\*"):
        ScatteringConfig(**({"side": 32} | wrong))  # type: ignore[arg-type]


def test_a_flat_image_has_a_finite_gradient() -> None:
    x = torch.zeros(1, 1, 8, 8, requires_grad=True)
    Scattering(scales=2, angles=4)(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_in_half_precision_coefficients_are_much_the_same() -> None:
    x, bank = images(4), Scattering(scales=2, angles=4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = bank(x)
    assert relative(bank(x), found.float()) < 0.02
    flat = torch.zeros(1, 1, 8, 8, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.float16):
        total = bank(flat).sum()
    (gradient,) = torch.autograd.grad(total, flat)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("wrong", [{"side": 30}, {"blocks": -1}])
def test_a_side_that_scales_do_not_divide_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InvalidInput, match=r"side must be a multiple of 2 \*\* scales and blocks"):
        ScatteringConfig(**({"side": 32} | wrong))  # type: ignore[arg-type]


def test_no_scale_is_refused() -> None:
    with pytest.raises(InvalidInput, match="scales and angles must be at least 1"):
        ScatteringConfig(side=32, scales=0, angles=0)
