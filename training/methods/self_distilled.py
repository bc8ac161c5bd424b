"""Further pretraining with self-distillation: the teacher is a copy that was pretrained further.

Lee et al., ICLR 2023, arXiv:2210.02871, equation 3.
"""

from copy import deepcopy

from torch import Tensor, nn

from ..method import Metrics
from ..objectives.alignment import squared_alignment
from ..targets import Frozen
from .reconstruction import Reconstruction, ReconstructionBatch


class SelfDistilled(Reconstruction):
    """Reconstruction, plus the distance between a linear map of the embedding and the teacher's.

    The distance, of clean items, has `weight` and is logged as `apart`. `dim` is the width of both
    embeddings.
    """

    def __init__(
        self, student: Reconstruction, teacher: Reconstruction, *, dim: int, weight: float
    ) -> None:
        super().__init__(student.encoder, student.decoder)
        self.teacher = Frozen(teacher.encoder)
        self.map = nn.Linear(dim, dim)
        self.weight = weight

    def loss(self, batch: ReconstructionBatch, step: int) -> tuple[Tensor, Metrics]:
        """Give the sum of both losses."""
        reconstruction, metrics = super().loss(batch, step)
        _, clean = batch
        distance = squared_alignment(self.map(self.encoder(clean)), self.teacher(clean))
        return reconstruction + self.weight * distance, {**metrics, "apart": distance.detach()}


def continued(
    base: Reconstruction, teacher: Reconstruction | None, *, dim: int, weight: float
) -> Reconstruction:
    """Copy a base to pretrain it further: plainly, or with a teacher near a copy of that."""
    start = deepcopy(base).requires_grad_()
    return SelfDistilled(start, deepcopy(teacher), dim=dim, weight=weight) if teacher else start
