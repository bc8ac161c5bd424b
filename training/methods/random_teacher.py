"""A random teacher: a student next to a frozen, untrained net learns to probe better than it.

Sarnthein et al., ICML 2023, arXiv:2302.12091, section 3.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..encoders.encoder import refuse_sizes_below_one
from ..method import Method, Metrics
from ..objectives.soft_labels import soft_labels
from ..targets import Frozen
from .siamese import Inputs


class PrototypeHead(nn.Module):
    """DINO's head: a perceptron to a unit bottleneck, and its cosines with `outputs` rows."""

    def __init__(self, dim: int, *, hidden: int, bottleneck: int, outputs: int) -> None:
        super().__init__()
        sizes = {"hidden": hidden, "bottleneck": bottleneck, "outputs": outputs}
        refuse_sizes_below_one(sizes, **sizes)
        self.layers = nn.Sequential(
            nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        self.outputs = nn.Linear(bottleneck, outputs, bias=False)

    def forward(self, embedding: Tensor) -> Tensor:
        """Give (n, outputs) logits for (n, dim) embeddings."""
        unit = F.normalize(self.layers(embedding), dim=1)
        logits: Tensor = F.linear(unit, F.normalize(self.outputs.weight, dim=1))
        return logits


class RandomTeacher(Method[tuple[Inputs]]):
    """Match a frozen copy of oneself as one was at the start, or near it; one view, no labels.

    The student begins `distance` of the way from the teacher to another random net: 0 is the
    teacher itself, where the pull is zero but for batch norm, and 1 is far away. A batch is the
    inputs of one view.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module, *, distance: float, seed: int) -> None:
        super().__init__()
        self.teacher = Frozen(nn.Sequential(deepcopy(encoder), deepcopy(head)))
        self.encoder = encoder
        self.head = head
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.default_generator.manual_seed(seed)
            for module in nn.ModuleList([encoder, head]).modules():
                if isinstance(module, nn.Linear | nn.Conv2d):
                    other = deepcopy(module)
                    other.reset_parameters()
                    for own, its in zip(module.parameters(), other.parameters(), strict=True):
                        own.lerp_(its, distance)

    def loss(self, batch: tuple[Inputs], step: int) -> tuple[Tensor, Metrics]:
        """Compare the student's distribution with the teacher's."""
        ((image,),) = batch
        loss = soft_labels(self.head(self.encoder(image)), self.teacher(image))
        return loss, {}
