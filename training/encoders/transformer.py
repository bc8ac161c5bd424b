"""The one token transformer: any tokens in, tokens out; what attends is its constructor argument."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from attar.errors import InvalidInput

from .attention import SoftmaxAttention

Attention = Callable[[int, int], nn.Module]  # (width, heads) -> a module on (tokens, mask)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerShape:
    """The sizes of a token transformer; `hidden` is the width inside the feed-forward layers."""

    width: int
    depth: int
    heads: int
    hidden: int
    norm: Literal["pre", "post"] = "post"
    norm_eps: float = 1e-12

    def __post_init__(self) -> None:
        if min(self.width, self.depth, self.heads, self.hidden) < 1 or self.width % self.heads:
            raise InvalidInput(
                f"width must be a positive multiple of heads, depth and hidden positive; got {self}"
            )


class Block(nn.Module):
    """Attention and feed-forward, each with a residual and a layer norm before or after it."""

    def __init__(self, shape: TransformerShape, attention: Attention) -> None:
        super().__init__()
        self.post = shape.norm == "post"
        self.attention = attention(shape.width, shape.heads)
        self.attention_norm = nn.LayerNorm(shape.width, eps=shape.norm_eps)
        self.expand = nn.Linear(shape.width, shape.hidden)
        self.contract = nn.Linear(shape.hidden, shape.width)
        self.feed_forward_norm = nn.LayerNorm(shape.width, eps=shape.norm_eps)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(b, n, width) -> (b, n, width)."""
        if self.post:
            x = self.attention_norm(x + self.attention(x, mask))
            return self.feed_forward_norm(x + self.feed_forward(x))
        x = x + self.attention(self.attention_norm(x), mask)
        return x + self.feed_forward(self.feed_forward_norm(x))

    def feed_forward(self, x: Tensor) -> Tensor:
        """Expand, gate by GELU, contract, each token alone."""
        return self.contract(F.gelu(self.expand(x)))


class TokenTransformer(nn.Module):
    """A stack of blocks (Vaswani et al. 2017; post-norm as in BERT, arXiv:1810.04805, or pre-norm)."""

    def __init__(self, shape: TransformerShape, *, attention: Attention = SoftmaxAttention) -> None:
        super().__init__()
        self.shape = shape
        self.blocks = nn.ModuleList(Block(shape, attention) for _ in range(shape.depth))
        self.final_norm = nn.LayerNorm(shape.width, eps=shape.norm_eps) if shape.norm == "pre" else nn.Identity()

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Transform tokens (b, n, width) under a mask (b, n), true where a token is real."""
        for block in self.blocks:
            x = block(x, mask)
        return self.final_norm(x)
