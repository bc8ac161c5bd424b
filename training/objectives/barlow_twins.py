"""Barlow Twins: drive the two views' cross-correlation to the identity.

Zbontar et al., ICML 2021, arXiv:2103.03230, equation 1 and Algorithm 1.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ._pairs import check_pair, full_precision


def barlow_twins(
    z1: Float[Tensor, "n d"], z2: Float[Tensor, "n d"], *, redundancy: float = 5e-3
) -> Float[Tensor, ""]:
    """Score two views' projections; zero when their cross-correlation is the identity.

    With every dimension standardised over the batch, C = z1ᵀ z2 / n, and the value is
    Σᵢ (1 - Cᵢᵢ)² + λ Σᵢ≠ⱼ Cᵢⱼ²; it grows with d. `redundancy` is the paper's λ (5e-3 there, 0.0051
    in the authors' code). Standardising is the authors' affine-free batch norm, ε = 1e-5 included,
    so a dead dimension costs 1 rather than a division by zero. Pass the global batch: the
    statistics run over all n rows. Runs in float32 under autocast.

    Raises:
        ShapeError: the views do not share one (n, d) shape with n >= 2.

    Example:
        >>> z = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> round(barlow_twins(z, z).item(), 3), round(barlow_twins(z, -z).item(), 3)
        (0.0, 8.0)
    """
    check_pair("views", z1, z2, at_least=2)
    with torch.autocast(z1.device.type, enabled=False):
        c = standardise(full_precision(z1)).T @ standardise(full_precision(z2)) / len(z1)  # (d, d)
        weight = torch.full_like(c, redundancy).fill_diagonal_(1.0)
        return (weight * (c - torch.eye(len(c), device=c.device)).square()).sum()


def standardise(z: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Give each column mean zero and variance one over the batch (biased, ε = 1e-5).

    Example:
        >>> standardise(torch.tensor([[1.0], [3.0]])).squeeze(1)
        tensor([-1.0000,  1.0000])
    """
    return F.batch_norm(z, None, None, training=True)
