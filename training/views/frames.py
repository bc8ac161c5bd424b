"""Log-mel frames of a waveform, and normalisation of frames or series over time."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from attar.errors import InvalidInput

from ._draws import carried


def log_mel(
    waveforms: Float[Tensor, "n samples"],
    *,
    rate: int,
    window: int,
    hop: int,
    bands: int = 80,
    floor: float = 1e-6,
) -> Float[Tensor, "n bands frames"]:
    """Give the logarithms of the energies in `bands` mel bands from 0 to half the sampling rate.

    Frames are Hann windows of `window` samples, one every `hop` samples, all of them inside the
    waveform; `rate` is in samples a second. Energies below `floor` count as that.

    Raises InvalidInput when a waveform is shorter than the window, or a band would see no
    frequency at all.
    """
    if hop < 1 or not 2 <= window <= waveforms.shape[1]:
        raise InvalidInput(
            f"hop must be at least 1, and window in [2, samples = {waveforms.shape[1]}]; "
            f"got {hop} and {window}"
        )
    spectrum = torch.stft(
        waveforms,
        window,
        hop,
        window=torch.hann_window(window, dtype=waveforms.dtype, device=waveforms.device),
        center=False,
        return_complex=True,
    )
    filters = carried(mel_filters(rate, window, bands).to(waveforms.dtype), waveforms)
    energies = filters @ spectrum.abs().square()
    return energies.clamp(min=floor).log()


def mel_filters(rate: int, window: int, bands: int) -> Float[Tensor, "bands frequencies"]:
    """Give triangles of height 1, equally wide in mel, over the frequencies of a real transform.

    Each band's triangle begins at the middle of the one before and ends at the middle of the next.
    A mel is 2595 log10(1 + hertz / 700) (O'Shaughnessy 1987).

    Raises InvalidInput when a triangle falls between two frequencies.
    """
    top = 2595 * math.log10(1 + rate / 2 / 700)
    corners = 700 * (10 ** (torch.linspace(0, top, bands + 2, dtype=torch.float64) / 2595) - 1)
    frequencies = torch.arange(window // 2 + 1) * (rate / window)
    low, middle, high = (corners[at : at + bands, None] for at in range(3))
    rise = (frequencies - low) / (middle - low)
    fall = (high - frequencies) / (high - middle)
    filters = torch.minimum(rise, fall).clamp(min=0)
    if (filters.sum(1) == 0).any():
        raise InvalidInput(
            f"{bands} bands are finer than {window} samples at {rate} Hz can tell apart; "
            "take fewer bands or a longer window"
        )
    return filters.float()


def normalized(series: Float[Tensor, "n channels time"]) -> Float[Tensor, "n channels time"]:
    """Bring every channel of every series to mean 0 and variance 1 over its time.

    Of log-mel frames this is cepstral mean and variance normalisation (CMVN) by utterance, of raw
    series instance normalisation. A constant channel becomes 0.
    """
    apart = series - series.mean(2, keepdim=True)
    return apart / apart.square().mean(2, keepdim=True).sqrt().clamp(min=1e-5)
