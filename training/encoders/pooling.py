"""Token states to one vector a text: pooled, then mapped by dense layers if there are any."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.errors import InvalidInput

from ..choices import Pooling

Activation: TypeAlias = Literal["identity", "tanh", "relu", "gelu", "silu", "sigmoid"]

ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "identity": nn.Identity,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense:
    """One dense layer: its outgoing width, its activation, and whether it adds a bias."""

    width: int
    activation: Activation = "identity"
    bias: bool = True

    def __post_init__(self) -> None:
        if self.width < 1 or self.activation not in get_args(Activation):
            raise InvalidInput(
                "a dense layer's width must be at least 1 and its activation one of "
                f"{', '.join(get_args(Activation))}; got {self}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadConfig:
    """How tokens become one vector: the mean of the real ones, the first, the last or the most."""

    pooling: Pooling = "mean"
    dense: tuple[Dense, ...] = ()

    def __post_init__(self) -> None:
        if self.pooling not in get_args(Pooling):
            raise InvalidInput(
                f"pooling must be one of {', '.join(get_args(Pooling))}; got {self.pooling!r}"
            )


class Head(nn.Module):
    """Pool tokens of `width` and pass them through the dense layers; `dim` is what comes out."""

    def __init__(self, shape: HeadConfig, width: int) -> None:
        super().__init__()
        self.pooling = shape.pooling
        layers: list[nn.Module] = []
        for dense in shape.dense:
            layers += [nn.Linear(width, dense.width, bias=dense.bias)]
            layers += [ACTIVATIONS[dense.activation]()]
            width = dense.width
        self.dense = nn.Sequential(*layers)
        self.dim = width

    def forward(
        self, tokens: Float[Tensor, "b n width"], mask: Int[Tensor, "b n"]
    ) -> Float[Tensor, "b dim"]:
        """Give one vector a row; the mask is 1 where a token is real, which is before padding."""
        out: Tensor = self.dense(pool(tokens, mask, self.pooling))
        return out


def pool(
    tokens: Float[Tensor, "b n width"], mask: Int[Tensor, "b n"], pooling: Pooling
) -> Float[Tensor, "b width"]:
    """Give one vector a row from its real tokens, which stand before its padding."""
    if pooling == "mean":
        return mean_pool(tokens, mask)
    if pooling == "cls":
        return tokens[:, 0]
    if pooling == "last":
        last = mask.sum(1) - 1
        indices = last[:, None, None].expand(-1, 1, tokens.shape[-1])  # (b, 1, width)
        return torch.gather(tokens, 1, indices).squeeze(1)
    return tokens.masked_fill(mask[..., None] == 0, -math.inf).amax(1)


def mean_pool(
    tokens: Float[Tensor, "b n width"], mask: Int[Tensor, "b n"]
) -> Float[Tensor, "b width"]:
    """Average the real tokens of each row."""
    real = mask[..., None].to(tokens.dtype)
    return (tokens * real).sum(1) / real.sum(1).clamp_min(1.0)
