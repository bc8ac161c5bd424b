"""SlotCon's contrast of slots: the slot of one view among all slots of the other views.

Wen et al., NeurIPS 2022, arXiv:2205.15288, section 3.3.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from attar.errors import ShapeError

from ._pairs import full_precision


def slotcon(
    queries: Float[Tensor, "n k d"],
    keys: Float[Tensor, "n k d"],
    in_queries: Bool[Tensor, "n k"],
    in_keys: Bool[Tensor, "n k"],
    *,
    temperature: float = 0.2,
) -> Float[Tensor, ""]:
    """Give 2τ times the mean of -ln softmax of q̂·k̂ / τ at the own key, over slots in both views.

    Slot k of image i is in a view where prototype k is the nearest of some place of its map, as
    `in_queries` and `in_keys` say. The key of a query is the same slot of the same image; those it
    is told from are the slots in the other views, of all images. No gradient goes through keys. The
    value is 0 where no slot is in both views. Pass the global batch. Runs in float32 under
    autocast.

    Raises:
        ShapeError: the slots do not share one (n, k, d) shape, or the masks are not (n, k).

    Example:
        >>> slots, both = torch.eye(2)[None], torch.ones(1, 2, dtype=torch.bool)
        >>> round(slotcon(slots, slots, both, both, temperature=1.0).item(), 4)  # 2 ln(1 + 1 / e)
        0.6265
    """
    masks = in_queries.shape, in_keys.shape
    if queries.ndim != 3 or queries.shape != keys.shape or masks != (keys.shape[:2],) * 2:
        raise ShapeError(
            "queries and keys must share one (n, k, d) shape, and both masks be (n, k); got "
            f"{(*queries.shape,)}, {(*keys.shape,)}, {(*masks[0],)} and {(*masks[1],)}"
        )
    both = in_queries & in_keys
    with torch.autocast(queries.device.type, enabled=False):
        q, k = full_precision(queries), full_precision(keys.detach())
        if not both.any():
            return q.sum() * 0
        logits = F.normalize(q[both], dim=1) @ F.normalize(k[in_keys], dim=1).T / temperature
        place = in_keys.flatten().cumsum(0).view_as(in_keys) - 1  # of a key among those in a view
        return F.cross_entropy(logits, place[both]) * 2 * temperature
