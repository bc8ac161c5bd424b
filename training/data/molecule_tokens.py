"""Molecule tokens: SMILES as token ids, by a tokenizer that was learned from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from tokenizers import Tokenizer
from torch import Tensor

from ..tokenizers.smiles import MASK, smiles_tokenizer
from ..views.text import Tokens
from .text import Row, pad, tokenize


@dataclass(frozen=True, slots=True, kw_only=True)
class MoleculeTokens:
    """The token ids of SMILES, in their order."""

    tokenizer: bytes  # tokenizer.json
    vocabulary: int  # tokens
    mask: int  # the id of [MASK]
    rows: tuple[Row, ...]

    @classmethod
    def of(cls, smiles: Sequence[str], *, max_length: int) -> Self:
        """Learn a tokenizer, and tokenise by it; at most `max_length` ids a molecule."""
        tokenizer = smiles_tokenizer(smiles)
        vocabulary = Tokenizer.from_str(tokenizer.decode()).get_vocab()
        rows = tokenize(smiles, tokenizer, max_length=max_length)
        return cls(
            tokenizer=tokenizer, vocabulary=len(vocabulary), mask=vocabulary[MASK], rows=rows
        )

    @property
    def lengths(self) -> tuple[int, ...]:
        """The number of tokens of each molecule."""
        return tuple(map(len, self.rows))

    def __len__(self) -> int:
        """Give how many molecules there are."""
        return len(self.rows)

    def __getitem__(self, rows: Tensor, /) -> Tokens:
        """Give the molecules at (b,) int64 `rows`, padded."""
        return pad([self.rows[row] for row in rows.tolist()])
