"""Text to embedding: a token table, the token transformer, mean pooling, unit length."""

from dataclasses import dataclass


from torch import Tensor, nn

from .attention import SoftmaxAttention, unit
from .transformer import Attention, TokenTransformer, TransformerShape


@dataclass(frozen=True, slots=True, kw_only=True)
class TextShape:
    """The sizes of a text encoder.

    `rank` factorises the token table into (vocabulary, rank) and (rank, width), as ALBERT does
    (Lan et al. 2020, arXiv:1909.11942, section 3.1); None keeps it whole.  `dim` adds a linear map to
    that embedding width; None keeps the transformer's.
    """

    vocabulary: int
    max_length: int
    transformer: TransformerShape
    rank: int | None = None
    dim: int | None = None


class TokenTable(nn.Module):
    """Token ids to tokens: a table, factorised or whole, plus learned positions, layer-normalised."""

    def __init__(self, shape: TextShape) -> None:
        super().__init__()
        width = shape.transformer.width
        self.table = nn.Embedding(shape.vocabulary, shape.rank or width)
        self.expand = nn.Identity() if shape.rank is None else nn.Linear(shape.rank, width, bias=False)
        self.position = nn.Embedding(shape.max_length, width)
        self.norm = nn.LayerNorm(width, eps=shape.transformer.norm_eps)
        nn.init.normal_(self.table.weight, std=0.02 if shape.rank is None else 1.0)
        nn.init.normal_(self.position.weight, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        """(b, n) -> (b, n, width)."""
        return self.norm(self.expand(self.table(ids)) + self.position.weight[: ids.shape[1]])


class TextEncoder(nn.Module):
    """Token ids and their mask to one unit-length embedding a text."""

    def __init__(self, shape: TextShape, *, attention: Attention = SoftmaxAttention) -> None:
        super().__init__()
        self.shape = shape
        self.tokens = TokenTable(shape)
        self.transformer = TokenTransformer(shape.transformer, attention=attention)
        width = shape.transformer.width
        self.project = nn.Identity() if shape.dim is None else nn.Linear(width, shape.dim)
        self.dim = shape.dim or width

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Embed ids (b, n) under their mask (b, n), 1 where a token is real: (b, dim), unit rows."""
        tokens = self.transformer(self.tokens(input_ids), attention_mask.bool())
        return unit(self.project(mean_pool(tokens, attention_mask)))


def mean_pool(tokens: Tensor, mask: Tensor) -> Tensor:
    """Average the real tokens of each row: (b, n, width) -> (b, width)."""
    real = mask[..., None].to(tokens.dtype)
    return (tokens * real).sum(1) / real.sum(1).clamp_min(1.0)


def parameter_count(module: nn.Module) -> int:
    """Count what the module learns and stores, once where it is shared."""
    return sum(p.numel() for p in {id(p): p for p in module.parameters()}.values())


