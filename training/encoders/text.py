"""Text to embedding: a token table, the token transformer, pooling, unit length."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.errors import InvalidInput, NotSupported

from .attention import SoftmaxAttention, unit
from .encoder import without_tokens
from .pooling import Head, HeadConfig, sum_rows
from .transformer import Attention, TokenTransformer, TransformerConfig

WIDE_STD = 0.01  # of the rows of a wide table; at one rate, smaller rows turn faster


@dataclass(frozen=True, slots=True, kw_only=True)
class TextConfig:
    """The sizes of a text encoder.

    `rank` factorises the token table into (vocabulary, rank) and (rank, width), as ALBERT does
    (Lan et al. 2020, arXiv:1909.11942, section 3.1); None keeps it whole. `positions` adds a
    learned vector to each token by its position; attention with rotary positions needs none. `dim`
    adds a linear map to that embedding width; None keeps what the head gives, by default the mean
    of the tokens. `wide` adds a table of tokens of that rank whose mean is added to the embedding,
    past the transformer; None adds none. `normalized` gives embeddings unit length.
    """

    vocabulary: int
    max_length: int
    transformer: TransformerConfig
    rank: int | None = None
    positions: bool = True
    dim: int | None = None
    wide: int | None = None
    head: HeadConfig = field(default_factory=HeadConfig)
    normalized: bool = True

    def __post_init__(self) -> None:
        sizes = (self.vocabulary, self.max_length, self.rank, self.dim, self.wide)
        if any(size is not None and size < 1 for size in sizes):
            raise InvalidInput(
                f"vocabulary, max_length, rank, dim and wide must be at least 1; got {self}"
            )


class TextNetwork(nn.Module, ABC):
    """What every text encoder is, ours or another library's: ids and mask in, embeddings out.

    `dim` is the embedding's width, `max_length` the most tokens of a text, and `normalized` says
    whether every embedding has unit length.
    """

    dim: int
    max_length: int
    normalized: bool

    @abstractmethod
    def forward(
        self, input_ids: Int[Tensor, "b n"], attention_mask: Int[Tensor, "b n"]
    ) -> Float[Tensor, "b dim"]:
        """Embed rows of ids; their mask is 1 where a token is real and 0 on padding."""

    @property
    def token_dim(self) -> int | None:
        """Give the width of the vectors of `with_tokens`; None where it has none."""
        return None

    def with_tokens(
        self, input_ids: Int[Tensor, "b n"], attention_mask: Int[Tensor, "b n"]
    ) -> tuple[Float[Tensor, "b dim"], Float[Tensor, "b n token_dim"]]:
        """Give the embeddings, and a vector of any length a token; those of padding mean nothing.

        They are last hidden states, mapped as the pooled one is. Raises NotSupported for an encoder
        without.
        """
        raise NotSupported(without_tokens(self))


class TokenTable(nn.Module):
    """Token ids to tokens: a table, whole or factorised, positions if any, then layer norm."""

    def __init__(self, shape: TextConfig) -> None:
        super().__init__()
        width = shape.transformer.width
        self.table = nn.Embedding(shape.vocabulary, shape.rank or width)
        self.expand = nn.Linear(shape.rank, width, bias=False) if shape.rank else nn.Identity()
        self.position = nn.Embedding(shape.max_length, width) if shape.positions else None
        self.norm = nn.LayerNorm(width, eps=shape.transformer.norm_eps)
        nn.init.normal_(self.table.weight, std=1.0 if shape.rank else 0.02)
        if self.position is not None:
            nn.init.normal_(self.position.weight, std=0.02)

    def forward(self, ids: Int[Tensor, "b n"]) -> Float[Tensor, "b n width"]:
        """Look up at most `max_length` ids a row."""
        content = self.expand(self.table(ids))
        if self.position is not None:
            content = content + self.position.weight[: ids.shape[1]]
        tokens: Tensor = self.norm(content)
        return tokens


class WideTable(nn.Module):
    """The wide part of an encoder: a linear function of which tokens a text has.

    Cheng et al. 2016 (Wide & Deep, arXiv:1606.07792) add such a part to a network and train both
    together. Here it is the mean of a table's rows, of `rank` numbers each, mapped to the
    embedding's `dim`. Order changes nothing, and the length of a row is the weight of its token.
    """

    def __init__(self, vocabulary: int, rank: int, dim: int) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, rank)
        self.expand = nn.Linear(rank, dim, bias=False)
        nn.init.normal_(self.table.weight, std=WIDE_STD)

    def forward(self, ids: Int[Tensor, "b n"], mask: Int[Tensor, "b n"]) -> Float[Tensor, "b dim"]:
        """Give the mean over the real tokens of each row."""
        count = mask.sum(1, keepdim=True).clamp_min(1)
        rows = sum_rows(self.table.weight, ids, mask, training=self.training)
        out: Tensor = self.expand(rows / count)
        return out

    def of_tokens(self, ids: Int[Tensor, "b n"]) -> Float[Tensor, "b n dim"]:
        """Give what each token adds to the mean."""
        out: Tensor = self.expand(self.table(ids))
        return out


class TextEncoder(TextNetwork):
    """Token ids and their mask to one embedding a text, of unit length if `normalized`."""

    def __init__(self, shape: TextConfig, *, attention: Attention = SoftmaxAttention) -> None:
        super().__init__()
        width = shape.transformer.width
        self.shape = shape
        self.tokens = TokenTable(shape)
        self.transformer = TokenTransformer(shape.transformer, attention=attention)
        self.head = Head(shape.head, width)
        self.project = nn.Linear(self.head.dim, shape.dim) if shape.dim else nn.Identity()
        self.dim = shape.dim or self.head.dim
        self.wide = WideTable(shape.vocabulary, shape.wide, self.dim) if shape.wide else None
        self.max_length = shape.max_length
        self.normalized = shape.normalized

    def forward(
        self, input_ids: Int[Tensor, "b n"], attention_mask: Int[Tensor, "b n"]
    ) -> Float[Tensor, "b dim"]:
        """Embed rows of ids; their mask is 1 where a token is real and 0 on padding."""
        return self.combine(self.states(input_ids, attention_mask), input_ids, attention_mask)

    def states(
        self, input_ids: Int[Tensor, "b n"], attention_mask: Int[Tensor, "b n"]
    ) -> Float[Tensor, "b head"]:
        """Give what the head makes of the tokens, before it is mapped and the wide part added."""
        tokens = self.transformer(self.tokens(input_ids), attention_mask.bool())
        pooled: Tensor = self.head(tokens, attention_mask)
        return pooled

    def combine(
        self,
        states: Float[Tensor, "b head"],
        input_ids: Int[Tensor, "b n"],
        attention_mask: Int[Tensor, "b n"],
    ) -> Float[Tensor, "b dim"]:
        """Give the embeddings of texts whose `states` are known."""
        vectors: Tensor = self.project(states)
        if self.wide is not None:
            vectors = vectors + self.wide(input_ids, attention_mask)
        return unit(vectors) if self.normalized else vectors

    @property
    def token_dim(self) -> int:
        """Give the embedding's width."""
        return self.dim

    def with_tokens(
        self, input_ids: Int[Tensor, "b n"], attention_mask: Int[Tensor, "b n"]
    ) -> tuple[Float[Tensor, "b dim"], Float[Tensor, "b n dim"]]:
        """Give the embeddings, and the tokens' states, mapped as the pooled one is."""
        tokens = self.transformer(self.tokens(input_ids), attention_mask.bool())
        states = self.head(tokens, attention_mask)
        vectors = self.project(self.head.dense(tokens))
        if self.wide is not None:
            vectors = vectors + self.wide.of_tokens(input_ids)
        return self.combine(states, input_ids, attention_mask), vectors


def parameter_count(module: nn.Module) -> int:
    """Count the numbers that a module learns, those of shared tensors once."""
    return sum(parameter.numel() for parameter in module.parameters())


def freeze_below(encoder: TextEncoder, layers: int | None) -> None:
    """Let the last `layers` layers learn alone, and what comes after them; None is all weights.

    The token table learns where all layers do.
    """
    blocks = encoder.transformer.blocks
    encoder.requires_grad_(requires_grad=True)
    if layers is not None and layers < len(blocks):
        encoder.tokens.requires_grad_(requires_grad=False)
        for block in blocks[: len(blocks) - layers]:
            block.requires_grad_(requires_grad=False)
