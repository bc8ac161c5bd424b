"""Predict the latent states of a row's masked features from those of the others.

T-JEPA, Thimonier et al. 2024, arXiv:2410.05016.
"""

from typing import Any, NamedTuple, Self, cast

import torch
from torch import Tensor

from ..encoders.table import TableEncoder
from ..encoders.tokens import take
from ..method import Method, Metrics
from ..objectives.alignment import squared_alignment
from ..predictors import TransformerPredictor
from ..schedules import Schedule
from ..targets import Ema
from ..views.masks import feature_masks


class LatentFeaturesBatch(NamedTuple):
    """Rows, the features of each that are the context, and the sets of features to predict."""

    rows: Tensor  # (n, features)
    context: Tensor  # (n, k) int64
    targets: Tensor  # (n, sets, t) int64

    @classmethod
    def of(cls, rows: Tensor, draw: torch.Generator, **shares: Any) -> Self:
        """Choose features of each row by `views.masks.feature_masks`, whose `shares` they are."""
        n, features = rows.shape
        masks = feature_masks(n, features, draw, **shares)
        sets = masks.targets.shape[1]
        context = masks.context.nonzero()[:, -1].view(n, -1)
        targets = masks.targets.nonzero()[:, -1].view(n, sets, -1)
        return cls(rows, context.to(rows.device), targets.to(rows.device))


class LatentFeatures(Method[LatentFeaturesBatch]):
    """A table encoder sees the context features; a predictor gives the target's states of others.

    The target is an EMA copy of the encoder, which sees all features of a row; it is what is probed
    and exported. The first token of both, where they have one, regularises: it is never masked and
    never predicted. Logs `spread_features`, the variance of the target's states between the
    features of a row, and `spread_rows`, that between rows: both fall when the states collapse.
    """

    encoder: TableEncoder

    def __init__(
        self,
        encoder: TableEncoder,
        predictor: TransformerPredictor,
        *,
        momentum: Schedule,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.predictor = predictor
        self.target = Ema(encoder, momentum)

    @property
    def exported(self) -> TableEncoder:
        """Give the target's encoder."""
        return cast("TableEncoder", self.target.copy)

    def loss(self, batch: LatentFeaturesBatch, step: int) -> tuple[Tensor, Metrics]:
        """Give the mean squared error of the predicted states."""
        goals = self.goals(batch.rows)
        context = self.encoder.states(take(self.encoder.tokens(batch.rows), batch.context))
        losses = [
            squared_alignment(
                self.predictor(context, batch.context, features).flatten(1),
                take(goals, features).flatten(1),
            )
            for features in batch.targets.unbind(1)
        ]
        spread: Metrics = {  # uncorrected, so that one row or one feature has a spread, of 0
            "spread_features": goals.float().var(1, correction=0).mean(),
            "spread_rows": goals.float().var(0, correction=0).mean(),
        }
        return torch.stack(losses).mean(), spread

    @torch.no_grad()
    def goals(self, rows: Tensor) -> Tensor:
        """Give the target's state of each feature of (n, features) rows: (n, features, width)."""
        target = self.exported
        return target.own(target.states(target.tokens(rows)))

    def after_step(self, step: int) -> None:
        """Update the target."""
        self.target.update(self.encoder, step)
