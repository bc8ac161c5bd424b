"""Spectrogram to embedding: every frame is a token, so that frames can be hidden and predicted.

The encoder of Liu et al. 2021 (TERA), arXiv:2007.06028: log-mel frames, a linear map, sinusoids and
layer norm, then the transformer.
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from attar.manifest import AxisRange, Cost, Limits, TensorSpec

from .attention import SoftmaxAttention
from .encoder import refuse_sizes_below_one
from .tokens import MOST_TOKENS, TokenEncoder, sinusoids
from .transformer import Attention, TransformerConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectrogramConfig:
    """The sizes of a spectrogram encoder, for frames of `mels` bins.

    `dim` adds a linear map to that embedding width; None keeps the transformer's. `normalized`
    gives embeddings unit length.
    """

    mels: int
    transformer: TransformerConfig
    dim: int | None = None
    normalized: bool = True

    def __post_init__(self) -> None:
        refuse_sizes_below_one(self, mels=self.mels, dim=self.dim)


class SpectrogramEncoder(TokenEncoder):
    """Spectrograms of one length to one embedding each, the mean of their frames' states.

    `own(states(tokens(x)))` are the frames' states, (b, frames, width), which a probe of phones or
    a reconstruction starts from.
    """

    modality: ClassVar[str] = "audio"
    shape: SpectrogramConfig

    def __init__(
        self, shape: SpectrogramConfig, *, attention: Attention = SoftmaxAttention
    ) -> None:
        super().__init__(
            shape.transformer,
            attention,
            pooling="mean",
            first=False,
            dim=shape.dim,
            normalized=shape.normalized,
        )
        width = shape.transformer.width
        self.shape = shape
        self.frames = nn.Linear(shape.mels, width)
        self.norm = nn.LayerNorm(width, eps=shape.transformer.norm_eps)

    @property
    def input(self) -> TensorSpec:
        """Say that spectrograms are (mels, frames), of any number of frames."""
        axes = ("batch", self.shape.mels, "frames")
        return TensorSpec(name="spectrogram", dtype="float32", shape=axes)

    @property
    def limits(self) -> Limits:
        """Say that a spectrogram has a frame at least, and `MOST_TOKENS` at most."""
        axes = {"frames": AxisRange(min=1, max=MOST_TOKENS)}
        return Limits(axes=axes, cost=Cost(elements=self.shape.mels))

    @property
    def examples(self) -> tuple[tuple[int, ...], ...]:
        """Give spectrograms of 16 and of 25 frames."""
        return (self.shape.mels, 16), (self.shape.mels, 25)

    def content(self, spectrogram: Float[Tensor, "b mels n"]) -> Float[Tensor, "b n width"]:
        """Map each frame alone."""
        out: Tensor = self.frames(spectrogram.transpose(1, 2))
        return out

    def add_positions(self, content: Float[Tensor, "b n width"]) -> Float[Tensor, "b n width"]:
        """Add sinusoids of the position, then layer norm."""
        positions = sinusoids(content.shape[1], content.shape[2]).to(content)
        out: Tensor = self.norm(content + positions)
        return out
