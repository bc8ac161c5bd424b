"""Further pretraining with self-distillation: the teacher is a copy that was pretrained further.

Lee et al., ICLR 2023, arXiv:2210.02871, equations 3 and 4.
"""

from copy import deepcopy

from torch import Tensor

from ..method import Metrics
from ..objectives.alignment import squared_alignment
from ..targets import Frozen
from .reconstruction import Reconstruction, ReconstructionBatch


class SelfDistilled(Reconstruction):
    """Reconstruction, plus the squared distance of the embedding from the teacher's.

    The loss is that of `Reconstruction` + `weight` x ‖f(x) - sg t(x)‖², with f the student's
    encoder, t the teacher's and x a clean item: a mean over the items. The distance is logged as
    `apart`.
    """

    def __init__(self, student: Reconstruction, teacher: Reconstruction, *, weight: float) -> None:
        super().__init__(student.encoder, student.decoder)
        self.teacher = Frozen(teacher.encoder)
        self.weight = weight

    def loss(self, batch: ReconstructionBatch, step: int) -> tuple[Tensor, Metrics]:
        """Give the sum of both losses."""
        reconstruction, metrics = super().loss(batch, step)
        _, clean = batch
        embedding = self.encoder(clean)
        # The objective is a mean over dimensions too; the paper's distance is a sum over these.
        distance = embedding.shape[1] * squared_alignment(embedding, self.teacher(clean))
        return reconstruction + self.weight * distance, {**metrics, "apart": distance.detach()}


def continued(
    base: Reconstruction, teacher: Reconstruction | None, *, weight: float
) -> Reconstruction:
    """Copy a base to pretrain it further: plainly, or with a teacher near a copy of that."""
    start = deepcopy(base).requires_grad_()
    return SelfDistilled(start, deepcopy(teacher), weight=weight) if teacher else start
