"""Predictors: from one view's projection to the target's; what keeps BYOL and SimSiam apart.

Tian et al., ICML 2021, arXiv:2102.06810, section 3 (DirectPred).
"""

import torch
from torch import Tensor, nn

from .schedules import Schedule


class DirectPred(nn.Module):
    """A linear predictor that no gradient reaches: it is set from what the projections correlate.

    W = U diag(p) Uᵀ, where F = U diag(s) Uᵀ is the moving average of the uncentred correlation of
    the student's unit projections and pⱼ = √(sⱼ / max s) + ε: directions that vary much are kept and
    others damped, which an identity would not do and a trained predictor has to find out.
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
        """Take in the global batch's (n, dim) projections and set the weights anew."""
        z = nn.functional.normalize(projections.detach().to(self.correlation), dim=1)
        kept = self.momentum(step) if self.correlation.any() else 0.0
        self.correlation.mul_(kept).add_(z.T @ z / len(z), alpha=1 - kept)
        spectrum, basis = torch.linalg.eigh(self.correlation)
        scales = (spectrum / spectrum.max()).clamp(min=0).sqrt() + self.epsilon
        self.weight.copy_(basis * scales @ basis.T)
