"""A small convolutional encoder: images of one size to unit embeddings."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from attar.manifest import TensorSpec

from .encoder import TensorEncoder, refuse_sizes_below_one


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallConvConfig:
    """The sizes of a small convolutional encoder; `width` is that of its first layer."""

    channels: int = 1
    side: int
    dim: int
    width: int = 32

    def __post_init__(self) -> None:
        refuse_sizes_below_one(
            self, channels=self.channels, side=self.side, dim=self.dim, width=self.width
        )


class SmallConv(TensorEncoder):
    """Three 3x3 convolutions with batch norm, then a linear map, for images of one side."""

    modality: ClassVar[str] = "image"
    shape: SmallConvConfig

    def __init__(self, shape: SmallConvConfig) -> None:
        super().__init__()
        width, half = shape.width, (shape.side + 1) // 2
        self.shape = shape
        self.dim = shape.dim
        self.layers = nn.Sequential(
            *_block(shape.channels, width, stride=1),
            *_block(width, 2 * width, stride=2),
            *_block(2 * width, 2 * width, stride=1),
            nn.Flatten(),
            nn.Linear(2 * width * half * half, shape.dim),
        )

    @property
    def input(self) -> TensorSpec:
        """Say that images are (channels, side, side)."""
        axes = ("batch", self.shape.channels, self.shape.side, self.shape.side)
        return TensorSpec(name="image", dtype="float32", shape=axes)

    def forward(self, image: Float[Tensor, "b channels side side"]) -> Float[Tensor, "b dim"]:
        """Embed images in [0, 1]."""
        return F.normalize(self.layers(image), dim=1)


def _block(inward: int, outward: int, *, stride: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inward, outward, 3, stride=stride, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(outward), nn.ReLU()
