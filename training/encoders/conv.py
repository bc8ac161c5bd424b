"""A small convolutional encoder: images of one size to embeddings."""

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from jaxtyping import Float
from torch import Tensor, nn

from attar.errors import InvalidInput
from attar.manifest import TensorSpec

from .encoder import Projection, TensorEncoder, map_tokens, refuse_sizes_below_one

ImagePooling: TypeAlias = Literal["mean", "flat"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallConvConfig:
    """The sizes of a small convolutional encoder; `width` is that of its first layer.

    `pooling` "mean" averages the last feature map, of twice that width. "flat" keeps its pixels,
    for which it needs a `dim`: so did encoders that were saved before there was a choice. `dim`
    adds a linear map to that embedding width; None keeps the mean. `normalized` gives embeddings
    unit length.
    """

    channels: int = 1
    side: int
    width: int = 32
    pooling: ImagePooling = "mean"
    dim: int | None = None
    normalized: bool = True

    def __post_init__(self) -> None:
        refuse_sizes_below_one(
            self, channels=self.channels, side=self.side, dim=self.dim, width=self.width
        )
        if self.pooling not in ("mean", "flat") or (self.pooling == "flat" and self.dim is None):
            raise InvalidInput(f"pooling must be 'mean', or 'flat' with a dim; got {self}")


class SmallConv(TensorEncoder):
    """Three 3x3 convolutions with batch norm, for images of one side."""

    modality: ClassVar[str] = "image"
    shape: SmallConvConfig

    def __init__(self, shape: SmallConvConfig) -> None:
        super().__init__()
        width, half = shape.width, (shape.side + 1) // 2
        self.shape = shape
        layers = [
            *_block(shape.channels, width, stride=1),
            *_block(width, 2 * width, stride=2),
            *_block(2 * width, 2 * width, stride=1),
        ]
        features, dim = 2 * width, shape.dim
        if shape.pooling == "flat" and dim is not None:  # the map is a layer, as in older folders
            layers += [nn.Flatten(), nn.Linear(features * half * half, dim)]
            features, dim = dim, None
        self.layers = nn.Sequential(*layers)
        self.project = Projection(features, dim, normalized=shape.normalized)
        self.dim = self.project.dim

    @property
    def input(self) -> TensorSpec:
        """Say that images are (channels, side, side)."""
        axes = ("batch", self.shape.channels, self.shape.side, self.shape.side)
        return TensorSpec(name="image", dtype="float32", shape=axes)

    @property
    def grid(self) -> tuple[int, int] | None:
        """Give the sides of the last feature map; None where all its pixels make the embedding."""
        half = (self.shape.side + 1) // 2
        return (half, half) if self.shape.pooling == "mean" else None

    def with_tokens(
        self, image: Float[Tensor, "b channels side side"]
    ) -> tuple[Float[Tensor, "b dim"], Float[Tensor, "b n dim"]]:
        """Give the embeddings, and the places of the last feature map, mapped as their mean is."""
        if self.grid is None:
            return super().with_tokens(image)
        maps: Tensor = self.layers(image)
        return self.project(maps.mean((2, 3))), self.project.map(map_tokens(maps))

    def forward(self, image: Float[Tensor, "b channels side side"]) -> Float[Tensor, "b dim"]:
        """Embed images in [0, 1]."""
        features: Tensor = self.layers(image)
        pooled = features.mean((2, 3)) if self.shape.pooling == "mean" else features
        out: Tensor = self.project(pooled)
        return out


def _block(inward: int, outward: int, *, stride: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inward, outward, 3, stride=stride, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(outward), nn.ReLU()
