"""The multilayer perceptron: the projector before most objectives, and the plainest encoder."""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from attar.manifest import TensorSpec

from .encoder import Projection, TensorEncoder, refuse_sizes_below_one


def mlp(*widths: int, norm_output: bool = False) -> nn.Sequential:
    """Map (n, widths[0]) to (n, widths[-1]), batch norm and ReLU on the layers in between.

    This is the projector of Barlow Twins and SimCLR's: the last layer is linear, without bias. With
    `norm_output` a batch norm without gain and bias follows it, as in SimSiam and SiT. Raises
    InvalidInput for a width below one.
    """
    refuse_sizes_below_one(widths, width=min(widths))
    layers: list[nn.Module] = []
    *hidden, last = pairwise(widths)
    for inward, outward in hidden:
        layers += [
            nn.Linear(inward, outward, bias=False),
            nn.BatchNorm1d(outward),
            nn.ReLU(),
        ]
    layers.append(nn.Linear(*last, bias=False))
    if norm_output:
        layers.append(nn.BatchNorm1d(widths[-1], affine=False))
    return nn.Sequential(*layers)


def projector(
    inward: int, hidden: int, outward: int, *, depth: int, norm_output: bool = False
) -> nn.Sequential:
    """Make an `mlp` of `depth` linear layers: `hidden` wide inside, `outward` at the end.

    Raises InvalidInput for a depth or a width below one.
    """
    refuse_sizes_below_one(f"a projector of depth {depth}", depth=depth)
    return mlp(inward, *[hidden] * (depth - 1), outward, norm_output=norm_output)


@dataclass(frozen=True, slots=True, kw_only=True)
class MlpConfig:
    """The sizes of an MLP encoder: `features` in, `hidden` layers with ReLU, `dim` out.

    `normalized` gives embeddings unit length. AstroM3's metadata encoder (arXiv:2411.08842) has 34
    features, one hidden layer of 512 and dim 512.
    """

    features: int
    hidden: tuple[int, ...] = (512,)
    dim: int
    normalized: bool = True

    def __post_init__(self) -> None:
        refuse_sizes_below_one(
            self, features=self.features, hidden=min(self.hidden, default=1), dim=self.dim
        )


class MlpEncoder(TensorEncoder):
    """Rows of numbers to one embedding each, no row looking at another: there is no batch norm."""

    modality: ClassVar[str] = "table"
    shape: MlpConfig

    def __init__(self, shape: MlpConfig) -> None:
        super().__init__()
        widths = shape.features, *shape.hidden
        self.shape = shape
        self.dim = shape.dim
        self.layers = nn.Sequential(
            *(layer for pair in pairwise(widths) for layer in (nn.Linear(*pair), nn.ReLU()))
        )
        self.project = Projection(widths[-1], shape.dim, normalized=shape.normalized)

    @property
    def input(self) -> TensorSpec:
        """Say that a row is (features,)."""
        return TensorSpec(name="row", dtype="float32", shape=("batch", self.shape.features))

    def forward(self, row: Float[Tensor, "b features"]) -> Float[Tensor, "b dim"]:
        """Embed rows."""
        out: Tensor = self.project(self.layers(row))
        return out
