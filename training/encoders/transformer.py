"""The one token transformer, tokens in and tokens out; what attends is its constructor argument."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, cast

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from attar.errors import InvalidInput

from .attention import SoftmaxAttention

Attention = Callable[[int, int], nn.Module]  # (width, heads) -> a module on (tokens, mask)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerConfig:
    """The sizes of a token transformer; `hidden` is the width inside the feed-forward layers."""

    width: int
    depth: int
    heads: int
    hidden: int
    norm: Literal["pre", "post"] = "post"
    norm_eps: float = 1e-12  # BERT's

    def __post_init__(self) -> None:
        sizes = self.width, self.depth, self.heads, self.hidden
        if min(sizes) < 1 or self.width % self.heads or self.norm not in ("pre", "post"):
            raise InvalidInput(
                "width must be a multiple of heads, depth and hidden at least 1, and norm "
                f"'pre' or 'post'; got {self}"
            )


SMALL_BLOCKS: Final = TransformerConfig(
    width=64, depth=3, heads=4, hidden=128, norm="pre", norm_eps=1e-5
)
"""The size of small encoders that are trained from scratch: series, sound, tables, molecules."""


class Block(nn.Module):
    """Attention and feed-forward, each with a residual and a layer norm before or after it."""

    def __init__(self, shape: TransformerConfig, attention: Attention) -> None:
        super().__init__()
        self.post = shape.norm == "post"
        self.attention = attention(shape.width, shape.heads)
        self.attention_norm = nn.LayerNorm(shape.width, eps=shape.norm_eps)
        self.expand = nn.Linear(shape.width, shape.hidden)
        self.contract = nn.Linear(shape.hidden, shape.width)
        self.feed_forward_norm = nn.LayerNorm(shape.width, eps=shape.norm_eps)

    def forward(
        self, x: Float[Tensor, "b n width"], mask: Bool[Tensor, "b n"] | None
    ) -> Float[Tensor, "b n width"]:
        """Let tokens attend to one another, then transform each alone."""
        if self.post:
            x = self.attention_norm(x + self.attention(x, mask))
            out: Tensor = self.feed_forward_norm(x + self.feed_forward(x))
            return out
        x = x + self.attention(self.attention_norm(x), mask)
        return x + self.feed_forward(self.feed_forward_norm(x))

    def feed_forward(self, x: Float[Tensor, "b n width"]) -> Float[Tensor, "b n width"]:
        """Expand, apply GELU and contract each token alone."""
        out: Tensor = self.contract(F.gelu(self.expand(x)))
        return out


class TokenTransformer(nn.Module):
    """A stack of blocks (Vaswani et al. 2017, arXiv:1706.03762).

    Layer norms come after each residual as in BERT (arXiv:1810.04805), or before each and once
    more at the end, as `shape.norm` says.
    """

    def __init__(
        self, shape: TransformerConfig, *, attention: Attention = SoftmaxAttention
    ) -> None:
        super().__init__()
        blocks = nn.ModuleList(Block(shape, attention) for _ in range(shape.depth))
        self.blocks = cast("Sequence[Block]", blocks)  # torch's list does not know what it holds
        self.final_norm = (
            nn.LayerNorm(shape.width, eps=shape.norm_eps) if shape.norm == "pre" else nn.Identity()
        )

    def forward(
        self, x: Float[Tensor, "b n width"], mask: Bool[Tensor, "b n"] | None
    ) -> Float[Tensor, "b n width"]:
        """Transform tokens under a mask, true where a token is real; None says that all are."""
        for block in self.blocks:
            x = block(x, mask)
        out: Tensor = self.final_norm(x)
        return out
