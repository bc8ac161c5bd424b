"""What every encoder of one tensor has: a shape that makes it again, and a door of known sizes."""

from abc import ABC, abstractmethod
from copy import deepcopy
from dataclasses import replace
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from attar.errors import InvalidInput, NotSupported
from attar.manifest import Limits, TensorSpec

from .attention import unit


class TensorEncoder(nn.Module, ABC):
    """One batch of tensors in, one embedding an item out: `encoder(batch)` is (b, dim).

    `shape` is the frozen dataclass that makes the encoder again, but for its weights and attention;
    `dim` is the embedding's width and `modality` the word for what is embedded. `project` makes
    the embedding from the pooled features.
    """

    modality: ClassVar[str]
    shape: Any  # each encoder names its own
    dim: int
    project: "Projection"
    licence: str | None = None
    """That of the weights which training began with, where others had trained them."""

    @property
    @abstractmethod
    def input(self) -> TensorSpec:
        """Say what the encoder takes, batch first; an axis with a name is what `limits` allow."""

    @property
    def limits(self) -> Limits:
        """Say which items the encoder takes, and what they cost a run."""
        return Limits()

    @property
    def examples(self) -> tuple[tuple[int, ...], ...]:
        """Give shapes of items, without the batch axis, that try every named axis at two sizes."""
        sizes = tuple(axis for axis in self.input.shape[1:] if isinstance(axis, int))
        return (sizes,)

    @property
    def grid(self) -> tuple[int, int] | None:
        """Give the rows and columns of the vectors of `with_tokens`; None where it has none."""
        return None

    def with_tokens(
        self, x: Float[Tensor, "b *item"]
    ) -> tuple[Float[Tensor, "b dim"], Float[Tensor, "b tokens token_dim"]]:
        """Give the embeddings, and the vectors of each item's tokens, of any length.

        The tokens lie in `grid`, in reading order. Raises NotSupported for an encoder without.
        """
        raise NotSupported(without_tokens(self))

    def at_unit_length(self) -> "TensorEncoder":
        """Give a copy whose embeddings have unit length."""
        copy = deepcopy(self)
        copy.shape = replace(self.shape, normalized=True)
        copy.project.normalized = True
        return copy


class Projection(nn.Module):
    """Features to embedding: a linear map unless `dim` is None, unit length if `normalized`."""

    def __init__(self, width: int, dim: int | None, *, normalized: bool) -> None:
        super().__init__()
        self.map = nn.Linear(width, dim) if dim else nn.Identity()
        self.dim = dim or width
        self.normalized = normalized

    def forward(self, features: Float[Tensor, "b width"]) -> Float[Tensor, "b dim"]:
        """Give the embeddings of pooled features."""
        vectors: Tensor = self.map(features)
        return unit(vectors) if self.normalized else vectors


def map_tokens(maps: Float[Tensor, "b width rows columns"]) -> Float[Tensor, "b n width"]:
    """Give the places of feature maps as tokens, in reading order."""
    return maps.flatten(2).transpose(1, 2)


def without_tokens(encoder: object) -> str:
    """Say that an encoder has no token vectors, and which have."""
    return (
        f"{type(encoder).__name__} has no token vectors; convolutions and vision transformers that "
        "average a map or take a class token have them, and text encoders whose tokens attend"
    )


def refuse_sizes_below_one(shape: object, **sizes: int | None) -> None:
    """Raise InvalidInput that names the sizes of a shape that are below one; None is no size."""
    if small := [name for name, size in sizes.items() if size is not None and size < 1]:
        raise InvalidInput(f"{' and '.join(small)} must be at least 1; got {shape}")
