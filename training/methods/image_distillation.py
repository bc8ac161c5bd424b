"""Distillation of images without labels: a student learns a teacher's embeddings."""

from typing import TypeAlias

from torch import Tensor, nn

from ..distributed import gather
from ..method import Method, Metrics
from ..objectives.distillation import embedding_match, similarity_match

ImageDistillationBatch: TypeAlias = tuple[Tensor, Tensor]
"""A view of n images, and the teacher's embeddings (n, d) of these images."""


class ImageDistillation(Method[ImageDistillationBatch]):
    """Match embeddings, and their similarities within the batch (SEED).

    The loss is `embedding_match` plus `similarity_match` at `temperature`; see
    training/objectives/distillation.py for sources and departures. Logs both terms.
    """

    least_items = 3

    def __init__(self, student: nn.Module, *, temperature: float) -> None:
        super().__init__()
        self.encoder = student
        self.temperature = temperature

    def loss(self, batch: ImageDistillationBatch, step: int) -> tuple[Tensor, Metrics]:
        """Compare the student's embeddings of the views with the teacher's of the images."""
        images, targets = batch
        student, teacher = gather(self.encoder(images)), gather(targets)
        match = embedding_match(student, teacher)
        similarity = similarity_match(student, teacher, temperature=self.temperature)
        return match + similarity, {"match": match.detach(), "similarity": similarity.detach()}
