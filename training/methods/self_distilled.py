"""Further pretraining beside a teacher that was pretrained further: same start, shorter way.

Lee et al., ICLR 2023, arXiv:2210.02871, equation 3.
"""

from torch import Tensor, nn

from ..method import Metrics
from ..objectives.alignment import squared_alignment
from ..targets import Frozen
from .reconstruction import Reconstruction, ReconstructionBatch


class SelfDistilled(Reconstruction):
    """Reconstruction, and how far a linear map of the embedding is from a teacher's.

    That part, logged as `apart`, has `weight`; both see the clean item.
    """

    def __init__(
        self, student: Reconstruction, teacher: Reconstruction, *, dim: int, weight: float
    ) -> None:
        super().__init__(student.encoder, student.decoder)
        self.teacher = Frozen(teacher.encoder)
        self.map = nn.Linear(dim, dim)
        self.weight = weight

    def loss(self, batch: ReconstructionBatch, step: int) -> tuple[Tensor, Metrics]:
        """Add up both parts."""
        rebuilt, metrics = super().loss(batch, step)
        _, clean = batch
        apart = squared_alignment(self.map(self.encoder(clean)), self.teacher(clean))
        return rebuilt + self.weight * apart, {**metrics, "apart": apart.detach()}
