"""A predictor on one view, a stop-gradient on the other: BYOL, SimSiam, DirectPred.

BYOL: Grill et al., NeurIPS 2020, arXiv:2006.07733. SimSiam: Chen and He, CVPR 2021,
arXiv:2011.10566. DirectPred: Tian et al., ICML 2021, arXiv:2102.06810.
"""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from attar.errors import InvalidInput

from ..distributed import gather
from ..method import Method, Metrics
from ..objectives.alignment import cosine_alignment
from ..predictors import DirectPred
from ..schedules import Schedule
from ..targets import Ema
from .siamese import Inputs


class Asymmetric(Method[tuple[Inputs, Inputs]]):
    """Predict the target of each view from the other view; a batch is the inputs of both views.

    With `momentum` the target is an EMA of encoder and projector (BYOL), without it the projection
    itself, detached (SimSiam). With `export_target` the EMA is what is probed and exported, instead
    of the encoder that learns. A `DirectPred` predictor is not trained but computed after each
    step. Logs `alignment`, the mean cosine between the two embeddings of an item.
    """

    least_items = 2

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        predictor: nn.Module,
        *,
        momentum: Schedule | None = None,
        objective: Callable[[Tensor, Tensor], Tensor] = cosine_alignment,
        export_target: bool = False,
    ) -> None:
        super().__init__()
        if export_target and momentum is None:
            raise InvalidInput("export_target needs an EMA of the encoder, which momentum makes")
        self.encoder = encoder
        self.projector = projector
        self.predictor = predictor
        self.objective = objective
        self.target = None if momentum is None else Ema(Chain(encoder, projector), momentum)
        self.export_target = export_target
        self._projections = torch.empty(0)

    @property
    def exported(self) -> nn.Module:
        """The encoder, or its EMA with `export_target`."""
        if self.export_target and self.target is not None:
            return cast("Chain", self.target.copy).encoder
        return self.encoder

    def loss(self, batch: tuple[Inputs, Inputs], step: int) -> tuple[Tensor, Metrics]:
        """Give the mean of the losses of both directions."""
        embeddings = [self.encoder(*view) for view in batch]
        projections = [self.projector(embedding) for embedding in embeddings]
        if self.target is None:
            targets = [projection.detach() for projection in projections]
        else:
            targets = [self.target(*view) for view in batch]
        self._projections = torch.cat(projections).detach()
        first, second = (self.predictor(projection) for projection in projections)
        loss = (self.objective(first, targets[1]) + self.objective(second, targets[0])) / 2
        alignment = nn.functional.cosine_similarity(*embeddings).mean().detach()
        return loss, {"alignment": alignment}

    def after_step(self, step: int) -> None:
        """Update the target, and a predictor that is computed instead of trained."""
        if self.target is not None:
            self.target.update(Chain(self.encoder, self.projector), step)
        if isinstance(self.predictor, DirectPred):
            self.predictor.update(gather(self._projections), step)


class Chain(nn.Module):
    """An encoder followed by a projector, as one module."""

    def __init__(self, encoder: nn.Module, projector: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = projector

    def forward(self, *inputs: Tensor) -> Tensor:
        """Give the projections (n, d) of the encoder's inputs."""
        projection: Tensor = self.projector(self.encoder(*inputs))
        return projection
