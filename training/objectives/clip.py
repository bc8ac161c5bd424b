"""CLIP for any number of modalities: contrast of the same objects in each pair of modalities.

Radford et al., ICML 2021, arXiv:2103.00020, figure 3; three modalities, AstroM3: Rizhko and Bloom
2024, arXiv:2411.08842, section 4.
"""

from collections.abc import Sequence
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from attar.errors import ShapeError

from ._pairs import check_pair, full_precision

MAX_SCALE = 100.0
"""The scale is cut here, as in both papers: a larger one makes training unstable."""


def clip(
    modalities: Sequence[Float[Tensor, "n d"]], log_scales: Float[Tensor, "pairs"]
) -> Float[Tensor, ""]:
    """Sum over pairs of modalities the cross-entropies of finding each row of one from the other.

    Similarity is the cosine times exp(log_scale), one learned number a pair in the order of
    `itertools.combinations`, cut to [1, 100]; start it at ln(1 / 0.07) or, as AstroM3, at ln 100.
    For each pair both directions are added, and each is a mean over rows; CLIP's own loss for two
    modalities is half of this. Pass the global batch. Runs in float32 under autocast.

    Raises:
        ShapeError: fewer than two modalities, not one (n, d) shape with n >= 2, or not one scale a
            pair.

    Example:
        >>> round(clip([torch.eye(2), torch.eye(2)], torch.zeros(1)).item(), 4)  # 2 (ln(e + 1) - 1)
        0.6265
    """
    pairs = list(combinations(range(len(modalities)), 2))
    if not pairs or log_scales.shape != (len(pairs),):
        raise ShapeError(
            f"{len(modalities)} modalities have {len(pairs)} pairs, and each needs one scale; "
            f"got scales of shape {(*log_scales.shape,)}"
        )
    for a, b in pairs:
        check_pair(f"modalities {a} and {b}", modalities[a], modalities[b], at_least=2)
    with torch.autocast(modalities[0].device.type, enabled=False):
        z = [F.normalize(full_precision(each), dim=1) for each in modalities]
        own = torch.arange(len(z[0]), device=z[0].device)
        total = z[0].new_zeros(())
        for (a, b), log_scale in zip(pairs, log_scales, strict=True):
            logits = log_scale.exp().clamp(1.0, MAX_SCALE) * (z[a] @ z[b].T)
            total = total + F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)
        return total
