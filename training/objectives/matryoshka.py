"""Matryoshka InfoNCE: queries and passages find each other, at several widths of the embedding.

Kusupati et al., NeurIPS 2022, arXiv:2205.13147, equation 1, with InfoNCE (van den Oord et al. 2018,
arXiv:1807.03748, equation 4) as the loss of each width.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from attar.errors import InvalidInput, ShapeError

from ._pairs import check_pair, full_precision
from .info_nce import info_nce


def matryoshka(
    queries: Float[Tensor, "n d"],
    passages: Float[Tensor, "n d"],
    negatives: Float[Tensor, "n h d"] | None = None,
    *,
    widths: Sequence[int] | None = None,
    temperature: float = 0.05,
) -> Float[Tensor, ""]:
    """Give the mean InfoNCE over both directions and over `widths`; None is the full width alone.

    At a width w the first w dimensions are an embedding, brought to unit length. Query i finds
    passage i among all passages and all hard `negatives` of the batch; passage i finds query i
    among all queries. Each direction is a mean over rows, and all widths weigh the same, as in the
    paper. Pass the global batch. Runs in float32 under autocast.

    Raises:
        ShapeError: queries and passages do not share one (n, d) shape with n >= 2, or negatives are
            not (n, h, d).
        InvalidInput: no width, or a width that is not in [1, d].

    Example:
        >>> z = torch.eye(2)
        >>> round(matryoshka(z, z, temperature=1.0).item(), 4)  # ln(e + 1) - 1
        0.3133
    """
    check_pair("queries and passages", queries, passages, at_least=2)
    (n, d) = queries.shape
    widths = (d,) if widths is None else widths
    if not widths or not all(1 <= width <= d for width in widths):
        raise InvalidInput(f"widths must be in [1, {d}], at least one; got {tuple(widths)}")
    if negatives is not None and (negatives.ndim != 3 or negatives.shape[::2] != (n, d)):
        raise ShapeError(f"negatives must be ({n}, h, {d}); got {(*negatives.shape,)}")
    hard = passages[:0] if negatives is None else negatives.flatten(0, 1)
    candidates = torch.cat([passages, hard.to(passages.dtype)])  # (n + n h, d)
    losses = [
        (
            _identify(queries[:, :width], candidates[:, :width], temperature)
            + info_nce(passages[:, :width], queries[:, :width], temperature=temperature)
        )
        / 2
        for width in widths
    ]
    return torch.stack(losses).mean()


def _identify(queries: Tensor, candidates: Tensor, temperature: float) -> Tensor:
    """Give the cross-entropy of candidate i for query i, where there may be more candidates."""
    with torch.autocast(queries.device.type, enabled=False):
        q, k = (F.normalize(full_precision(z), dim=1) for z in (queries, candidates))
        return F.cross_entropy(q @ k.T / temperature, torch.arange(len(q), device=q.device))
