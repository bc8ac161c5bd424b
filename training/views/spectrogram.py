"""Spectrogram views: frames altered along time, frequency and magnitude.

Liu et al. 2021 (TERA), arXiv:2007.06028, section 3, with the numbers of its s3prl code.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from attar.errors import InvalidInput

from ._draws import carried, normal_like
from .masks import span_mask
from .view import View


def alter(
    frames: Float[Tensor, "n bins frames"],
    generator: torch.Generator,
    *,
    time: float = 0.15,
    span: int = 7,
    frequency: float = 0.2,
    magnitude: float = 0.15,
    deviation: float = 0.2,
) -> View[Tensor]:
    """Hide spans of frames and a band of bins, and make some spectrograms noisy.

    A share `time` of each spectrogram's frames is chosen, in spans; in 80 % of the spectrograms
    they are zeroed, in 10 % each is replaced by a frame from a random place of the same one, and in
    10 % they stay. A band of 0 to `frequency` x bins bins, wherever it begins, is zeroed. With
    probability `magnitude` all bins get Gaussian noise of `deviation`. Frames should have mean 0
    and variance 1 (`frames.normalized`), so that zero is the mean. Unlike there, spans do not
    overlap, so that as many frames are chosen as promised.

    `params["hidden"]` (n, bins, frames) bool are the cells to be predicted: those chosen in time,
    even where they stayed, and the band; where neither can be (`time` and `frequency` are 0), all.
    Deterministic given the generator, which lives on the CPU, on one kind of device.

    Raises InvalidInput when a share is not in [0, 1], or a span is longer than the series.
    """
    for name, share in (("frequency", frequency), ("magnitude", magnitude)):
        if not 0 <= share <= 1:
            raise InvalidInput(f"{name} must be in [0, 1]; got {share}")
    n, bins, length = frames.shape
    chosen = span_mask(n, length, generator, rate=time, span=span)
    fate = torch.rand(n, generator=generator)[:, None]
    elsewhere = torch.randint(length, (n, length), generator=generator)
    source = elsewhere.where(chosen & (fate >= 0.8) & (fate < 0.9), torch.arange(length))
    draws = torch.rand(2, n, generator=generator)
    width = (draws[0] * (int(frequency * bins) + 1)).long()
    start = (draws[1] * (bins - width + 1)).long()
    at = torch.arange(bins)
    band = (at >= start[:, None]) & (at < (start + width)[:, None])  # (n, bins)
    noisy = torch.rand(n, generator=generator) < magnitude

    zeroed = (chosen & (fate < 0.8))[:, None] | band[:, :, None]
    hidden = chosen[:, None] | band[:, :, None]
    if not time and not frequency:
        hidden = torch.ones_like(hidden)
    data = frames.gather(2, carried(source, frames)[:, None].expand_as(frames))
    data = data.masked_fill(carried(zeroed, frames), 0.0)
    noise = normal_like(frames, generator) * carried(noisy, frames)[:, None, None]
    return View(data + deviation * noise, {"hidden": carried(hidden, frames)})
