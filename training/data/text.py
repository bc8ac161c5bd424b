"""Texts as token ids: truncated by the device runtime's own tokenizer step, padded into batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from attar.errors import InvalidInput
from attar.inputs import TextInput
from attar.token_ids import special_tokens_around

from ..sampler import Sampler
from ..views.text import Tokens

Row: TypeAlias = NDArray[np.int64]  # one text's token ids


def tokenize(texts: Sequence[str], tokenizer: bytes, *, max_length: int) -> tuple[Row, ...]:
    """Give the token ids of each text, at most `max_length` with the special tokens."""
    host = TextInput(tokenizer, max_length=max_length, prompts={})
    rows = host.prepare(texts, role="passage", truncation="truncate")
    return tuple(row.arrays[0] for row in rows)


def special_tokens(tokenizer: bytes) -> tuple[int, ...]:
    """Give the ids of a tokenizer's special tokens, in rising order.

    They are those that it puts around a text, and those that it declares to be special.
    """
    read = Tokenizer.from_str(tokenizer.decode())
    added = read.get_added_tokens_decoder()
    declared = {token_id for token_id, token in added.items() if token.special}
    return tuple(sorted(declared.union(*special_tokens_around(read))))


def pad(rows: Sequence[Row]) -> Tokens:
    """Stack rows to (n, longest) ids and their mask, which is 0 on padding; padding has id 0."""
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    mask = np.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return Tokens(torch.from_numpy(ids), torch.from_numpy(mask))


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPairs:
    """Two views of each text, as token ids: row i of `first` and row i of `second` are a pair."""

    first: tuple[Row, ...]
    second: tuple[Row, ...]

    def __post_init__(self) -> None:
        if len(self.first) != len(self.second):
            raise InvalidInput(
                f"views must pair up; got {len(self.first)} and {len(self.second)} texts"
            )

    def __len__(self) -> int:
        """Give how many pairs there are."""
        return len(self.first)

    @property
    def views(self) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
        """The first views and the second ones."""
        return self.first, self.second

    def __getitem__(self, rows: Tensor, /) -> tuple[Tokens, Tokens]:
        """Give the two views of (b,) int64 `rows`, padded."""
        return self.batch(rows)

    def batch(self, rows: Tensor) -> tuple[Tokens, Tokens]:
        """Give the two views of (b,) int64 `rows`, padded."""
        indices = rows.tolist()
        return pad([self.first[i] for i in indices]), pad([self.second[i] for i in indices])

    def sampler(self, *, batch_size: int, seed: int) -> Sampler:
        """Draw batches whose first views have similar lengths, so that there is little padding."""
        return Sampler(
            items=len(self.first),
            batch_size=batch_size,
            seed=seed,
            lengths=tuple(map(len, self.first)),
        )
