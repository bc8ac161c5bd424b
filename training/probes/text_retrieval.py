"""The retrieval probe of text encoders: embed token ids, and score how queries find documents."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..data.text import Row, pad
from ..progress import progress_bar
from .retrieval import scores

EVALUATION_TOKENS = 1024  # padded tokens a batch without gradients: what fits a CPU's cache


def embed(
    encoder: nn.Module, rows: Sequence[Row], *, progress: str | None = None
) -> NDArray[np.float32]:
    """Embed token ids in evaluation mode, batched by length: (n, dim) float32, in their order.

    `progress` is what a bar calls this, where it is to be shown.
    """
    device = next(encoder.parameters()).device
    training = encoder.training
    encoder.eval()
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]), reverse=True)
    parts, start = [], 0
    bar = progress_bar(progress or "", visible=progress is not None)
    with torch.no_grad(), bar:
        task = bar.add_task("", total=len(rows))
        while start < len(order):
            longest = len(rows[order[start]])
            batch = order[start : start + max(1, EVALUATION_TOKENS // longest)]
            tokens = pad([rows[index] for index in batch])
            parts.append(encoder(*(tensor.to(device) for tensor in tokens)).float().cpu())
            start += len(batch)
            bar.advance(task, len(batch))
    encoder.train(training)
    vectors: NDArray[np.float32] = torch.cat(parts).numpy()
    return vectors[np.argsort(order)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieval:
    """A retrieval task in token ids: each query should find the document at its `relevant` row."""

    queries: tuple[Row, ...]
    documents: tuple[Row, ...]
    relevant: NDArray[np.int64]

    def __call__(self, encoder: nn.Module) -> dict[str, float]:
        """Probe an encoder: recall at 1 and 10, MRR, and RankMe of the documents."""
        return scores(embed(encoder, self.queries), embed(encoder, self.documents), self.relevant)
