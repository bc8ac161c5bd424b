"""SwAV: predict one view's balanced assignment to learned prototypes from the other view.

Caron et al., NeurIPS 2020, arXiv:2006.09882.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..distributed import gather
from ..encoders.encoder import refuse_sizes_below_one
from ..method import Method, Metrics
from ..objectives.swav import swav
from .siamese import Inputs


class Swav(Method[tuple[Inputs, Inputs]]):
    """An encoder, a projector and `prototypes` of width `dim`; a batch is the inputs of both views.

    Prototypes are normalised to unit length after each step. They are frozen for the first `frozen`
    steps, as in the authors' code, because at the start they would follow noise. Logs `alignment`,
    and `used`, the share of prototypes that are nearest to at least one item.
    """

    least_items = 2

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        *,
        dim: int,
        prototypes: int,
        temperature: float = 0.1,
        epsilon: float = 0.05,
        frozen: int = 0,
    ) -> None:
        super().__init__()
        refuse_sizes_below_one(prototypes, prototypes=prototypes)
        self.encoder = encoder
        self.projector = projector
        self.prototypes = nn.Linear(dim, prototypes, bias=False)
        self.temperature = temperature
        self.epsilon = epsilon
        self.frozen = frozen
        self.after_step(0)

    def loss(self, batch: tuple[Inputs, Inputs], step: int) -> tuple[Tensor, Metrics]:
        """Give SwAV's loss of both views' scores."""
        embeddings = [self.encoder(*view) for view in batch]
        weight = self.prototypes.weight
        weight = weight.detach() if step < self.frozen else weight
        scores = [
            gather(F.normalize(self.projector(embedding), dim=1)) @ weight.T
            for embedding in embeddings
        ]
        loss = swav(*scores, temperature=self.temperature, epsilon=self.epsilon)
        used = len(torch.unique(scores[0].detach().argmax(dim=1))) / len(weight)
        alignment = F.cosine_similarity(*embeddings).mean().detach()
        return loss, {"alignment": alignment, "used": used}

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Normalise the prototypes to unit length."""
        self.prototypes.weight.copy_(F.normalize(self.prototypes.weight, dim=1))
