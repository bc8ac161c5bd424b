"""Predictors from one view's projection to the target's.

Tian et al., ICML 2021, arXiv:2102.06810, section 3 (DirectPred); Assran et al., CVPR 2023,
arXiv:2301.08243, section 3 (from the tokens of a context to those that it does not hold); Garrido
et al., ICML 2023, arXiv:2302.10283, section 4 (from one view to another, by what is between them).
"""

from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from .encoders.tokens import take
from .encoders.transformer import TokenTransformer, TransformerConfig
from .schedules import Schedule

SMALL_PREDICTOR: Final = TransformerConfig(
    width=32, depth=2, heads=4, hidden=64, norm="pre", norm_eps=1e-5
)
"""The size of the predictor of a small table encoder."""


class DirectPred(nn.Module):
    """A linear predictor without gradient: it is computed from the correlation of the projections.

    W = U diag(p) Uᵀ, where F = U diag(s) Uᵀ is the moving average of the uncentred correlation of
    the student's unit projections and pⱼ = √(sⱼ / max s) + ε: directions that vary much are kept
    and others damped, which an identity would not do and a trained predictor has to find out.
    `momentum` is the share of F that a step keeps (the paper's ρ). Call `update` in `after_step`.
    """

    correlation: Tensor
    weight: Tensor

    def __init__(self, dim: int, *, momentum: Schedule, epsilon: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.epsilon = epsilon
        self.register_buffer("correlation", torch.zeros(dim, dim))
        self.register_buffer("weight", torch.eye(dim))

    def forward(self, projections: Tensor) -> Tensor:
        """Give (n, dim) predictions for (n, dim) projections."""
        return projections @ self.weight.to(projections.dtype)

    @torch.no_grad()
    def update(self, projections: Tensor, step: int) -> None:
        """Update the correlation by the global batch's projections (n, dim); compute weights."""
        z = nn.functional.normalize(projections.detach().to(self.correlation), dim=1)
        decay = self.momentum(step) if self.correlation.any() else 0.0
        self.correlation.mul_(decay).add_(z.T @ z / len(z), alpha=1 - decay)
        spectrum, basis = torch.linalg.eigh(self.correlation)
        scales = (spectrum / spectrum.max()).clamp(min=0).sqrt() + self.epsilon
        self.weight.copy_(basis * scales @ basis.T)


class HyperPredictor(nn.Module):
    """A linear predictor whose matrix is a linear function of a transformation, without a bias.

    y = W(z) x, where W(z) sums fixed matrices with the numbers z of a transformation as weights. So
    it cannot leave the transformation out of account, as a perceptron of x and z may. Source: SIE,
    Garrido et al., ICML 2023, arXiv:2302.10283, section 4.
    """

    def __init__(self, dim: int, numbers: int) -> None:
        super().__init__()
        self.dim = dim
        self.matrices = nn.Linear(numbers, dim * dim, bias=False)

    def forward(
        self, x: Float[Tensor, "n dim"], transformation: Float[Tensor, "n numbers"]
    ) -> Float[Tensor, "n dim"]:
        """Predict the projections of transformed items from those of the items."""
        matrices = self.matrices(transformation).unflatten(1, (self.dim, self.dim))
        predicted: Tensor = (matrices @ x[:, :, None])[:, :, 0]
        return predicted


class TransformerPredictor(nn.Module):
    """From the states of some tokens of an item to those at other positions, of `positions` in all.

    Every position has a learned vector. It is added to the states of the context, after a linear
    map to the predictor's width, and to a learned query for each position to predict. A transformer
    runs over all of them, and a linear map gives vectors of width `out`, by default the input's.
    """

    def __init__(
        self, width: int, positions: int, shape: TransformerConfig, *, out: int | None = None
    ) -> None:
        super().__init__()
        self.narrow = nn.Linear(width, shape.width)
        self.widen = nn.Linear(shape.width, width if out is None else out)
        self.query = nn.Parameter(torch.randn(shape.width) * 0.02)
        self.position = nn.Parameter(torch.randn(positions, shape.width) * 0.02)
        self.transformer = TokenTransformer(shape)

    def forward(
        self,
        states: Float[Tensor, "b m width"],
        context: Int[Tensor, "b k"],
        wanted: Int[Tensor, "b t"],
    ) -> Float[Tensor, "b t out"]:
        """Predict what is at positions `wanted` from those at positions `context`.

        `states` may begin with m - k further ones without a position.
        """
        positions = self.position.expand(len(states), -1, -1)
        seen = self.narrow(states)
        free = seen.shape[1] - context.shape[1]
        placed = seen[:, free:] + take(positions, context)
        queries = (self.query + take(positions, wanted)).to(seen.dtype)
        mixed = self.transformer(torch.cat([seen[:, :free], placed, queries], 1), None)
        out: Tensor = self.widen(mixed[:, -wanted.shape[1] :])
        return out
