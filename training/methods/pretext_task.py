"""Contrast two views, and say beside it how one of them was turned or cut up.

The regulariser of ScatSimCLR, Kinakh et al. 2021, arXiv:2108.13939.
"""

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from ..distributed import gather
from ..method import Method, Metrics
from ..objectives.nt_xent import nt_xent


class PretextBatch(NamedTuple):
    """Two views of each image, and a third with the answer to its puzzle."""

    first: Tensor
    second: Tensor
    puzzle: Tensor
    answer: Tensor  # (n,) int64


class Puzzled(Method[PretextBatch]):
    """NT-Xent between the views, plus `weight` times the cross-entropy of the puzzle's answer."""

    least_items = 2

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        *,
        dim: int,
        answers: int,
        temperature: float,
        weight: float,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = projector
        self.answer = nn.Linear(dim, answers)
        self.temperature = temperature
        self.weight = weight

    def loss(self, batch: PretextBatch, step: int) -> tuple[Tensor, Metrics]:
        """Add up both parts."""
        views = [gather(self.projector(self.encoder(view))) for view in (batch.first, batch.second)]
        contrast = nt_xent(*views, temperature=self.temperature)
        if not self.weight:
            return contrast, {}
        logits = self.answer(self.encoder(batch.puzzle))
        puzzle = F.cross_entropy(logits.float(), batch.answer)
        solved = (logits.argmax(1) == batch.answer).float().mean()
        return contrast + self.weight * puzzle, {"solved": solved.detach()}
