"""Token detection: which tokens of a text were changed, judged one by one.

Clark et al., ICLR 2020 (ELECTRA), arXiv:2003.10555, section 2: the discriminator's loss.
"""

from jaxtyping import Bool, Float
from torch import Tensor, autocast
from torch.nn import functional as F

from attar.errors import ShapeError

from ._pairs import full_precision


def token_detection(
    logits: Float[Tensor, "n length"],
    changed: Bool[Tensor, "n length"],
    counted: Bool[Tensor, "n length"],
) -> Float[Tensor, ""]:
    """Give the mean binary cross-entropy of the counted tokens; a high logit says: changed.

    The paper sums over the tokens of a text and takes the mean over texts; here it is a mean over
    tokens, as in the authors' code. Runs in float32 under autocast.

    Raises:
        ShapeError: the three do not share one shape, or nothing is counted.

    Example:
        >>> changed, counted = torch.tensor([[True, False]]), torch.tensor([[True, True]])
        >>> round(token_detection(torch.zeros(1, 2), changed, counted).item(), 4)  # ln 2
        0.6931
    """
    if not logits.shape == changed.shape == counted.shape or not counted.any():
        raise ShapeError(
            "logits, changed and counted must share one shape (n, length), with something counted; "
            f"got {(*logits.shape,)}, {(*changed.shape,)} and {(*counted.shape,)}, "
            f"{int(counted.sum())} counted"
        )
    with autocast(logits.device.type, enabled=False):
        judged = full_precision(logits[counted])
        return F.binary_cross_entropy_with_logits(judged, changed[counted].to(judged.dtype))
