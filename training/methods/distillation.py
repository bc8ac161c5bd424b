"""Distillation without labels: a student learns a teacher's embeddings and their similarities."""

from typing import TypeAlias

import torch
from torch import Tensor, nn

from ..distributed import gather
from ..method import Method, Metrics
from ..objectives.distillation import embedding_match, similarity_match
from ..views.text import Tokens

DistillationBatch: TypeAlias = tuple[Tokens, Tokens, Tensor, Tensor]
"""Two views of n texts, then the teacher's embeddings (n, d) of each."""


class Distillation(Method[DistillationBatch]):
    """Match embeddings (after Reimers and Gurevych 2020) and in-batch similarities (after SEED).

    The loss is `embedding_match` plus `similarity_match` (training/objectives/distillation.py gives
    the sources and departures). Both are over the 2n embeddings of the two views together: so the
    similarities of queries to documents are matched too. Logs the two terms.
    """

    def __init__(self, student: nn.Module, *, temperature: float) -> None:
        super().__init__()
        self.encoder = student
        self.temperature = temperature

    def loss(self, batch: DistillationBatch, step: int) -> tuple[Tensor, Metrics]:
        """Compare the student's embeddings of both views with the teacher's."""
        first, second, *targets = batch
        student = gather(torch.cat([self.encoder(*first), self.encoder(*second)]))  # (2n, d)
        teacher = gather(torch.cat(targets))
        match = embedding_match(student, teacher)
        similarity = similarity_match(student, teacher, temperature=self.temperature)
        return match + similarity, {"match": match.detach(), "similarity": similarity.detach()}
