"""Log-mel frames of a waveform: a short-time Fourier transform as fixed convolutions."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from attar.errors import InvalidInput

from .encoder import refuse_sizes_below_one

FLOOR = 1e-6  # energies below it count as it


@dataclass(frozen=True, slots=True, kw_only=True)
class LogMelConfig:
    """How a waveform becomes frames: a window of samples, the hop to the next one, and mel bands.

    Raises InvalidInput for a size below one, and for bands that are finer than the window's
    frequencies.
    """

    hertz: int = 8000  # samples a second
    window: int = 512  # samples
    hop: int = 256  # samples
    bands: int = 40

    def __post_init__(self) -> None:
        sizes = {"hertz": self.hertz, "hop": self.hop, "bands": self.bands}
        refuse_sizes_below_one(self, window=self.window, **sizes)
        mel_filters(self.hertz, self.window, self.bands)

    @property
    def least(self) -> int:
        """Give the fewest samples of a waveform: two frames, as one has no variance over time."""
        return self.window + self.hop

    def refuse_short(self, samples: int) -> None:
        """Raise InvalidInput for waveforms of fewer samples than two frames have."""
        if samples < self.least:
            raise InvalidInput(
                f"a waveform needs {self.least} samples or more, those of two frames; got "
                f"{samples}: give longer recordings, or a smaller window and hop"
            )


class LogMel(nn.Module):
    """The logarithms of the energies in mel bands from 0 to half the sampling rate.

    Frames are Hann windows, all of them inside the waveform. The weights are fixed, follow from the
    sizes, and are not saved.
    """

    kernels: Tensor
    filters: Tensor

    def __init__(self, shape: LogMelConfig) -> None:
        super().__init__()
        self.hop = shape.hop
        time = torch.arange(shape.window, dtype=torch.float64)
        frequency = torch.arange(shape.window // 2 + 1, dtype=torch.float64)[:, None]
        hann = 0.5 - 0.5 * (2 * math.pi * time / shape.window).cos()
        angle = 2 * math.pi * (frequency * time % shape.window) / shape.window
        kernels = torch.cat([angle.cos(), angle.sin()]) * hann  # (2 frequencies, window)
        self.register_buffer("kernels", kernels[:, None].float(), persistent=False)
        filters = mel_filters(shape.hertz, shape.window, shape.bands)
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, waveform: Float[Tensor, "b samples"]) -> Float[Tensor, "b bands frames"]:
        """Give the frames of waveforms of one length."""
        real, imaginary = F.conv1d(waveform[:, None], self.kernels, stride=self.hop).chunk(2, 1)
        energies = self.filters @ (real.square() + imaginary.square())
        return energies.clamp(min=FLOOR).log()


def mel_filters(hertz: int, window: int, bands: int) -> Float[Tensor, "bands frequencies"]:
    """Give triangles of height 1, equally wide in mel, over the frequencies of a real transform.

    Each band's triangle begins at the middle of the one before and ends at the middle of the next.
    A mel is 2595 log10(1 + hertz / 700) (O'Shaughnessy 1987).

    Raises InvalidInput when a triangle falls between two frequencies.
    """
    top = 2595 * math.log10(1 + hertz / 2 / 700)
    corners = 700 * (10 ** (torch.linspace(0, top, bands + 2, dtype=torch.float64) / 2595) - 1)
    frequencies = torch.arange(window // 2 + 1) * (hertz / window)
    low, middle, high = (corners[at : at + bands, None] for at in range(3))
    rise = (frequencies - low) / (middle - low)
    fall = (high - frequencies) / (high - middle)
    filters = torch.minimum(rise, fall).clamp(min=0)
    if (filters.sum(1) == 0).any():
        raise InvalidInput(
            f"{bands} bands are finer than {window} samples at {hertz} Hz can tell apart; "
            "take fewer bands or a longer window"
        )
    return filters.float()
