"""Distillation without labels: the student's embeddings follow the teacher's, and so do similarities."""

from typing import TypeAlias

import torch
from torch import Tensor, nn

from .method import Method, Metrics
from .objectives.distillation import embedding_match, similarity_match
from .views.text import Tokens


Lesson: TypeAlias = tuple[Tokens, Tokens, Tensor, Tensor]
"""Two views of n texts, and the teacher's embeddings (n, d) of each."""


class Distillation(Method[Lesson]):
    """Match embeddings (Reimers and Gurevych 2020) and in-batch similarities (SEED, Fang et al. 2021).

    The loss is the mean of 1 - cos over both views plus the divergence between the teacher's and the
    student's softmax over similarities, taken over both views of the batch together, so that what is
    matched includes how a summary ranks the bodies it is searched among.
    """

    def __init__(self, student: nn.Module, *, temperature: float) -> None:
        super().__init__()
        self.student = student
        self.temperature = temperature

    def loss(self, batch: Lesson, step: int) -> tuple[Tensor, Metrics]:  # noqa: ARG002
        """Compare the student's embeddings of both views with the teacher's."""
        first, second, first_target, second_target = batch
        student = torch.cat([self.student(*first), self.student(*second)])
        teacher = torch.cat([first_target, second_target])
        match = embedding_match(student, teacher)
        similarity = similarity_match(student, teacher, temperature=self.temperature)
        return match + similarity, {"match": match.detach(), "similarity": similarity.detach()}
