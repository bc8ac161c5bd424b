"""Rows of a table to embedding: a token a feature, so that features can be hidden and predicted.

Tokens as in the FT-Transformer (Gorishniy et al. 2021, arXiv:2106.11959, section 3.3), the token
before them as in T-JEPA (Thimonier et al. 2024, arXiv:2410.05016), where it regularises: it is
never hidden and never predicted.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.errors import InvalidInput
from attar.manifest import Cost, Limits, TensorSpec

from ..data.source import Rows
from .attention import SoftmaxAttention
from .encoder import refuse_sizes_below_one
from .tokens import TokenEncoder, TokenPooling, refuse_pooling
from .transformer import Attention, TransformerConfig

ROWS = 4096  # read together; the first of them are what numbers are standardised by
MOST_CODES = 2**16  # of a category: each has a vector


@dataclass(frozen=True, slots=True, kw_only=True)
class TableConfig:
    """The sizes of a table encoder.

    A row has `numeric` numbers, as they were measured (see `TableEncoder.standardise`), and after
    them one code for each of `categories`, a whole number from 0 to that many less one; any other
    code is "unknown", which has a token too. `first` is a learned token before the features.
    `pooling` is "cls", its state, "mean", of the features', or "flatten", all of those one after
    another. `dim` adds a linear map to that embedding width; None keeps the pooled states.
    `normalized` gives embeddings unit length.
    """

    numeric: int
    categories: tuple[int, ...] = ()
    transformer: TransformerConfig
    first: bool = True
    pooling: TokenPooling = "cls"
    dim: int | None = None
    normalized: bool = True

    def __post_init__(self) -> None:
        refuse_pooling(self.pooling, fixed=True)
        if self.pooling == "cls" and not self.first:
            raise InvalidInput("pooling 'cls' is the state of the first token; set first, or pool")
        refuse_sizes_below_one(self, features=self.features, dim=self.dim)
        if self.numeric < 0 or min(self.categories, default=1) < 1:
            raise InvalidInput(
                f"numeric must be at least 0 and every category have a value; got {self}"
            )

    @property
    def features(self) -> int:
        """Count the columns."""
        return self.numeric + len(self.categories)


class TableEncoder(TokenEncoder):
    """Rows to one embedding each; feature j of a row is the j-th of its tokens."""

    modality: ClassVar[str] = "table"
    shape: TableConfig

    def __init__(self, shape: TableConfig, *, attention: Attention = SoftmaxAttention) -> None:
        super().__init__(
            shape.transformer,
            attention,
            pooling=shape.pooling,
            first=shape.first,
            count=shape.features,
            dim=shape.dim,
            normalized=shape.normalized,
        )
        self.shape = shape
        self.features = FeatureTokens(shape.numeric, shape.categories, shape.transformer.width)

    @property
    def input(self) -> TensorSpec:
        """Say that a row is (features,), numbers first and then codes."""
        axes = ("batch", self.shape.features)
        return TensorSpec(name="row", dtype="float32", shape=axes)

    @property
    def limits(self) -> Limits:
        """Say that a feature is a token."""
        return Limits(cost=Cost(elements=1))

    def standardise(self, rows: Float[Tensor, "n features"]) -> None:
        """Bring numbers, here and at every later call, to mean 0 and variance 1 over `rows`.

        Mean and deviation are saved and exported with the weights; without this call they are 0 and
        1. A column that is constant is only centred.
        """
        self.features.standardise(rows[:, : self.shape.numeric])

    def content(self, row: Float[Tensor, "b features"]) -> Float[Tensor, "b features width"]:
        """Give w_j x_j of each number and the embedding of each code."""
        out: Tensor = self.features(row)
        return out

    def add_positions(
        self, content: Float[Tensor, "b features width"]
    ) -> Float[Tensor, "b features width"]:
        """Add b_j, which says which feature a token is."""
        return content + self.features.bias


def table_encoder(
    items: Rows, *, transformer: TransformerConfig, categories: int = 0, first: bool = True
) -> TableEncoder:
    """Make an encoder of rows that gives the states of all features, one after another.

    The last `categories` columns of the items, (n, features), are codes of categories; the others
    are numbers, which it standardises by the first rows. Raises InvalidInput where a row has fewer
    columns, or a code is none.
    """
    rows = items[torch.arange(min(ROWS, len(items)))]
    numeric = rows.shape[1] - categories
    if not 0 <= categories <= rows.shape[1]:
        raise InvalidInput(
            f"categories must be in [0, {rows.shape[1]}], the columns of a row; got {categories}"
        )
    shape = TableConfig(
        numeric=numeric,
        categories=_category_sizes(items, numeric) if categories else (),
        transformer=transformer,
        first=first,
        pooling="flatten",
        normalized=False,
    )
    encoder = TableEncoder(shape)
    encoder.standardise(rows)
    return encoder


def _category_sizes(items: Rows, numeric: int) -> tuple[int, ...]:
    """Give one more than the largest code of each column after the `numeric` ones."""
    largest = []
    for rows in torch.split(torch.arange(len(items)), ROWS):
        codes = items[rows][:, numeric:]
        is_code = (codes == codes.round()) & (codes >= 0) & (codes < MOST_CODES)
        if not is_code.all():
            raise InvalidInput(
                f"the last {codes.shape[1]} columns are categories: whole numbers from 0, below "
                f"{MOST_CODES:,}; got {float(codes[~is_code][0]):g}. Number their values from 0"
            )
        largest.append(codes.amax(0))
    return tuple(int(code) + 1 for code in torch.stack(largest).amax(0))


class FeatureTokens(nn.Module):
    """Columns to tokens: w_j x_j for a number, a learned vector for each code.

    x_j is (number - mean_j) / deviation_j. `bias` (features, width) are the b_j, which are not
    added here.
    """

    mean: Tensor
    deviation: Tensor
    starts: Tensor
    sizes: Tensor

    def __init__(self, numeric: int, categories: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.numeric = numeric
        bound = 1 / math.sqrt(width)
        self.weight = nn.Parameter(torch.empty(numeric, width).uniform_(-bound, bound))
        columns = numeric + len(categories)
        self.bias = nn.Parameter(torch.empty(columns, width).uniform_(-bound, bound))
        rows = [size + 1 for size in categories]  # the last of each is for unknown codes
        self.codes = nn.Embedding(sum(rows), width) if rows else None
        if self.codes is not None:
            nn.init.uniform_(self.codes.weight, -bound, bound)
        self.register_buffer("mean", torch.zeros(numeric))
        self.register_buffer("deviation", torch.ones(numeric))
        starts = torch.tensor([0, *rows]).cumsum(0)[:-1]
        self.register_buffer("starts", starts, persistent=False)
        self.register_buffer("sizes", torch.tensor(categories).long(), persistent=False)

    def forward(self, row: Float[Tensor, "b features"]) -> Float[Tensor, "b features width"]:
        """Give what each feature's token holds."""
        numbers = (row[:, : self.numeric] - self.mean) / self.deviation
        tokens = numbers[..., None] * self.weight  # (b, numeric, width)
        if self.codes is None:
            return tokens
        codes = row[:, self.numeric :].long()
        is_known = (codes >= 0) & (codes < self.sizes)
        looked_up = self.codes(torch.where(is_known, codes, self.sizes) + self.starts)
        return torch.cat([tokens, looked_up.to(tokens.dtype)], 1)

    @torch.no_grad()
    def standardise(self, numbers: Float[Tensor, "n numeric"]) -> None:
        """Take mean and deviation from rows."""
        deviation, mean = torch.std_mean(numbers.double(), 0, correction=0)
        self.mean.copy_(mean)
        self.deviation.copy_(deviation.where(deviation > 0, 1.0))
