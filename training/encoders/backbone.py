"""A backbone: a network of another library, such as one of timm, as an encoder of images."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from attar.errors import InvalidInput
from attar.manifest import TensorSpec

from ..backbones.network import PRETRAINED, RANDOM, Network, load_network
from .encoder import Projection, TensorEncoder, refuse_sizes_below_one

CHANNELS = (1, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneConfig:
    """A network by name, `timm:NAME` or `torch:MODULE:FACTORY`, and the images that it takes.

    `dim` adds a linear map to that embedding width; None keeps the pooled features. `normalized`
    gives embeddings unit length.
    """

    name: str
    channels: int = 3
    side: int
    dim: int | None = None
    normalized: bool = True

    def __post_init__(self) -> None:
        refuse_sizes_below_one(self, channels=self.channels, side=self.side, dim=self.dim)
        if self.channels not in CHANNELS:
            raise InvalidInput(f"channels are 1, grey, or 3, colour; got {self}")


class Backbone(TensorEncoder):
    """A network between the scaling that it was trained with, and a projection.

    A grey image is given to it as three equal channels, and a map of features is averaged. Scaling
    is part of the weights.
    """

    modality: ClassVar[str] = "image"
    shape: BackboneConfig
    mean: Float[Tensor, "3 1 1"]
    std: Float[Tensor, "3 1 1"]

    def __init__(
        self, shape: BackboneConfig, *, weights: str = RANDOM, network: Network | None = None
    ) -> None:
        """Make the network with `weights` as `load_network` takes them, or take that `network`.

        Raises InvalidInput also where the network takes no images of this side, or gives neither
        (b, d) features nor (b, d, h, w).
        """
        super().__init__()
        loaded = network or load_network(shape.name, weights)
        self.shape = shape
        self.licence = None if weights == RANDOM else loaded.config.licence
        self.network = loaded.module
        for name in ("mean", "std"):
            channels = torch.tensor(getattr(loaded.config, name)).view(3, 1, 1)
            self.register_buffer(name, channels)
        self.project = Projection(self._width(), shape.dim, normalized=shape.normalized)
        self.dim = self.project.dim
        self.train()

    @classmethod
    def pretrained(cls, name: str, *, channels: int = 3) -> "Backbone":
        """Make the network called `name` with its weights, for images of its own side.

        `channels` are those of the images. Raises InvalidInput as `Backbone` does.
        """
        network = load_network(name)
        shape = BackboneConfig(name=name, channels=channels, side=network.config.side)
        return cls(shape, weights=PRETRAINED, network=network)

    @property
    def input(self) -> TensorSpec:
        """Say that images are (channels, side, side)."""
        axes = ("batch", self.shape.channels, self.shape.side, self.shape.side)
        return TensorSpec(name="image", dtype="float32", shape=axes)

    def forward(self, image: Float[Tensor, "b channels side side"]) -> Float[Tensor, "b dim"]:
        """Embed images in [0, 1]."""
        scaled = (image.expand(-1, 3, -1, -1) - self.mean) / self.std
        out: Tensor = self.project(pooled(self.network(scaled)))
        return out

    def _width(self) -> int:
        """Give the width of the features, by embedding one grey image."""
        side = self.shape.side
        try:
            with torch.no_grad():
                features = self.network(torch.zeros(1, 3, side, side))
        except (RuntimeError, AssertionError, ValueError) as error:
            raise InvalidInput(
                f"{self.shape.name} takes no images of {side} x {side} pixels: {error}; read them "
                "at its own size (--read side=N)"
            ) from error
        return int(pooled(features).shape[1])


def pooled(features: object) -> Float[Tensor, "b d"]:
    """Average a map of features (b, d, h, w); (b, d) are left as they are.

    Raises InvalidInput for anything else.
    """
    shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
    if not isinstance(features, Tensor) or len(shape) not in (2, 4):
        raise InvalidInput(
            f"the network gives {shape}; expected features (b, d) or a map of them (b, d, h, w)"
        )
    return features.mean((2, 3)) if features.ndim == 4 else features
