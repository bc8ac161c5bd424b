"""Dense retrieval: one encoder learns to find the passage of a query among those of the batch.

Karpukhin et al. 2020 (DPR), arXiv:2004.04906, section 3.2, with one encoder for both sides.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..distributed import gather
from ..encoders.dropout import hidden_dropout
from ..encoders.text import TextEncoder
from ..method import Method, Metrics
from ..objectives.matryoshka import matryoshka
from ..views.text import Tokens


class DenseRetrievalBatch(NamedTuple):
    """n queries, the passage of each, and h hard negatives of each, or None.

    The negatives are (n h) rows: those of the first query come first.
    """

    queries: Tokens
    passages: Tokens
    negatives: Tokens | None = None


class DenseRetrieval(Method[DenseRetrievalBatch]):
    """InfoNCE in both directions at several widths (`objectives.matryoshka`).

    With `dropout`, each text is embedded by another random part of the encoder: a query and an
    equal passage then make a pair (SimCSE, Gao et al. 2021, arXiv:2104.08821, section 3). Logs
    `in_batch`, the share of queries whose passage is the nearest of the batch.
    """

    encoder: TextEncoder
    least_items = 2

    def __init__(
        self,
        encoder: TextEncoder,
        *,
        widths: Sequence[int],
        temperature: float,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.widths = tuple(widths)
        self.temperature = temperature
        self.dropout = dropout

    def loss(self, batch: DenseRetrievalBatch, step: int) -> tuple[Tensor, Metrics]:
        """Compare each query with all passages of the batch, and each passage with all queries."""
        with hidden_dropout(self.encoder, self.dropout):
            queries = gather(self.encoder(*batch.queries))  # (n, d)
            passages = gather(self.encoder(*batch.passages))
            negatives = self._embed_negatives(batch)
        loss = matryoshka(
            queries, passages, negatives, widths=self.widths, temperature=self.temperature
        )
        nearest = (queries @ passages.T).detach().argmax(dim=1)
        own = torch.arange(len(nearest), device=nearest.device)
        return loss, {"in_batch": (nearest == own).float().mean()}

    def _embed_negatives(self, batch: DenseRetrievalBatch) -> Tensor | None:
        """Embed the hard negatives to (n, h, d), if there are any."""
        if batch.negatives is None:
            return None
        rows = self.encoder(*batch.negatives)  # (n h, d)
        return gather(rows.unflatten(0, (len(batch.queries.ids), -1)))
