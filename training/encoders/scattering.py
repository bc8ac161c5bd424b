"""Wavelet scattering: fixed wavelets, modulus and average, twice; only what comes after it learns.

Bruna and Mallat 2013, "Invariant Scattering Convolution Networks", arXiv:1203.1513; in front of a
small adapter as in ScatSimCLR (Kinakh et al. 2021, arXiv:2108.13939). All filters are plain
convolutions with padding by the border's value, so that a graph of standard operators has them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn import functional as F

from attar.errors import InvalidInput
from attar.manifest import TensorSpec

from .encoder import Projection, TensorEncoder, map_tokens, refuse_sizes_below_one
from .resnet import Residual

SIGMA = 0.8  # deviation of the finest wavelet's envelope, in pixels
FREQUENCY = 3 * math.pi / 4  # of the finest wavelet, in radians a pixel
SLANT = 0.5  # the envelope is twice as long across the wave as along it
CUT = 3  # deviations at which filters end
LEAST = 1e-24  # squared modulus below which there is no gradient: its root has none at zero


@dataclass(frozen=True, slots=True, kw_only=True)
class ScatteringConfig:
    """The sizes of a scattering encoder, for images of one `side`, a multiple of 2 ** `scales`.

    `scales` and `angles` are the papers' J and L; maps have a side of `side` / 2 ** `scales`. The
    adapter maps them to `width` channels by a convolution of `kernel` x `kernel`, 1 or 3, and has
    `blocks` residual blocks. The features are the means of its `grid` x `grid` cells, so
    `width` x `grid` ** 2 numbers: ScatSimCLR has a kernel of 3 and a grid of 4. `dim` adds a linear
    map to that embedding width. `normalized` gives embeddings unit length.
    """

    channels: int = 3
    side: int
    scales: int = 2
    angles: int = 8
    width: int = 64
    blocks: int = 2
    kernel: int = 1
    grid: int = 1
    dim: int | None = None
    normalized: bool = True

    def __post_init__(self) -> None:
        refuse_sizes_below_one(
            self,
            channels=self.channels,
            side=self.side,
            scales=self.scales,
            angles=self.angles,
            width=self.width,
            grid=self.grid,
            dim=self.dim,
        )
        if self.side % 2**self.scales or self.blocks < 0:
            raise InvalidInput(
                f"side must be a multiple of 2 ** scales and blocks at least 0; got {self}"
            )
        if self.kernel not in (1, 3) or self.grid > self.side // 2**self.scales:
            raise InvalidInput(
                f"kernel must be 1 or 3 and grid at most side / 2 ** scales; got {self}"
            )


class ScatteringEncoder(TensorEncoder):
    """Images of one side to one embedding each: scattering, then the adapter, then means."""

    modality: ClassVar[str] = "image"
    shape: ScatteringConfig
    cells: Float[Tensor, "grid places"]

    def __init__(self, shape: ScatteringConfig) -> None:
        super().__init__()
        self.shape = shape
        self.scattering = Scattering(scales=shape.scales, angles=shape.angles)
        maps, width = shape.channels * self.scattering.paths, shape.width
        self.adapter = nn.Sequential(
            nn.BatchNorm2d(maps),
            nn.Conv2d(maps, width, shape.kernel, padding=shape.kernel // 2, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            *(Residual(width, width, stride=1, selective=False) for _ in range(shape.blocks)),
        )
        places = torch.eye(shape.side // 2**shape.scales)[None]
        cells = F.adaptive_avg_pool1d(places, shape.grid)[0].T  # a matrix, for export to ONNX
        self.register_buffer("cells", cells, persistent=False)
        features = width * shape.grid**2
        self.project = Projection(features, shape.dim, normalized=shape.normalized)
        self.dim = self.project.dim

    @property
    def input(self) -> TensorSpec:
        """Say that images are (channels, side, side)."""
        axes = ("batch", self.shape.channels, self.shape.side, self.shape.side)
        return TensorSpec(name="image", dtype="float32", shape=axes)

    @property
    def grid(self) -> tuple[int, int]:
        """Give the sides of the adapter's map."""
        side = self.shape.side // 2**self.shape.scales
        return side, side

    def with_tokens(
        self, image: Float[Tensor, "b channels side side"]
    ) -> tuple[Float[Tensor, "b dim"], Float[Tensor, "b n width"]]:
        """Give the embeddings, and the places of the adapter's map, of its own width."""
        maps = self.adapter(self.scattering(image))
        return self._embed(maps), map_tokens(maps)

    def forward(self, image: Float[Tensor, "b channels side side"]) -> Float[Tensor, "b dim"]:
        """Embed images."""
        return self._embed(self.adapter(self.scattering(image)))

    def _embed(self, maps: Float[Tensor, "b width rows columns"]) -> Float[Tensor, "b dim"]:
        means = self.cells @ maps @ self.cells.T  # (b, width, grid, grid)
        out: Tensor = self.project(means.flatten(1))
        return out


class Scattering(nn.Module):
    """Images to scattering coefficients of order 0, 1 and 2, by filters that never change.

    With psi_j,a the wavelet of scale j < J and angle a < L, phi the average over 2^J pixels:

        S0 = x * phi    S1 = |x * psi_j,a| * phi    S2 = ||x * psi_j,a| * psi_k,b| * phi,  j < k

    that is 1 + J L + L^2 J (J - 1) / 2 `paths` of each channel, in this order, at one place in
    2^J. What passed a wavelet of scale j keeps one place in 2^j, so a coarser wavelet there is a
    finer one of the bank. Wavelets are scaled so that no frequency is amplified: coefficients hold
    no more energy than the image.
    """

    def __init__(self, *, scales: int, angles: int) -> None:
        super().__init__()
        self.scales = scales
        self.angles = angles
        self.paths = 1 + scales * angles + angles**2 * scales * (scales - 1) // 2
        bank = [torch.stack(_morlets(scale, angles)) for scale in range(scales)]
        means = [_gaussian(SIGMA * 2 ** (octaves - 1)) for octaves in range(1, scales + 1)]
        gain = _gain(bank, means)
        self.wavelets = nn.ModuleList(
            Filters(torch.cat([gain * wave.real, gain * wave.imag])) for wave in bank
        )
        self.averages = nn.ModuleList(Filters(mean[None]) for mean in means)

    def forward(
        self, image: Float[Tensor, "b channels h w"]
    ) -> Float[Tensor, "b maps small_h small_w"]:
        """Give each channel's paths; h and w are multiples of 2 ** `scales`."""
        x = image.flatten(0, 1)[:, None]  # (b channels, 1, h, w)
        maps = [self._average(x, 0)]
        for first in range(self.scales):
            once = self._modulus(x, first)  # (b channels, angles, h / 2^first, w / 2^first)
            maps.append(self._average(once, first))
            for second in range(first + 1, self.scales):
                each = once.flatten(0, 1)[:, None]
                twice = self._modulus(each, second - first)  # (b channels angles, angles, ...)
                mean = self._average(twice, second)
                maps.append(torch.unflatten(mean, 0, (-1, self.angles)).flatten(1, 2))
        paths = torch.cat(maps, 1)  # (b channels, paths, h / 2^scales, w / 2^scales)
        return torch.unflatten(paths, 0, (-1, image.shape[1])).flatten(1, 2)

    def _modulus(self, x: Float[Tensor, "n 1 h w"], scale: int) -> Float[Tensor, "n angles h2 w2"]:
        """Give |x * psi| for a scale's wavelets, at one place in 2^scale."""
        both: Tensor = self.wavelets[scale](x, 2**scale)
        wide = torch.promote_types(both.dtype, torch.float32)  # half precision loses squares
        real, imaginary = both.to(wide).chunk(2, dim=1)
        return (real.square() + imaginary.square()).clamp_min(LEAST).sqrt()

    def _average(self, x: Float[Tensor, "n k h w"], scale: int) -> Float[Tensor, "n k h2 w2"]:
        """Average maps that have one place in 2^scale over what is left of 2^scales."""
        octaves = self.scales - scale
        each: Tensor = self.averages[octaves - 1](x.flatten(0, 1)[:, None], 2**octaves)
        return torch.unflatten(each, 0, (-1, x.shape[1])).squeeze(2)


class Filters(nn.Module):
    """Fixed square kernels of odd side: one map in, one out for each, none past the border."""

    kernels: Float[Tensor, "k 1 side side"]

    def __init__(self, kernels: Float[Tensor, "k side side"]) -> None:
        super().__init__()
        self.register_buffer("kernels", kernels[:, None].float())

    def forward(
        self, x: Float[Tensor, "n 1 h w"], stride: int
    ) -> Float[Tensor, "n k small_h small_w"]:
        """Filter maps, the border's values going on outside, at every `stride`-th place."""
        reach = self.kernels.shape[-1] // 2
        return F.conv2d(
            F.pad(x, (reach,) * 4, mode="replicate"), self.kernels.to(x.dtype), stride=stride
        )


def _morlets(scale: int, angles: int) -> list[Complex[Tensor, "side side"]]:
    """Give a scale's Morlet wavelets, at angles from 0 to pi: waves under an envelope, of mean 0.

    psi(u) = (exp(i w . u) - c) exp(-u^T C u / 2) / Z, the envelope summing to one, c making the
    mean of what is sampled zero.
    """
    deviation = SIGMA * 2**scale
    reach = math.ceil(CUT * deviation / SLANT)
    y, x = _grid(reach)
    wavelets = []
    for index in range(angles):
        angle = math.pi * index / angles
        along = x * math.cos(angle) + y * math.sin(angle)
        across = y * math.cos(angle) - x * math.sin(angle)
        envelope = torch.exp(-(along**2 + (SLANT * across) ** 2) / (2 * deviation**2))
        envelope = envelope / envelope.sum()
        wave = torch.exp(1j * FREQUENCY / 2**scale * along)
        wavelets.append((wave - (wave * envelope).sum()) * envelope)
    return wavelets


def _gaussian(deviation: float) -> Float[Tensor, "side side"]:
    """Give a Gaussian that sums to one."""
    y, x = _grid(math.ceil(CUT * deviation))
    bump = torch.exp(-(x**2 + y**2) / (2 * deviation**2))
    return bump / bump.sum()


def _grid(reach: int) -> Sequence[Float[Tensor, "side side"]]:
    axis = torch.arange(-reach, reach + 1, dtype=torch.float64)
    return torch.meshgrid(axis, axis, indexing="ij")


def _gain(
    bank: Sequence[Complex[Tensor, "angles _ _"]], means: Sequence[Float[Tensor, "_ _"]]
) -> float:
    """Give the factor of all wavelets with which no frequency is amplified, at any resolution.

    Of real maps a wavelet passes as much at a frequency as at its opposite, so the bank passes
    |phi|^2 + sum (|psi(f)|^2 + |psi(-f)|^2) / 2 at f (Littlewood and Paley), which may be 1.
    """
    side = 8 * max(wave.shape[-1] for wave in bank)  # frequencies finely enough to meet the worst
    bounds = []
    for octaves, mean in enumerate(means, start=1):
        passed = torch.zeros(side, side, dtype=torch.float64)
        for wave in bank[:octaves]:
            power = torch.fft.fft2(wave, (side, side)).abs().square().sum(0)
            opposite = power.flip(0, 1).roll((1, 1), (0, 1))
            passed += (power + opposite) / 2
        left = 1 - torch.fft.fft2(mean, (side, side)).abs().square()
        felt = passed > 1e-6 * passed.max()
        bounds.append(float((left[felt] / passed[felt]).min()))
    return math.sqrt(min(bounds))
