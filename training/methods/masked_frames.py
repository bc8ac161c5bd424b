"""Reconstruct altered frames of a spectrogram from the states of a transformer.

TERA, Liu et al. 2021, arXiv:2007.06028.
"""

from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from ..distributed import weight
from ..encoders.spectrogram import SpectrogramEncoder
from ..method import Method, Metrics
from ..objectives.masked import masked_values
from ..views.spectrogram import alter


class MaskedFramesBatch(NamedTuple):
    """Altered and clean spectrograms, and the cells to reconstruct."""

    altered: Tensor  # (n, bands, frames)
    clean: Tensor  # (n, bands, frames)
    hidden: Tensor  # (n, bands, frames) bool

    @classmethod
    def of(cls, clean: Tensor, draw: torch.Generator, **shares: Any) -> Self:
        """Alter spectrograms; `shares` are those of `views.spectrogram.alter`."""
        view = alter(clean, draw, **shares)
        return cls(view.data, clean, view.params["hidden"])


class MaskedFrames(Method[MaskedFramesBatch]):
    """A spectrogram encoder, and a linear map from a frame's state to the frame."""

    encoder: SpectrogramEncoder

    def __init__(self, encoder: SpectrogramEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.rebuild = nn.Linear(encoder.width, encoder.shape.mels)

    def altered(self, items: Tensor, draw: torch.Generator, **shares: Any) -> MaskedFramesBatch:
        """Give the batch of the encoder's items: their spectrograms, altered (see `of`)."""
        return MaskedFramesBatch.of(self.encoder.spectrogram(items), draw, **shares)

    def loss(self, batch: MaskedFramesBatch, step: int) -> tuple[Tensor, Metrics]:
        """Give the mean absolute error of the hidden cells."""
        states = self.encoder.own(self.encoder.states(self.encoder.tokens(batch.altered)))
        frames = self.rebuild(states).transpose(1, 2)
        error = masked_values(frames, batch.clean, batch.hidden, power=1)
        return error * weight(batch.hidden.sum()), {}
