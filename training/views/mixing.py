"""MixUp: each item of a batch with a share of another.

Zhang et al., ICLR 2018, arXiv:1710.09412, with one share for the whole batch as in its code.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from attar.errors import InvalidInput

from ._draws import carried, seed_of
from .view import View


def mixup(
    items: Float[Tensor, "n *shape"], generator: torch.Generator, *, alpha: float = 1.0
) -> View[Tensor]:
    """Give share x item + (1 - share) x another item, the share drawn from Beta(alpha, alpha).

    `params["order"]` (n,) int64 are the others, a permutation of the batch; `params["share"]` (n,)
    float is one number n times. Deterministic given the generator, which lives on the CPU.
    """
    if alpha <= 0:
        raise InvalidInput(f"alpha must be above 0; got {alpha}")
    share = float(np.random.default_rng(seed_of(generator)).beta(alpha, alpha))
    order = carried(torch.randperm(len(items), generator=generator), items)
    return View(
        items.mul(share) + items[order].mul(1 - share),
        {"share": torch.full((len(items),), share, device=items.device), "order": order},
    )
