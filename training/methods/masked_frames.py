"""Rebuild altered frames of a spectrogram from the states of a transformer over frames.

TERA, Liu et al. 2021, arXiv:2007.06028.
"""

from typing import NamedTuple

from torch import Tensor, nn

from ..distributed import weight
from ..encoders.spectrogram import SpectrogramEncoder
from ..method import Method, Metrics
from ..objectives.masked import masked_values


class Altered(NamedTuple):
    """Spectrograms as they are seen and as they were, and the cells to be rebuilt."""

    seen: Tensor  # (n, bands, frames)
    clean: Tensor  # the same
    hidden: Tensor  # the same, bool


class MaskedFrames(Method[Altered]):
    """A spectrogram encoder, and a linear map from a frame's state to the frame."""

    encoder: SpectrogramEncoder

    def __init__(self, encoder: SpectrogramEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.rebuild = nn.Linear(encoder.width, encoder.shape.mels)

    def loss(self, batch: Altered, step: int) -> tuple[Tensor, Metrics]:
        """Give the mean absolute difference of the hidden cells."""
        states = self.encoder.own(self.encoder.states(self.encoder.tokens(batch.seen)))
        frames = self.rebuild(states).transpose(1, 2)
        apart = masked_values(frames, batch.clean, batch.hidden, power=1)
        return apart * weight(batch.hidden.sum()), {}
