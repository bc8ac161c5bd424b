"""NT-Xent: identify the other view of each item among all other views of the batch.

Chen et al., SimCLR, ICML 2020, arXiv:2002.05709, equation 1 and Algorithm 1.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ._pairs import check_pair, full_precision


def nt_xent(
    z1: Float[Tensor, "n d"], z2: Float[Tensor, "n d"], *, temperature: float = 0.1
) -> Float[Tensor, ""]:
    """Score two views' projections by the normalised, temperature-scaled cross-entropy.

    Each of the 2n views must pick its partner among the 2n - 1 others by cosine similarity over
    `temperature` (the paper's τ). The value is the mean over the 2n views, as in the paper; the
    authors' code adds the two halves' means instead, twice this. Between 0 and
    ln(2n - 1) + 2 / τ. Memory is (2n)². Pass the global batch: the other rows are the negatives.
    Runs in float32 under autocast.

    Raises:
        ShapeError: the views do not share one (n, d) shape with n >= 2.

    Example:
        >>> round(nt_xent(torch.eye(2), torch.eye(2), temperature=1.0).item(), 4)  # ln(e + 2) - 1
        0.5514
    """
    check_pair("views", z1, z2, at_least=2)
    with torch.autocast(z1.device.type, enabled=False):
        z = F.normalize(full_precision(torch.cat([z1, z2])), dim=1)  # (2n, d)
        logits = (z @ z.T / temperature).fill_diagonal_(-torch.inf)  # (2n, 2n)
        partner = torch.arange(len(z), device=z.device).roll(len(z1))
        return F.cross_entropy(logits, partner)
