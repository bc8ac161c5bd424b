"""A 1-D convolutional encoder: spectra of one length, by small kernels and large pools.

GalSpecNet, as AstroM3 has it (Rizhko and Bloom 2024, arXiv:2411.08842): four convolutions of
kernel 3, the first three followed by a pool of 4, flattened and mapped.
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from attar.errors import InvalidInput
from attar.manifest import TensorSpec

from .encoder import Projection, TensorEncoder, refuse_sizes_below_one

KERNEL, POOL = 3, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv1dConfig:
    """The sizes of a 1-D convolutional encoder; the default is AstroM3's, for LAMOST spectra.

    A spectrum has `samples` in each of `channels` (flux, its error and its log deviation), and
    `widths` are the convolutions' channels; every layer but the last pools. `normalized` gives
    embeddings unit length.
    """

    channels: int = 3
    samples: int = 2575
    widths: tuple[int, ...] = (64, 64, 32, 32)
    dim: int = 512
    normalized: bool = True

    def __post_init__(self) -> None:
        refuse_sizes_below_one(
            self, channels=self.channels, widths=min(self.widths, default=0), dim=self.dim
        )
        if self.left < 1:
            raise InvalidInput(
                f"{len(self.widths)} layers leave nothing of {self.samples} samples; give fewer "
                f"widths or longer spectra, got {self}"
            )

    @property
    def left(self) -> int:
        """Count the samples that are left of a spectrum after the last layer."""
        samples = self.samples
        for _ in self.widths[:-1]:
            samples = (samples - KERNEL + 1) // POOL
        return samples - KERNEL + 1


class Conv1dEncoder(TensorEncoder):
    """Spectra of one length to one embedding each, every place of a spectrum weighed by itself."""

    modality: ClassVar[str] = "series"
    shape: Conv1dConfig

    def __init__(self, shape: Conv1dConfig) -> None:
        super().__init__()
        self.shape = shape
        self.dim = shape.dim
        layers: list[nn.Module] = []
        inward = shape.channels
        for width in shape.widths:
            layers += [nn.Conv1d(inward, width, KERNEL), nn.ReLU(), nn.MaxPool1d(POOL)]
            inward = width
        self.layers = nn.Sequential(*layers[:-1], nn.Flatten())
        self.project = Projection(inward * shape.left, shape.dim, normalized=shape.normalized)

    @property
    def input(self) -> TensorSpec:
        """Say that spectra are (channels, samples)."""
        axes = ("batch", self.shape.channels, self.shape.samples)
        return TensorSpec(name="series", dtype="float32", shape=axes)

    def forward(self, series: Float[Tensor, "b channels samples"]) -> Float[Tensor, "b dim"]:
        """Embed spectra."""
        out: Tensor = self.project(self.layers(series))
        return out
