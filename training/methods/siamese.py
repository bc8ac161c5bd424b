"""Two views through one encoder and one projector, compared by an objective."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

from torch import Tensor, nn

from ..distributed import gather
from ..encoders.text import TextNetwork
from ..method import Method, Metrics
from ..objectives.matryoshka import matryoshka

Inputs = tuple[Tensor, ...]  # what `encoder(*inputs)` takes: an image, or token ids and their mask
TwoViews: TypeAlias = tuple[Inputs, Inputs]


class Siamese(Method[tuple[Inputs, Inputs]]):
    """The method of Barlow Twins, SimCLR and VICReg; a batch is the inputs of both views.

    The projector is used in training only. Logs `alignment`, the mean cosine between the two
    embeddings of an item.
    """

    least_items = 2

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        objective: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = projector
        self.objective = objective

    def loss(self, batch: tuple[Inputs, Inputs], step: int) -> tuple[Tensor, Metrics]:
        """Give the objective of the two views' projections."""
        first, second = (self.encoder(*view) for view in batch)
        alignment = nn.functional.cosine_similarity(first, second).mean().detach()
        loss = self.objective(gather(self.projector(first)), gather(self.projector(second)))
        return loss, {"alignment": alignment}


def nested(encoder: TextNetwork, *, widths: Sequence[int], temperature: float) -> Siamese:
    """Contrast embeddings without a projector, at the encoder's width and the smaller `widths`."""
    every = (encoder.dim, *(width for width in widths if width < encoder.dim))
    objective = partial(matryoshka, widths=every, temperature=temperature)
    return Siamese(encoder, nn.Identity(), objective)
