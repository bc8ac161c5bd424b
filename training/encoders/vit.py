"""Images to embedding: patches are tokens, and the rest is the one token transformer.

Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words", arXiv:2010.11929.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from attar.errors import InvalidInput
from attar.manifest import Cost, Limits, TensorSpec

from .attention import SoftmaxAttention
from .encoder import refuse_sizes_below_one
from .tokens import TokenEncoder, TokenPooling, refuse_pooling, sinusoids
from .transformer import Attention, TransformerConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class VitConfig:
    """The sizes of a vision transformer, for images of one `side` cut into patches of `patch`.

    `pooling` is "mean", of the patches, or "cls", which adds a class token before them. `dim` adds
    a linear map to that embedding width; None keeps the transformer's. `normalized` gives
    embeddings unit length.
    """

    channels: int = 3
    side: int
    patch: int
    transformer: TransformerConfig
    pooling: TokenPooling = "mean"
    dim: int | None = None
    normalized: bool = True

    def __post_init__(self) -> None:
        refuse_pooling(self.pooling)
        refuse_sizes_below_one(
            self, channels=self.channels, side=self.side, patch=self.patch, dim=self.dim
        )
        if self.side % self.patch:
            raise InvalidInput(f"side must be a multiple of patch; got {self}")

    @property
    def patches(self) -> int:
        """Count an image's patches."""
        return (self.side // self.patch) ** 2


class VitEncoder(TokenEncoder):
    """Images of one side to one embedding each; patches are in reading order.

    Positions are learned, from sinusoids on, and added to the patches, so a subset of tokens
    (`take`) keeps its places under any attention; linear attention also turns tokens by their order
    among those given. Square images of another side, such as DINO's local crops, take positions
    that are interpolated between the learned ones; a bundle takes images of its own side only.
    """

    modality: ClassVar[str] = "image"
    shape: VitConfig

    def __init__(self, shape: VitConfig, *, attention: Attention = SoftmaxAttention) -> None:
        super().__init__(
            shape.transformer,
            attention,
            pooling=shape.pooling,
            first=shape.pooling == "cls",
            dim=shape.dim,
            normalized=shape.normalized,
        )
        width = shape.transformer.width
        self.shape = shape
        self.patches = nn.Conv2d(shape.channels, width, shape.patch, stride=shape.patch)
        self.position = nn.Parameter(grid_sinusoids(shape.side // shape.patch, width))

    @property
    def input(self) -> TensorSpec:
        """Say that images are (channels, side, side)."""
        axes = ("batch", self.shape.channels, self.shape.side, self.shape.side)
        return TensorSpec(name="image", dtype="float32", shape=axes)

    @property
    def limits(self) -> Limits:
        """Say that a patch is a token."""
        return Limits(cost=Cost(elements=self.shape.channels * self.shape.patch**2))

    @property
    def grid(self) -> tuple[int, int]:
        """Say that a patch is a token."""
        side = self.shape.side // self.shape.patch
        return side, side

    def content(
        self, image: Float[Tensor, "b channels side side"]
    ) -> Float[Tensor, "b patches width"]:
        """Map each patch alone."""
        out: Tensor = self.patches(image).flatten(2).transpose(1, 2)
        return out

    def add_positions(
        self, content: Float[Tensor, "b patches width"]
    ) -> Float[Tensor, "b patches width"]:
        """Add the learned positions, interpolated where there are more or fewer patches."""
        if content.shape[1] == self.shape.patches:
            return content + self.position
        return content + resized_positions(self.position, math.isqrt(content.shape[1]))


def resized_positions(
    positions: Float[Tensor, "patches width"], side: int
) -> Float[Tensor, "other_patches width"]:
    """Interpolate the positions of a square grid to one of `side` x `side` patches (bicubic).

    Dosovitskiy et al. 2021, section 3.2, and Caron et al. 2021 (DINO), for crops of other sides.
    """
    grid = math.isqrt(len(positions))
    maps = positions.T.view(1, -1, grid, grid)
    return F.interpolate(maps, size=(side, side), mode="bicubic")[0].flatten(1).T


def grid_sinusoids(side: int, width: int) -> Float[Tensor, "patches width"]:
    """Give the places of a square grid: half of the width says the row, half the column.

    With this start, positions differ from the first step on, which helps short runs
    (Chen et al., ICCV 2021, arXiv:2104.02057, appendix; He et al. 2022, arXiv:2111.06377).
    """
    line = sinusoids(side, (width + 1) // 2)
    down, across = line.repeat_interleave(side, 0), line.repeat(side, 1)
    return torch.cat([down, across], 1)[:, :width]
