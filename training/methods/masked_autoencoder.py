"""Rebuild the pixels of masked patches from the encoder's states of the others.

MAE, He et al., CVPR 2022, arXiv:2111.06377.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..encoders.tokens import take
from ..encoders.transformer import TransformerConfig
from ..encoders.vit import VitEncoder, grid_sinusoids
from ..method import Method, Metrics
from ..objectives.alignment import squared_alignment
from ..predictors import TransformerPredictor
from ..views.image import ImageView
from ..views.masks import random_mask

EPSILON = 1e-6  # added to the variance of a patch, as in the authors' code
PRE_NORM: Final[Mapping[str, Any]] = {"norm": "pre", "norm_eps": 1e-6}
SMALL_DECODER: Final = TransformerConfig(width=32, depth=2, heads=4, hidden=128, **PRE_NORM)
DECODER: Final = TransformerConfig(width=512, depth=8, heads=16, hidden=2048, **PRE_NORM)
"""The paper's (section 4.1); the small one is for small images."""


class MaskedPatches(NamedTuple):
    """Images, and the patches of each that the encoder sees and that it does not, by number."""

    images: Tensor  # (n, channels, side, side)
    visible: Tensor  # (n, k) int64
    masked: Tensor  # (n, m) int64

    @classmethod
    def of(cls, images: Tensor, draw: torch.Generator, *, patches: int, mask: float) -> Self:
        """Mask round(`mask` x `patches`) patches of each image, any as likely as any other."""
        hidden = random_mask(len(images), patches, draw, rate=mask)
        visible, masked = (
            rows.nonzero()[:, 1].view(len(images), -1).to(images.device)
            for rows in (~hidden, hidden)
        )
        return cls(images, visible, masked)

    @classmethod
    def after(cls, view: ImageView, *, patches: int) -> Callable[..., Self]:
        """Give what changes images by `view`, and then masks patches as `of` does."""
        return lambda images, draw, *, mask: cls.of(
            view(images, draw).data, draw, patches=patches, mask=mask
        )


class MaskedAutoencoder(Method[MaskedPatches]):
    """A vision transformer that sees some patches, and a decoder that rebuilds the others.

    The encoder runs on the visible patches alone (section 3), which makes a step cheap. The decoder
    is a narrower transformer over their states and a mask token for each masked patch, both with
    positions; it starts with those of sines and cosines. The loss is the mean squared error of the
    masked patches' pixels. With `normalised`, the pixels of a patch are first shifted and scaled to
    mean 0 and variance 1, which the paper found better.
    """

    encoder: VitEncoder

    def __init__(
        self, encoder: VitEncoder, decoder: TransformerConfig, *, normalised: bool = True
    ) -> None:
        super().__init__()
        shape = encoder.shape
        self.encoder = encoder
        self.normalised = normalised
        self.decoder = TransformerPredictor(
            encoder.width, shape.patches, decoder, out=shape.channels * shape.patch**2
        )
        with torch.no_grad():
            grid = shape.side // shape.patch
            self.decoder.position.copy_(grid_sinusoids(grid, decoder.width))

    def loss(self, batch: MaskedPatches, step: int) -> tuple[Tensor, Metrics]:
        """Give the error of the masked patches."""
        tokens = take(self.encoder.tokens(batch.images), batch.visible)
        rebuilt = self.decoder(self.encoder.states(tokens), batch.visible, batch.masked)
        goals = self.goals(batch.images, batch.masked)
        return squared_alignment(rebuilt.flatten(0, 1), goals.flatten(0, 1)), {}

    @torch.no_grad()
    def goals(
        self, images: Float[Tensor, "n channels side side"], masked: Int[Tensor, "n m"]
    ) -> Float[Tensor, "n m pixels"]:
        """Give what is rebuilt of the masked patches, channel by channel and row by row."""
        patch = self.encoder.shape.patch
        cells = images.unfold(2, patch, patch).unfold(3, patch, patch)
        cells = cells.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)  # (n, patches, pixels)
        pixels = take(cells, masked).float()
        if not self.normalised:
            return pixels
        variance, mean = torch.var_mean(pixels, dim=-1, keepdim=True)
        return (pixels - mean) / (variance + EPSILON).sqrt()
