"""Series to embedding: overlapping windows of samples, the token transformer, mean pooling."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from attar.errors import InvalidInput

from .attention import SoftmaxAttention, unit
from .transformer import Attention, TokenTransformer, TransformerShape


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesShape:
    """The sizes of a series encoder.

    A token sees `window` samples of every channel and the next one starts `hop` samples later, so
    a series of n samples has n // hop tokens. `dim` adds a linear map to that embedding
    width; None keeps the transformer's.
    """

    channels: int = 1
    window: int
    hop: int
    transformer: TransformerShape
    dim: int | None = None

    def __post_init__(self) -> None:
        sizes = self.channels, self.window, self.hop, self.dim
        if any(size is not None and size < 1 for size in sizes) or self.window < self.hop:
            raise InvalidInput(
                "channels, window, hop and dim must be at least 1, and window no less than hop, or "
                f"samples between tokens are never seen; got {self}"
            )


class SeriesEncoder(nn.Module):
    """Series of one length to one embedding of unit length each.

    Positions are the fixed sinusoids of Vaswani et al. 2017 (arXiv:1706.03762, section 3.5), so
    that any number of tokens has them.
    """

    def __init__(self, shape: SeriesShape, *, attention: Attention = SoftmaxAttention) -> None:
        super().__init__()
        width = shape.transformer.width
        self.shape = shape
        self.windows = nn.Conv1d(shape.channels, width, shape.window, stride=shape.hop)
        self.mix = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=shape.transformer.norm_eps)
        self.transformer = TokenTransformer(shape.transformer, attention=attention)
        self.project = nn.Linear(width, shape.dim) if shape.dim else nn.Identity()
        self.dim = shape.dim or width

    def forward(self, series: Float[Tensor, "b channels n"]) -> Float[Tensor, "b dim"]:
        """Embed series; all of a batch have one length, and every sample is real."""
        return unit(self.project(self.transformer(self.tokens(series), None).mean(1)))

    def tokens(self, series: Float[Tensor, "b channels n"]) -> Float[Tensor, "b tokens width"]:
        """Cut series into overlapping windows, zeros after the end, and give each its token."""
        padded = F.pad(series, (0, self.shape.window - self.shape.hop))
        windows = self.windows(padded).transpose(1, 2)
        mixed = self.mix(F.gelu(windows))
        out: Tensor = self.norm(mixed + sinusoids(mixed.shape[1], mixed.shape[2]).to(mixed))
        return out


def sinusoids(length: int, width: int) -> Float[Tensor, "length width"]:
    """Give sines and cosines of a position, at wavelengths from 2 pi to 20,000 pi."""
    rate = 10_000 ** (-torch.arange(0, width, 2) / width)
    angle = torch.arange(length)[:, None] * rate
    return torch.cat([angle.sin(), angle.cos()], 1)[:, :width]
