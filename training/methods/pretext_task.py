"""Contrast of two views, with a pretext task: predict how a third view was transformed.

The regulariser of ScatSimCLR, Kinakh et al. 2021, arXiv:2108.13939.
"""

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from ..distributed import gather
from ..method import Method, Metrics
from ..objectives.nt_xent import nt_xent


class PretextTaskBatch(NamedTuple):
    """Two views of each image, and a third with the number of its transformation."""

    first: Tensor
    second: Tensor
    transformed: Tensor
    labels: Tensor  # (n,) int64


class PretextTask(Method[PretextTaskBatch]):
    """NT-Xent between two views, plus `weight` x the cross-entropy of the pretext task.

    `dim` is the width of the embeddings, and `classes` the number of transformations. Logs
    `solved`, the accuracy in the pretext task.
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
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = projector
        self.classifier = nn.Linear(dim, classes)
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
