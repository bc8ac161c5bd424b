"""Contrast of two views, with a pretext task: predict how further views were transformed.

The regulariser of ScatSimCLR, Kinakh et al. 2021, arXiv:2108.13939; its head is that of the
authors' code (src/trainer/pretext_task_trainer.py of github.com/vkinakh/scatsimclr).
"""

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from ..distributed import gather
from ..method import Method, Metrics
from ..objectives.nt_xent import nt_xent

WIDTHS = 512, 128  # of the head's hidden layers


class PretextTaskBatch(NamedTuple):
    """Two views of each of n images, and views of its k transformations with their numbers."""

    first: Tensor
    second: Tensor
    transformed: Tensor  # (n k, ...)
    labels: Tensor  # (n k,) int64


class PretextTask(Method[PretextTaskBatch]):
    """NT-Xent between two views, plus `weight` x the cross-entropy of the pretext task.

    `dim` is the width of the embeddings, `classes` the number of transformations, and `dropout`
    that of the pretext task's head. Logs `solved`, the accuracy in the pretext task.
    """

    least_items = 2

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        *,
        dim: int,
        classes: int,
        temperature: float,
        weight: float,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = projector
        self.classifier = _head(dim, classes, dropout)
        self.temperature = temperature
        self.weight = weight

    def loss(self, batch: PretextTaskBatch, step: int) -> tuple[Tensor, Metrics]:
        """Give the sum of both losses."""
        views = [gather(self.projector(self.encoder(view))) for view in (batch.first, batch.second)]
        contrast = nt_xent(*views, temperature=self.temperature)
        if not self.weight:
            return contrast, {}
        logits = self.classifier(self.encoder(batch.transformed))
        pretext = F.cross_entropy(logits.float(), batch.labels)
        solved = (logits.argmax(1) == batch.labels).float().mean()
        return contrast + self.weight * pretext, {"solved": solved.detach()}


def _head(dim: int, classes: int, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in WIDTHS:
        layers += [nn.Linear(dim, width), nn.ReLU(), nn.Dropout(dropout)]
        dim = width
    return nn.Sequential(*layers, nn.Linear(dim, classes))
