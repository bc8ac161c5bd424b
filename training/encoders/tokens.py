"""Tensors to tokens, the one transformer, pooling: what encoders over tokens share.

An encoder defines the content of a token (`content`) and its position (`add_positions`). These are
two methods so that masked prediction works with every encoder: a masked token keeps its position
(`tokens` with `Hidden`; Devlin et al. 2019, arXiv:1810.04805), and an encoder can be run on some of
the tokens (`take`; He et al. 2022, arXiv:2111.06377) or on a mask of them.
"""

from abc import abstractmethod
from typing import Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from attar.errors import InvalidInput

from .encoder import Projection, TensorEncoder
from .pooling import mean_pool
from .transformer import Attention, TokenTransformer, TransformerConfig

MOST_TOKENS = 3000
"""Of one item that a bundle takes, where any number will do: 30 s in frames of 10 ms.

Attention over them takes 36 MB a head.
"""

TokenPooling: TypeAlias = Literal["mean", "cls", "flatten"]


class Hidden(NamedTuple):
    """The masked positions of a batch, and the learned token that replaces them.

    The token belongs to the method, so that an encoder has no weight that it does not use.
    """

    positions: Bool[Tensor, "b n"]
    token: Float[Tensor, "width"]


class TokenEncoder(TensorEncoder):
    """An encoder over the token transformer; `encoder(x)` is `embed(states(tokens(x)))`.

    With `first` there is one learned token before those of the item, which holds nothing of its
    own: BERT's class token, T-JEPA's regularisation token. Its state is the embedding where pooling
    is "cls"; "mean" averages the item's own tokens, and "flatten" joins the states of all `count`
    of them, so that the embedding keeps which token is which.
    """

    def __init__(
        self,
        transformer: TransformerConfig,
        attention: Attention,
        *,
        pooling: TokenPooling,
        first: bool,
        dim: int | None,
        normalized: bool,
        count: int = 1,
    ) -> None:
        super().__init__()
        self.width = transformer.width
        self.pooling = pooling
        self.first = nn.Parameter(torch.randn(self.width) * 0.02) if first else None
        self.transformer = TokenTransformer(transformer, attention=attention)
        pooled = self.width * count if pooling == "flatten" else self.width
        self.project = Projection(pooled, dim, normalized=normalized)
        self.dim = self.project.dim

    def forward(self, x: Float[Tensor, "b *item"]) -> Float[Tensor, "b dim"]:
        """Embed a batch of items of one shape."""
        return self.embed(self.states(self.tokens(x)))

    def with_tokens(
        self, x: Float[Tensor, "b *item"]
    ) -> tuple[Float[Tensor, "b dim"], Float[Tensor, "b n dim"]]:
        """Give the embeddings, and the states of the items' own tokens, mapped as those are."""
        if self.grid is None:
            return super().with_tokens(x)
        states = self.states(self.tokens(x))
        return self.embed(states), self.project.map(self.own(states))

    def tokens(
        self, x: Float[Tensor, "b *item"], hidden: Hidden | None = None
    ) -> Float[Tensor, "b n width"]:
        """Give the item's tokens as they enter the transformer, `first` not among them.

        Where `hidden` says so a token holds nothing of the item but its place.
        """
        content = self.content(x)
        if hidden is not None:
            stand_in = hidden.token.to(content.dtype)
            content = torch.where(hidden.positions[..., None], stand_in, content)
        return self.add_positions(content)

    @abstractmethod
    def content(self, x: Float[Tensor, "b *item"]) -> Float[Tensor, "b n width"]:
        """Give the content of each token, without its position."""

    @abstractmethod
    def add_positions(self, content: Float[Tensor, "b n width"]) -> Float[Tensor, "b n width"]:
        """Add the positions of all n tokens of an item."""

    def states(
        self, tokens: Float[Tensor, "b n width"], mask: Bool[Tensor, "b n"] | None = None
    ) -> Float[Tensor, "b m width"]:
        """Run the transformer on tokens, all of an item's or some.

        m is n, and one more with `first`, which comes before them.
        `mask` is true where a token takes part; the states of others are finite and mean nothing.
        """
        if self.first is not None:
            first = self.first.to(tokens.dtype).expand(tokens.shape[0], 1, -1)
            tokens = torch.cat([first, tokens], 1)
            mask = None if mask is None else F.pad(mask, (1, 0), value=True)
        out: Tensor = self.transformer(tokens, mask)
        return out

    def own(self, states: Float[Tensor, "b m width"]) -> Float[Tensor, "b n width"]:
        """Give the states of the item's own tokens, without that of `first`."""
        return states if self.first is None else states[:, 1:]

    def embed(
        self, states: Float[Tensor, "b m width"], mask: Bool[Tensor, "b n"] | None = None
    ) -> Float[Tensor, "b dim"]:
        """Pool states and map them; with a mask, those of the tokens that took part.

        The others are left out of a mean, and are zeros where states are joined.
        """
        if self.pooling == "cls":
            pooled = states[:, 0]
        elif self.pooling == "flatten":
            own = self.own(states)
            pooled = (own if mask is None else own * mask[..., None]).flatten(1)
        elif mask is None:
            pooled = self.own(states).mean(1)
        else:
            pooled = mean_pool(self.own(states), mask.long())
        out: Tensor = self.project(pooled)
        return out


def take(
    tokens: Float[Tensor, "b n width"], positions: Int[Tensor, "b k"]
) -> Float[Tensor, "b k width"]:
    """Give the k tokens of each row at `positions`, in that order."""
    return tokens.gather(1, positions[..., None].expand(-1, -1, tokens.shape[-1]))


def sinusoids(length: int, width: int) -> Float[Tensor, "length width"]:
    """Give sines and cosines of a position, at wavelengths from 2 pi to 20,000 pi.

    The fixed positions of Vaswani et al. 2017 (arXiv:1706.03762, section 3.5), which any number of
    tokens has.
    """
    rate = 10_000 ** (-torch.arange(0, width, 2) / width)
    angle = torch.arange(length)[:, None] * rate
    return torch.cat([angle.sin(), angle.cos()], 1)[:, :width]


def refuse_pooling(pooling: str, *, fixed: bool = False) -> None:
    """Raise InvalidInput for an unknown pooling; "flatten" needs a `fixed` number of tokens."""
    allowed = ("mean", "cls", "flatten") if fixed else ("mean", "cls")
    if pooling not in allowed:
        names = ", ".join(map(repr, allowed))
        raise InvalidInput(f"pooling must be one of {names}; got {pooling!r}")
