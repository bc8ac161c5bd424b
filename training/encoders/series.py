"""Series to embedding: overlapping windows of samples, the token transformer, mean pooling."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from attar.errors import InvalidInput
from attar.manifest import AxisRange, Cost, Limits, TensorSpec

from .attention import SoftmaxAttention
from .instance_norm import instance_norm
from .tokens import MOST_TOKENS, TokenEncoder, sinusoids
from .transformer import SMALL_BLOCKS, Attention, TransformerConfig

BLOCKS: Final = replace(SMALL_BLOCKS, depth=2)
"""The size of a small encoder of series."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesConfig:
    """The sizes of a series encoder.

    A token sees `window` samples of every channel and the next one starts `hop` samples later, so
    a series of n samples has n // hop tokens. With `instance_norm` every channel of a series is
    first brought to mean 0 and variance 1 over its samples. `dim` adds a linear map to that
    embedding width; None keeps the transformer's. `normalized` gives embeddings unit length.
    """

    channels: int = 1
    window: int
    hop: int
    transformer: TransformerConfig
    instance_norm: bool = False
    dim: int | None = None
    normalized: bool = True

    def __post_init__(self) -> None:
        sizes = self.channels, self.window, self.hop, self.dim
        if any(size is not None and size < 1 for size in sizes) or self.window < self.hop:
            raise InvalidInput(
                "channels, window, hop and dim must be at least 1, and window no less than hop, or "
                f"samples between tokens are never seen; got {self}"
            )

    @classmethod
    def of(cls, item: Sequence[int], **sizes: Any) -> "SeriesConfig":
        """Give the sizes for series of one shape, (channels, samples).

        Raises InvalidInput for series of fewer samples than give a token.
        """
        config = cls(channels=item[0], **sizes)
        config.refuse_short(item[1])
        return config

    def refuse_short(self, samples: int) -> None:
        """Raise InvalidInput for series of fewer samples than give a token."""
        if samples < self.hop:
            raise InvalidInput(
                f"a series needs {self.hop} samples or more, the hop of a token; got {samples}: "
                "give longer series, or a smaller hop and window"
            )


class SeriesEncoder(TokenEncoder):
    """Series of one length to one embedding each; positions are sinusoids, so any length will do.

    All series of a batch have one length, and every sample is real.
    """

    modality: ClassVar[str] = "series"
    shape: SeriesConfig

    def __init__(self, shape: SeriesConfig, *, attention: Attention = SoftmaxAttention) -> None:
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
        self.windows = nn.Conv1d(shape.channels, width, shape.window, stride=shape.hop)
        self.mix = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=shape.transformer.norm_eps)

    @property
    def input(self) -> TensorSpec:
        """Say that series are (channels, samples), of any number of samples."""
        axes = ("batch", self.shape.channels, "samples")
        return TensorSpec(name="series", dtype="float32", shape=axes)

    @property
    def limits(self) -> Limits:
        """Say that a series has a token at least, and `MOST_TOKENS` at most."""
        hop = self.shape.hop
        axes = {"samples": AxisRange(min=hop, max=hop * MOST_TOKENS)}
        return Limits(axes=axes, cost=Cost(elements=hop * self.shape.channels))

    @property
    def examples(self) -> tuple[tuple[int, ...], ...]:
        """Give series of 8 tokens, and of 13 and a sample that no token starts at."""
        hop, channels = self.shape.hop, self.shape.channels
        return (channels, 8 * hop), (channels, 13 * hop + (hop > 1))

    def scaled(self, series: Float[Tensor, "b channels n"]) -> Float[Tensor, "b channels n"]:
        """Give series as the tokens see them: normalised, where the shape says so."""
        return instance_norm(series) if self.shape.instance_norm else series

    def content(self, series: Float[Tensor, "b channels n"]) -> Float[Tensor, "b tokens width"]:
        """Cut series into overlapping windows, zeros after the end, and give each its token."""
        padded = F.pad(self.scaled(series), (0, self.shape.window - self.shape.hop))
        windows = self.windows(padded).transpose(1, 2)
        out: Tensor = self.mix(F.gelu(windows))
        return out

    def add_positions(
        self, content: Float[Tensor, "b tokens width"]
    ) -> Float[Tensor, "b tokens width"]:
        """Add sinusoids of the position, then layer norm."""
        positions = sinusoids(content.shape[1], content.shape[2]).to(content)
        out: Tensor = self.norm(content + positions)
        return out
