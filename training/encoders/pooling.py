"""Token states to one vector a text: pooled, then mapped by dense layers if there are any."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

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
class LayerNorm:
    """A layer norm of the pooled vector, with what it adds to the variance."""

    eps: float = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadConfig:
    """How tokens become one vector, and the layers that map it on.

    Of several `pooling`, the vectors stand one after the other.
    """

    pooling: Pooling | tuple[Pooling, ...] = "mean"
    dense: tuple[Dense | LayerNorm, ...] = ()

    def __post_init__(self) -> None:
        distinct = {*self.poolings} & {*get_args(Pooling)}
        if not distinct or len(distinct) < len(self.poolings):
            raise InvalidInput(
                f"pooling must be one of {', '.join(get_args(Pooling))}, or several, each once; "
                f"got {self.pooling!r}"
            )

    @property
    def poolings(self) -> tuple[Pooling, ...]:
        """Every pooling, in the order of their vectors."""
        return self.pooling if isinstance(self.pooling, tuple) else (self.pooling,)


class Head(nn.Module):
    """Pool tokens of `width` and pass them through the layers; `dim` is what comes out."""

    def __init__(self, shape: HeadConfig, width: int) -> None:
        super().__init__()
        self.poolings = shape.poolings
        width *= len(shape.poolings)
        layers: list[nn.Module] = []
        for layer in shape.dense:
            if isinstance(layer, LayerNorm):
                layers.append(nn.LayerNorm(width, eps=layer.eps))
                continue
            layers += [nn.Linear(width, layer.width, bias=layer.bias)]
            layers += [ACTIVATIONS[layer.activation]()]
            width = layer.width
        self.dense = nn.Sequential(*layers)
        self.dim = width

    def forward(
        self, tokens: Float[Tensor, "b n width"], mask: Int[Tensor, "b n"]
    ) -> Float[Tensor, "b dim"]:
        """Give one vector a row; the mask is 1 where a token is real, which is before padding."""
        pooled = [pool(tokens, mask, pooling) for pooling in self.poolings]
        out: Tensor = self.dense(torch.cat(pooled, 1) if len(pooled) > 1 else pooled[0])
        return out


def pool(
    tokens: Float[Tensor, "b n width"], mask: Int[Tensor, "b n"], pooling: Pooling
) -> Float[Tensor, "b width"]:
    """Give one vector a row from its real tokens, which stand before its padding.

    "weightedmean" weighs a token by its position, from 1 on (SGPT, Muennighoff 2022,
    arXiv:2202.08904); "mean_sqrt_len_tokens" divides the sum by the root of the number of tokens.
    """
    if pooling == "mean":
        return mean_pool(tokens, mask)
    if pooling == "mean_sqrt_len_tokens":
        return mean_pool(tokens, mask) * mask.sum(1, keepdim=True).to(tokens.dtype).sqrt()
    if pooling == "weightedmean":
        return mean_pool(tokens, mask * torch.arange(1, mask.shape[1] + 1, device=mask.device))
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
    """Average the real tokens of each row, where the mask is 1, or weigh them by the mask."""
    real = mask[..., None].to(tokens.dtype)
    return (tokens * real).sum(1) / real.sum(1).clamp_min(1.0)


def sum_rows(
    table: Float[Tensor, "vocabulary width"],
    ids: Int[Tensor, "b n"],
    weights: Float[Tensor, "b n"] | Int[Tensor, "b n"],
    *,
    training: bool,
) -> Float[Tensor, "b width"]:
    """Sum the rows of a table that each text names, weighed."""
    if training:
        # A bag never has (b, n, width) in memory, which takes ten times as long for 256 tokens.
        bags: Tensor = F.embedding_bag(
            ids, table, per_sample_weights=weights.to(table.dtype), mode="sum"
        )
        return bags
    rows = F.embedding(ids, table)  # in operators that ONNX has
    return torch.bmm(weights[:, None].to(rows.dtype), rows)[:, 0]
