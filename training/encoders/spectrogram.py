"""Sound to embedding: every frame is a token, so that frames can be hidden and predicted.

The encoder of Liu et al. 2021 (TERA), arXiv:2007.06028: log-mel frames with mean and variance
normalisation, a linear map, sinusoids and layer norm, then the transformer.
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from attar.errors import InvalidInput
from attar.manifest import AxisRange, Cost, Limits, TensorSpec

from .attention import SoftmaxAttention
from .encoder import refuse_sizes_below_one
from .instance_norm import instance_norm
from .log_mel import LogMel, LogMelConfig
from .tokens import MOST_TOKENS, TokenEncoder, sinusoids
from .transformer import Attention, TransformerConfig

WAVEFORM, SAMPLING_RATE = "waveform", "sampling_rate"  # in a manifest, the rate in Hz


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectrogramConfig:
    """The sizes of a spectrogram encoder, for frames of `mels` bins.

    With `frames`, of as many bands, the encoder takes waveforms; without, spectrograms. `dim` adds
    a linear map to that embedding width; None keeps the transformer's. `normalized` gives
    embeddings unit length.
    """

    mels: int
    transformer: TransformerConfig
    frames: LogMelConfig | None = None
    dim: int | None = None
    normalized: bool = True

    def __post_init__(self) -> None:
        refuse_sizes_below_one(self, mels=self.mels, dim=self.dim)
        if self.frames is not None and self.frames.bands != self.mels:
            raise InvalidInput(f"frames have {self.frames.bands} bands, and mels is {self.mels}")


class SpectrogramEncoder(TokenEncoder):
    """Waveforms or spectrograms of one length to one embedding each, the mean of frames' states.

    `own(states(tokens(spectrogram(x))))` are the frames' states, (b, frames, width), which a probe
    of phones or a reconstruction starts from.
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
        self.log_mel = None if shape.frames is None else LogMel(shape.frames)
        self.frames = nn.Linear(shape.mels, width)
        self.norm = nn.LayerNorm(width, eps=shape.transformer.norm_eps)

    @property
    def input(self) -> TensorSpec:
        """Say that spectrograms are (mels, frames) and waveforms (samples,), of any length.

        The sampling rate of waveforms, in Hz, is in `extra`.
        """
        if (frames := self.shape.frames) is None:
            axes = ("batch", self.shape.mels, "frames")
            return TensorSpec(name="spectrogram", dtype="float32", shape=axes)
        return TensorSpec(
            name=WAVEFORM,
            dtype="float32",
            shape=("batch", "samples"),
            extra={SAMPLING_RATE: frames.hertz},
        )

    @property
    def limits(self) -> Limits:
        """Say that an item has at most `MOST_TOKENS` frames, and at least one, or two to scale."""
        if (frames := self.shape.frames) is None:
            axes = {"frames": AxisRange(min=1, max=MOST_TOKENS)}
            return Limits(axes=axes, cost=Cost(elements=self.shape.mels))
        most = frames.window + frames.hop * (MOST_TOKENS - 1)
        axes = {"samples": AxisRange(min=frames.least, max=most)}
        return Limits(axes=axes, cost=Cost(elements=frames.hop))

    @property
    def examples(self) -> tuple[tuple[int, ...], ...]:
        """Give items of 16 and of 25 frames."""
        counts = 16, 25
        if (frames := self.shape.frames) is None:
            return tuple((self.shape.mels, count) for count in counts)
        return tuple((frames.window + frames.hop * (count - 1),) for count in counts)

    def forward(self, x: Float[Tensor, "b *item"]) -> Float[Tensor, "b dim"]:
        """Embed a batch of waveforms, or of spectrograms where the shape has no frames."""
        return super().forward(self.spectrogram(x))

    def spectrogram(self, x: Float[Tensor, "b *item"]) -> Float[Tensor, "b mels n"]:
        """Give the frames that tokens are made of; spectrograms are returned as they are.

        Every band has mean 0 and variance 1 over the frames of a waveform (CMVN).
        """
        return x if self.log_mel is None else instance_norm(self.log_mel(x))

    def content(self, spectrogram: Float[Tensor, "b mels n"]) -> Float[Tensor, "b n width"]:
        """Map each frame alone."""
        out: Tensor = self.frames(spectrogram.transpose(1, 2))
        return out

    def add_positions(self, content: Float[Tensor, "b n width"]) -> Float[Tensor, "b n width"]:
        """Add sinusoids of the position, then layer norm."""
        positions = sinusoids(content.shape[1], content.shape[2]).to(content)
        out: Tensor = self.norm(content + positions)
        return out
