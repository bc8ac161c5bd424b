"""Mixed Barlow Twins: a MixUp regulariser, by which embeddings are linear between images.

Bandara et al. 2023, arXiv:2312.02151, section 3 and its authors' code: it keeps Barlow Twins from
overfitting in long runs.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ._pairs import check_pair, full_precision
from .barlow_twins import standardise


def mixed_redundancy(
    mixed: Float[Tensor, "n d"],
    z1: Float[Tensor, "n d"],
    z2: Float[Tensor, "n d"],
    order: Int[Tensor, "n"],
    share: float,
) -> Float[Tensor, ""]:
    """Compare the projection m of a x₁ + (1 - a) x₂[order] with the mixed projections of x₁ and x₂.

    With every dimension standardised over the batch and C(u, v) = uᵀ v / n, the value is the sum
    over v in (z1, z2) of ‖C(m, v) - a C(z1, v) - (1 - a) C(z2[order], v)‖², 0 where mixing and
    projecting commute. a is `share`. Add it to Barlow Twins' value, multiplied by a few times that
    one's λ. Gradients reach all three projections, as in the authors' code. Pass the global batch.
    Runs in float32 under autocast.

    Raises:
        ShapeError: the three do not share one (n, d) shape with n >= 2.

    Example:
        >>> z = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> mixed_redundancy(z, z, z, torch.arange(4), 0.5).item()
        0.0
    """
    check_pair("mixed and first view", mixed, z1, at_least=2)
    check_pair("views", z1, z2, at_least=2)
    with torch.autocast(mixed.device.type, enabled=False):
        m, a, b = (standardise(full_precision(z)) for z in (mixed, z1, z2))
        between = share * a + (1 - share) * b[order]
        apart = torch.stack([(m - between).T @ view / len(m) for view in (a, b)])
        return apart.square().sum()
