"""Predict hidden features of a row in the latent space, from the few that are seen.

T-JEPA, Thimonier et al. 2024, arXiv:2410.05016.
"""

from typing import NamedTuple, cast

import torch
from torch import Tensor

from ..encoders.table import TableEncoder
from ..encoders.tokens import take
from ..method import Method, Metrics
from ..objectives.alignment import squared_alignment
from ..predictors import TransformerPredictor
from ..schedules import Schedule
from ..targets import Ema


class LatentFeaturesBatch(NamedTuple):
    """Rows, the features that are seen of each, and the sets of features to be predicted."""

    rows: Tensor  # (n, features)
    context: Tensor  # (n, k) int64
    targets: Tensor  # (n, sets, t) int64


class LatentFeatures(Method[LatentFeaturesBatch]):
    """A table encoder sees some features, and a predictor says how a slow copy sees the others.

    The slow copy sees whole rows. The first token of either, which regularises, is never hidden and
    never predicted; with `regularise` false there is none. Logs `spread_features`, the variance of
    the copy's states between a row's features, and `spread_rows`, that between rows: either falls
    when the states collapse.
    """

    encoder: TableEncoder

    def __init__(
        self,
        encoder: TableEncoder,
        predictor: TransformerPredictor,
        *,
        momentum: Schedule,
        regularise: bool = True,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.predictor = predictor
        self.slow = Ema(encoder, momentum)
        self.regularise = regularise

    def loss(self, batch: LatentFeaturesBatch, step: int) -> tuple[Tensor, Metrics]:
        """Give the mean squared error of the predicted states."""
        goals = self.goals(batch.rows)
        seen = self._states(self.encoder, take(self.encoder.tokens(batch.rows), batch.context))
        losses = [
            squared_alignment(
                self.predictor(seen, batch.context, wanted).flatten(1),
                take(goals, wanted).flatten(1),
            )
            for wanted in batch.targets.unbind(1)
        ]
        spread: Metrics = {  # uncorrected, so that one row or one feature has a spread, of 0
            "spread_features": goals.float().var(1, correction=0).mean(),
            "spread_rows": goals.float().var(0, correction=0).mean(),
        }
        return torch.stack(losses).mean(), spread

    @torch.no_grad()
    def goals(self, rows: Tensor) -> Tensor:
        """Give how the slow copy sees each feature of (n, features) rows: (n, features, width)."""
        slow = cast("TableEncoder", self.slow.copy)
        states = self._states(slow, slow.tokens(rows))
        return slow.own(states) if self.regularise else states

    def after_step(self, step: int) -> None:
        """Move the slow copy."""
        self.slow.update(self.encoder, step)

    def _states(self, encoder: TableEncoder, tokens: Tensor) -> Tensor:
        if self.regularise:
            return encoder.states(tokens)
        states: Tensor = encoder.transformer(tokens, None)
        return states
