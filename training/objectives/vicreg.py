"""VICReg: invariance between two views, variance in each dimension, zero covariance.

Bardes et al., ICLR 2022, arXiv:2105.04906, equations 1 to 6.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ._pairs import check_pair, full_precision


def vicreg(
    z1: Float[Tensor, "n d"],
    z2: Float[Tensor, "n d"],
    *,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
) -> Float[Tensor, ""]:
    """Score two views' projections: λ s(z1, z2) + μ (v(z1) + v(z2)) / 2 + ν (c(z1) + c(z2)).

    s is the mean squared difference over rows and dimensions, v the mean over dimensions of
    max(0, 1 - √(Var + 1e-4)), c the sum of the squared off-diagonal covariances over d; variances
    are unbiased. The paper has s summed over dimensions and v added rather than averaged over the
    views; both are its authors' code, with the same three weights. The terms are not invariant to
    scale: that is what v is for. Pass the global batch. Runs in float32 under autocast.

    Raises:
        ShapeError: the views do not share one (n, d) shape with n >= 2.

    Example:
        >>> z = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> vicreg(z, z).item()
        0.0
    """
    check_pair("views", z1, z2, at_least=2)
    with torch.autocast(z1.device.type, enabled=False):
        a, b = full_precision(z1), full_precision(z2)
        return (
            invariance * F.mse_loss(a, b)
            + variance * (variance_loss(a) + variance_loss(b)) / 2
            + covariance * (covariance_loss(a) + covariance_loss(b))
        )


def variance_loss(z: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Give the mean over dimensions of how far the deviation is below 1.

    Example:
        >>> variance_loss(torch.tensor([[-1.0], [1.0]])).item()
        0.0
    """
    return F.relu(1 - (z.var(dim=0) + 1e-4).sqrt()).mean()


def covariance_loss(z: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Give the sum of squares of the off-diagonal covariances over d.

    Example:
        >>> covariance_loss(torch.tensor([[1.0, 1.0], [-1.0, -1.0]])).item()
        4.0
    """
    centred = z - z.mean(dim=0)
    covariance = centred.T @ centred / (len(z) - 1)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / z.shape[1]
