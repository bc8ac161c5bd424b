"""Residual networks for images small and large, with selective kernels where asked.

He et al. 2016, arXiv:1512.03385; the small images' stem and the selective kernels (Li et al. 2019,
arXiv:1903.06586) as SimCLRv2 has them (Chen et al. 2020, arXiv:2006.10029, section 2 and the
authors' tf2/resnet.py), with the stem and shortcuts of ResNet-D (He et al. 2019, arXiv:1812.01187).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, cast

from jaxtyping import Float
from torch import Tensor, nn

from attar.errors import InvalidInput
from attar.manifest import TensorSpec

from .encoder import Projection, TensorEncoder, map_tokens, refuse_sizes_below_one

SMALL = 64  # pixels a side up to which the stem keeps the resolution
EXPANSION = 4  # of a bottleneck's width
SQUEEZE, NARROWEST = 16, 32  # the selection's hidden width: a sixteenth, but no less than 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ResNetConfig:
    """The sizes of a residual network, for images of one `side`.

    `blocks` are the residual blocks of each group, every group after the first halving the sides
    and doubling the width; `width` is the first group's, so that 128 is "2x". (2, 2, 2, 2) is
    ResNet-18, (3, 4, 6, 3) with `bottleneck` ResNet-50. `selective` adds selective kernels. `dim`
    adds a linear map to that embedding width; None keeps the last group's. `normalized` gives
    embeddings unit length.
    """

    channels: int = 3
    side: int
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    width: int = 64
    bottleneck: bool = False
    selective: bool = False
    dim: int | None = None
    normalized: bool = True

    def __post_init__(self) -> None:
        refuse_sizes_below_one(
            self,
            channels=self.channels,
            side=self.side,
            blocks=min(self.blocks, default=0),
            width=self.width,
            dim=self.dim,
        )
        if self.selective and self.width % 2:
            raise InvalidInput(f"width must be even where kernels are selective; got {self}")

    @property
    def features(self) -> int:
        """Give the width of the last group, which is pooled."""
        wide = self.width << len(self.blocks) - 1
        return wide * EXPANSION if self.bottleneck else wide


class ResNet(TensorEncoder):
    """Images of one side to one embedding each, the mean of the last feature map."""

    modality: ClassVar[str] = "image"
    shape: ResNetConfig

    def __init__(self, shape: ResNetConfig) -> None:
        super().__init__()
        self.shape = shape
        self.stem = _stem(shape)
        self.groups = nn.Sequential(*_groups(shape))
        self.project = Projection(shape.features, shape.dim, normalized=shape.normalized)
        self.dim = self.project.dim
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @property
    def input(self) -> TensorSpec:
        """Say that images are (channels, side, side)."""
        axes = ("batch", self.shape.channels, self.shape.side, self.shape.side)
        return TensorSpec(name="image", dtype="float32", shape=axes)

    @property
    def grid(self) -> tuple[int, int]:
        """Give the sides of the last feature map: each stride halves them, rounded up."""
        halved = len(self.shape.blocks) - 1 + (2 if self.shape.side > SMALL else 0)
        side = -(-self.shape.side // 2**halved)
        return side, side

    def with_tokens(
        self, image: Float[Tensor, "b channels side side"]
    ) -> tuple[Float[Tensor, "b dim"], Float[Tensor, "b n dim"]]:
        """Give the embeddings, and the places of the last feature map, mapped as their mean is."""
        maps: Tensor = self.groups(self.stem(image))
        return self.project(maps.mean((2, 3))), self.project.map(map_tokens(maps))

    def forward(self, image: Float[Tensor, "b channels side side"]) -> Float[Tensor, "b dim"]:
        """Embed images."""
        out: Tensor = self.project(self.groups(self.stem(image)).mean((2, 3)))
        return out


class Residual(nn.Module):
    """A block's body added to its input, or to a map of it where sizes change; then ReLU.

    The body's last norm starts at zero, so that a new network is nearly the identity.
    """

    def __init__(
        self, inward: int, width: int, *, stride: int, bottleneck: bool = False, selective: bool
    ) -> None:
        super().__init__()
        outward = width * EXPANSION if bottleneck else width
        before = _convolution(inward, width, 1) if bottleneck else ()
        widened = SelectiveConv if selective else _plain
        self.body = nn.Sequential(
            *before,
            widened(width if bottleneck else inward, width, stride=stride),
            *_convolution(width, outward, 1 if bottleneck else 3)[:-1],
        )
        nn.init.zeros_(cast("Tensor", self.body[-1].weight))
        self.shortcut = (
            nn.Sequential(*_shortcut(inward, outward, stride=stride, averaged=selective))
            if stride > 1 or inward != outward
            else nn.Identity()
        )
        self.activation = nn.ReLU()

    def forward(self, x: Float[Tensor, "b inward h w"]) -> Float[Tensor, "b outward h2 w2"]:
        """Transform a feature map."""
        out: Tensor = self.activation(self.body(x) + self.shortcut(x))
        return out


class SelectiveConv(nn.Module):
    """Two 3x3 convolutions of which every channel takes its own mixture, image by image.

    Both are one convolution of twice the width. The mean of their sum decides, through a layer of a
    sixteenth of the width, a softmax over the two. SimCLRv2 has these in bottlenecks; here a basic
    block's first convolution may be one too.
    """

    def __init__(self, inward: int, outward: int, *, stride: int) -> None:
        super().__init__()
        hidden = max(outward // SQUEEZE, NARROWEST)
        self.both = nn.Sequential(*_convolution(inward, 2 * outward, 3, stride=stride))
        self.select = nn.Sequential(
            *_convolution(outward, hidden, 1), nn.Conv2d(hidden, 2 * outward, 1, bias=False)
        )

    def forward(self, x: Float[Tensor, "b inward h w"]) -> Float[Tensor, "b outward h2 w2"]:
        """Convolve and select."""
        pair = self.both(x).unflatten(1, (2, -1))  # (b, 2, outward, h2, w2)
        seen = pair.sum(1).mean((2, 3), keepdim=True)  # (b, outward, 1, 1)
        share: Tensor = self.select(seen).unflatten(1, (2, -1)).softmax(1)
        mixed: Tensor = (pair * share).sum(1)
        return mixed


def _stem(shape: ResNetConfig) -> nn.Sequential:
    width = shape.width
    if shape.side <= SMALL:
        return nn.Sequential(*_convolution(shape.channels, width, 3))
    if not shape.selective:
        first = _convolution(shape.channels, width, 7, stride=2)
        return nn.Sequential(*first, nn.MaxPool2d(3, stride=2, padding=1))
    return nn.Sequential(
        *_convolution(shape.channels, width // 2, 3, stride=2),
        *_convolution(width // 2, width // 2, 3),
        *_convolution(width // 2, width, 3),
        nn.MaxPool2d(3, stride=2, padding=1),
    )


def _groups(shape: ResNetConfig) -> Iterator[nn.Module]:
    inward = shape.width
    for group, blocks in enumerate(shape.blocks):
        width = shape.width << group
        for block in range(blocks):
            yield Residual(
                inward,
                width,
                stride=2 if group and not block else 1,
                bottleneck=shape.bottleneck,
                selective=shape.selective,
            )
            inward = width * EXPANSION if shape.bottleneck else width


def _plain(inward: int, outward: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(*_convolution(inward, outward, 3, stride=stride))


def _convolution(
    inward: int, outward: int, kernel: int, *, stride: int = 1
) -> tuple[nn.Module, ...]:
    """Give a convolution, its batch norm and its ReLU."""
    convolution = nn.Conv2d(inward, outward, kernel, stride=stride, padding=kernel // 2, bias=False)
    return convolution, nn.BatchNorm2d(outward), nn.ReLU()


def _shortcut(inward: int, outward: int, *, stride: int, averaged: bool) -> Iterator[nn.Module]:
    """Map the input to the body's sizes; ResNet-D averages where a stride would skip pixels."""
    if averaged and stride > 1:
        yield nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False)
        stride = 1
    yield nn.Conv2d(inward, outward, 1, stride=stride, bias=False)
    yield nn.BatchNorm2d(outward)
