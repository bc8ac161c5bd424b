"""A static text encoder: a table of tokens; a text is the weighted mean of its tokens' rows.

Nothing attends, so a token has one row wherever it stands. Distilled tables of this kind: model2vec
(Tulkens and van Dongen 2024, github.com/MinishLab/model2vec); trained on pairs: Aarsen 2025,
huggingface.co/blog/static-embeddings.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.errors import InvalidInput

from .pooling import sum_rows
from .text import TextNetwork

MAX_LENGTH = 512  # tokens; a row costs so little that texts need not be cut shorter
LEAST_LENGTH = 1e-6  # of a sum of rows that has a direction
START_STD = 0.1  # of the rows of a table that starts from noise


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticConfig:
    """The sizes of a static encoder.

    `special` are the ids of tokens that count nothing, such as [CLS], [SEP] and [PAD]. A token's
    weight is the length of its row, so the table has all weights. An encoder that is not
    `normalized` gives the mean of the rows as it is.
    """

    vocabulary: int
    dim: int = 256
    max_length: int = MAX_LENGTH
    special: tuple[int, ...] = ()
    normalized: bool = True

    def __post_init__(self) -> None:
        if min(self.vocabulary, self.dim, self.max_length) < 1:
            raise InvalidInput(f"vocabulary, dim and max_length must be at least 1; got {self}")
        if not all(0 <= token < self.vocabulary for token in self.special):
            raise InvalidInput(
                f"special tokens must be in [0, {self.vocabulary}), the vocabulary; got "
                f"{self.special}"
            )


class StaticEncoder(TextNetwork):
    """Token ids and their mask to one embedding a text, of unit length if `normalized`.

    The embedding is the sum of the rows of a text's tokens, brought to unit length, which is the
    direction of their weighted mean. Order, padding and special tokens change nothing: the rows of
    special tokens are zero and stay so in training. A text without a token that counts, such as the
    empty one, is embedded as (1, 0, ..., 0), which has unit length at every width that an embedding
    is cut to. Without unit length it is the mean of the rows.
    """

    counts: Tensor
    empty: Tensor

    def __init__(self, shape: StaticConfig) -> None:
        super().__init__()
        self.shape = shape
        self.table = nn.Embedding(shape.vocabulary, shape.dim)
        counts = torch.ones(shape.vocabulary)
        counts[list(shape.special)] = 0
        with torch.no_grad():
            self.table.weight.normal_(std=START_STD).mul_(counts[:, None])
        # Both follow from the shape, so they are not among the weights that are saved.
        self.register_buffer("counts", counts, persistent=False)
        self.register_buffer("empty", torch.eye(1, shape.dim)[0], persistent=False)
        self.dim = shape.dim
        self.max_length = shape.max_length
        self.normalized = shape.normalized

    def forward(
        self, input_ids: Int[Tensor, "b n"], attention_mask: Int[Tensor, "b n"]
    ) -> Float[Tensor, "b dim"]:
        """Embed rows of ids; their mask is 1 where a token is real and 0 on padding."""
        total = self._sum(input_ids, attention_mask)
        if not self.normalized:
            return total / attention_mask.sum(1, keepdim=True).clamp_min(1)
        length = torch.linalg.vector_norm(total, dim=-1, keepdim=True)
        vectors = total / length.clamp_min(LEAST_LENGTH)
        return torch.where(length > LEAST_LENGTH, vectors, self.empty)

    def _sum(self, ids: Int[Tensor, "b n"], mask: Int[Tensor, "b n"]) -> Float[Tensor, "b dim"]:
        """Sum the rows of the real tokens of each text."""
        # In training, rows of special tokens get no gradient; otherwise they are zero.
        weights = self.counts[ids] * mask if self.training else mask
        return sum_rows(self.table.weight, ids, weights, training=self.training)
