"""Texts as token ids: cut by the runtime's own host step, padded into batches, embedded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attar.errors import InvalidInput
from attar.inputs import TextInput

from ..probes.retrieval import scores
from ..sampler import Sampler
from ..views.text import Tokens

Row: TypeAlias = NDArray[np.int64]  # one text's token ids

EVALUATION_TOKENS = 1024  # padded tokens a batch when nothing is learned: what a CPU caches


def tokenize(texts: Sequence[str], tokenizer: bytes, *, max_length: int) -> tuple[Row, ...]:
    """Cut each text to at most `max_length` ids, special tokens included."""
    host = TextInput(tokenizer, max_length=max_length, prompts={})
    rows = host.prepare(texts, role="passage", truncation="truncate")
    return tuple(row.arrays[0] for row in rows)


def pad(rows: Sequence[Row]) -> Tokens:
    """Stack rows to (n, longest) ids and their mask; padding has id 0, which the mask hides."""
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    mask = np.zeros_like(ids)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = row
        mask[place, : len(row)] = 1
    return Tokens(torch.from_numpy(ids), torch.from_numpy(mask))


def embed(encoder: nn.Module, rows: Sequence[Row]) -> NDArray[np.float32]:
    """Embed rows in evaluation mode, batched by length: (n, dim) float32, in their order."""
    device = next(encoder.parameters()).device
    training = encoder.training
    encoder.eval()
    order = sorted(range(len(rows)), key=lambda place: len(rows[place]), reverse=True)
    parts, start = [], 0
    with torch.no_grad():
        while start < len(order):
            longest = len(rows[order[start]])
            batch = order[start : start + max(1, EVALUATION_TOKENS // longest)]
            tokens = pad([rows[place] for place in batch])
            parts.append(encoder(*(tensor.to(device) for tensor in tokens)).float().cpu())
            start += len(batch)
    encoder.train(training)
    vectors: NDArray[np.float32] = torch.cat(parts).numpy()
    return vectors[np.argsort(order)]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPairs:
    """Two views a text, as token ids: row i of `first` and row i of `second` mean the same."""

    first: tuple[Row, ...]
    second: tuple[Row, ...]

    def __post_init__(self) -> None:
        if len(self.first) != len(self.second):
            raise InvalidInput(
                f"views must pair up; got {len(self.first)} and {len(self.second)} texts"
            )

    def batch(self, rows: Tensor) -> tuple[Tokens, Tokens]:
        """Pad the two views of some rows."""
        places = rows.tolist()
        return pad([self.first[p] for p in places]), pad([self.second[p] for p in places])

    def sampler(self, *, batch_size: int, seed: int) -> Sampler:
        """Draw batches whose first views are of like length, so that padding wastes little."""
        return Sampler(
            items=len(self.first),
            batch_size=batch_size,
            seed=seed,
            lengths=tuple(map(len, self.first)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieval:
    """A retrieval task in token ids: each query should find the document at its `relevant` row."""

    queries: tuple[Row, ...]
    documents: tuple[Row, ...]
    relevant: NDArray[np.int64]

    def __call__(self, encoder: nn.Module) -> dict[str, float]:
        """Probe an encoder: recall at 1 and 10, MRR, and RankMe of the documents."""
        return scores(embed(encoder, self.queries), embed(encoder, self.documents), self.relevant)
