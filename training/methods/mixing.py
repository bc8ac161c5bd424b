"""Mixed Barlow Twins: Barlow Twins with a MixUp regulariser on the two views.

Bandara et al. 2023, arXiv:2312.02151.
"""

import torch
from torch import Tensor, nn

from ..distributed import gather, world_size
from ..method import Method, Metrics
from ..objectives.barlow_twins import barlow_twins
from ..objectives.mixed_barlow_twins import mixed_redundancy
from .siamese import Inputs


class MixedBarlowTwins(Method[tuple[Inputs, Inputs]]):
    """Two views and their mixtures through one encoder; a batch is the inputs of both views.

    `redundancy` is Barlow Twins' λ; the regulariser's weight is `strength` x λ (the authors' s).
    Logs `alignment`, and `mixed`, the regulariser. A view is a single tensor, so that it can be
    mixed.
    """

    least_items = 2

    def __init__(
        self, encoder: nn.Module, projector: nn.Module, *, redundancy: float, strength: float
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = projector
        self.redundancy = redundancy
        self.strength = strength

    def loss(self, batch: tuple[Inputs, Inputs], step: int) -> tuple[Tensor, Metrics]:
        """Give Barlow Twins' loss plus the weighted regulariser."""
        ((first,), (second,)) = batch
        embeddings = self.encoder(first), self.encoder(second)
        z1, z2 = (gather(self.projector(embedding)) for embedding in embeddings)
        share = float(torch.rand(()))  # Beta(1, 1), one for the batch
        order = torch.randperm(len(first)).to(first.device)
        between = gather(self.projector(self.encoder(share * first + (1 - share) * second[order])))
        # Each process mixes its own rows, all processes in one order.
        order = torch.cat([order + rank * len(order) for rank in range(world_size())])
        mixed = mixed_redundancy(between, z1, z2, order, share)
        loss = barlow_twins(z1, z2, redundancy=self.redundancy)
        alignment = nn.functional.cosine_similarity(*embeddings).mean().detach()
        return loss + self.strength * self.redundancy * mixed, {
            "alignment": alignment,
            "mixed": mixed.detach(),
        }
