"""Series views: samples made noisy, scaled, moved, cut out, or their segments in another order.

A series is (n, channels, samples) float. The list is that of Um et al., ICMI 2017,
arXiv:1706.00527.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from attar.errors import InvalidInput

from ._draws import carried, normal_like
from .view import View

Series = Float[Tensor, "n channels samples"]


def jitter(series: Series, generator: torch.Generator, *, deviation: float) -> View[Tensor]:
    """Add Gaussian noise of `deviation`, in the units of the series, to every sample.

    Deterministic given the generator, which lives on the CPU, on one kind of device.
    """
    return View(series + deviation * normal_like(series, generator), {})


def scale(series: Series, generator: torch.Generator, *, deviation: float) -> View[Tensor]:
    """Multiply each channel by a number drawn from N(1, deviation^2): `params["scale"]`.

    That is (n, channels). Deterministic given the generator, which lives on the CPU.
    """
    factor = 1 + deviation * torch.randn(series.shape[:2], generator=generator, dtype=series.dtype)
    factor = carried(factor, series)
    return View(series * factor[:, :, None], {"scale": factor})


def shift(series: Series, generator: torch.Generator, *, most: int) -> View[Tensor]:
    """Move each series by up to `most` samples either way, zeros taking the place of what left.

    `params["shift"]` (n,) int64 is positive where a series starts later. Deterministic given the
    generator, which lives on the CPU.
    """
    samples = series.shape[2]
    if not 0 <= most < samples:
        raise InvalidInput(f"most must be in [0, samples = {samples}); got {most}")
    by = torch.randint(-most, most + 1, (len(series),), generator=generator)
    by = carried(by, series)
    source = torch.arange(samples, device=series.device) - by[:, None]  # (n, samples)
    there = (source >= 0) & (source < samples)
    return View(_at(series, source.clamp(0, samples - 1)) * there[:, None], {"shift": by})


def crop(series: Series, generator: torch.Generator, *, length: int) -> View[Tensor]:
    """Cut `length` samples out of each series, from a random `params["start"]`, (n,) int64, on.

    Deterministic given the generator, which lives on the CPU.
    """
    samples = series.shape[2]
    if not 1 <= length <= samples:
        raise InvalidInput(f"length must be in [1, samples = {samples}]; got {length}")
    start = torch.randint(samples - length + 1, (len(series),), generator=generator)
    start = carried(start, series)
    source = start[:, None] + torch.arange(length, device=series.device)
    return View(_at(series, source), {"start": start})


def permute(series: Series, generator: torch.Generator, *, segments: int) -> View[Tensor]:
    """Put equal segments (to within one sample) of each series in a random order.

    `params["order"]` (n, segments) int64 are the old segments, first to last. Deterministic given
    the generator, which lives on the CPU.
    """
    samples = series.shape[2]
    if not 1 <= segments <= samples:
        raise InvalidInput(f"segments must be in [1, samples = {samples}]; got {segments}")
    order = torch.rand(len(series), segments, generator=generator).argsort(1)
    # A sample sorts by the new place of its segment, and in its segment stays in place.
    segment = torch.arange(samples) * segments // samples
    source = order.argsort(1)[:, segment].argsort(dim=1, stable=True)
    return View(_at(series, carried(source, series)), {"order": carried(order, series)})


def _at(series: Tensor, source: Tensor) -> Tensor:
    """Give the samples at (n, length) places, the same for all channels."""
    return series.gather(2, source[:, None].expand(-1, series.shape[1], -1))
