"""SIE: of an embedding, one part is equal for two views, the other follows how they differ.

Garrido et al., ICML 2023, arXiv:2302.10283, section 4.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from attar.errors import ShapeError

from ._pairs import check_pair, full_precision
from .vicreg import covariance_loss, variance_loss


def sie(
    z1: Float[Tensor, "n d"],
    z2: Float[Tensor, "n d"],
    predicted: Float[Tensor, "n e"],
    *,
    invariance: float = 10.0,
    equivariance: float = 4.5,
    variance: float = 10.0,
    covariance: float = 1.0,
) -> Float[Tensor, ""]:
    """Score two views' projections, whose last e columns are the equivariant part.

    `predicted` is that part of the second view as predicted from the first. The value is

        λ mse(inv₁, inv₂) + μ mse(predicted, eq₂) + ν (v(z₁) + v(z₂) + v(predicted)) / 2
        + ξ (c(z₁) + c(z₂))

    with the mean squared errors, variances and covariances of `vicreg`. Variances and covariances
    are of whole projections, so that the parts do not repeat each other. Weights and halves are
    those of the authors' code. Pass the global batch. Runs in float32 under autocast.

    Raises:
        ShapeError: the views do not share one (n, d) shape with n >= 2, or the predicted part is
            not (n, e) with 0 < e < d.

    Example:
        >>> z = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> sie(z, z, z[:, 1:]).item()
        0.0
    """
    check_pair("views", z1, z2, at_least=2)
    (n, d), shape = z1.shape, (*predicted.shape,)
    if len(shape) != 2 or shape[0] != n or not 0 < shape[1] < d:
        raise ShapeError(f"what is predicted must be ({n}, e) with 0 < e < {d}; got {shape}")
    invariant = d - shape[1]
    with torch.autocast(z1.device.type, enabled=False):
        a, b, p = (full_precision(z) for z in (z1, z2, predicted))
        return (
            invariance * F.mse_loss(a[:, :invariant], b[:, :invariant])
            + equivariance * F.mse_loss(p, b[:, invariant:])
            + variance * (variance_loss(a) + variance_loss(b) + variance_loss(p)) / 2
            + covariance * (covariance_loss(a) + covariance_loss(b))
        )
