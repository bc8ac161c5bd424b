"""Batch style standardisation: one image's low-frequency amplitudes for all images of a batch.

Scalbert et al., ICLR 2024 (batch styles standardisation), arXiv:2303.06088; the swap of amplitudes
is that of Yang and Soatto, CVPR 2020, arXiv:2004.05498.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from attar.errors import InvalidInput

from ._draws import carried, uniform
from .view import View


def batch_style(
    images: Float[Tensor, "n c h w"],
    generator: torch.Generator,
    *,
    area: tuple[float, float] = (0.02, 1.0),
) -> View[Tensor]:
    """Give every image the low-frequency amplitudes of one of them, and keep its own phases.

    The square of frequencies is centred at 0 and covers at most a share of the spectrum drawn from
    `area`; a share of less than one frequency leaves the images unchanged. Each view of a batch
    draws its own style. Values may leave [0, 1]: clamping them would change the style again.
    `params["style"]` (n,) int64 is the image that gave the style, `params["area"]` (n,) the share,
    either one number n times. Deterministic given the generator, which lives on the CPU.
    """
    low, high = area
    if not 0 <= low <= high <= 1:
        raise InvalidInput(f"area must be 0 <= low <= high <= 1; got {area}")
    n, _, height, width = images.shape
    style = int(torch.randint(n, (), generator=generator))
    share = float(uniform(low, high, (), generator))
    # A real image's spectrum is symmetric, so half of it, across, says all.
    spectrum = torch.fft.rfft2(images)
    swapped = low_frequencies(height, width, share)
    amplitude = spectrum.abs()
    amplitude = amplitude[style].where(carried(swapped, images), amplitude)
    data = torch.fft.irfft2(torch.polar(amplitude, spectrum.angle()), s=(height, width))
    return View(
        data if swapped.any() else images,
        {
            "style": torch.full((n,), style, device=images.device),
            "area": torch.full((n,), share, device=images.device),
        },
    )


def low_frequencies(height: int, width: int, share: float) -> Tensor:
    """Mark the centred box of at most `share` of a spectrum, as rfft2 lays it out; bool."""
    rows, across = torch.arange(height), torch.arange(width // 2 + 1)
    down = torch.minimum(rows, height - rows)  # the latter half are the frequencies below 0
    # A box has as many frequencies below 0 as above it, so that its sides are odd.
    reach = [int((math.sqrt(share) * side + 1) / 2) for side in (height, width)]
    return (down < reach[0])[:, None] & (across < reach[1])
