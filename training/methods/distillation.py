"""Distillation without labels: a student learns a teacher's embeddings, and which texts pair up."""

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from ..distributed import gather
from ..method import Method, Metrics
from ..objectives.distillation import embedding_match, similarity_match
from ..objectives.matryoshka import matryoshka
from .siamese import Inputs

DistillationBatch: TypeAlias = tuple[Inputs, Inputs, Tensor, Tensor]
"""Two views of n texts, then the teacher's embeddings (n, d) of each."""


class Distillation(Method[DistillationBatch]):
    """Match embeddings (LEAF) and in-batch similarities (SEED), and contrast the pairs (InfoNCE).

    The loss is `embedding_match` plus `similarity_match` (training/objectives/distillation.py gives
    the sources and departures) plus `contrast` times `matryoshka`, at the `widths` that the
    embedding may be cut to. The first two are over the 2n embeddings of the two views together: so
    the similarities of queries to documents are matched too. The third needs no teacher.
    Logs the terms, without their weights.
    """

    def __init__(
        self,
        student: nn.Module,
        *,
        temperature: float,
        contrast: float = 0.0,
        widths: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.encoder = student
        self.temperature = temperature
        self.contrast = contrast
        self.widths = widths

    def loss(self, batch: DistillationBatch, step: int) -> tuple[Tensor, Metrics]:
        """Compare the student's embeddings with the teacher's, and those of a pair."""
        first, second, *targets = batch
        queries, passages = gather(self.encoder(*first)), gather(self.encoder(*second))  # (n, d)
        student, teacher = torch.cat([queries, passages]), torch.cat([*map(gather, targets)])
        match = embedding_match(student, teacher)
        similarity = similarity_match(student, teacher, temperature=self.temperature)
        terms: Metrics = {"match": match.detach(), "similarity": similarity.detach()}
        if not self.contrast:
            return match + similarity, terms
        pairs = matryoshka(queries, passages, widths=self.widths, temperature=self.temperature)
        return match + similarity + self.contrast * pairs, {**terms, "contrast": pairs.detach()}
