"""SwAV: predict one view's balanced assignment to prototypes from the other view.

Caron et al., NeurIPS 2020, arXiv:2006.09882, equations 1 to 3 and Algorithm 1; the balancing is
Sinkhorn and Knopp's, by Cuturi 2013 (arXiv:1306.0895).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from attar.errors import InvalidInput

from ._pairs import check_pair, full_precision


def swav(
    scores1: Float[Tensor, "n k"],
    scores2: Float[Tensor, "n k"],
    *,
    temperature: float = 0.1,
    epsilon: float = 0.05,
    iterations: int = 3,
) -> Float[Tensor, ""]:
    """Give the cross-entropy of each view's codes, predicted from the scores of the other view.

    Scores are the cosines of n projections with k prototypes. With q = `codes`
    and p = softmax(scores / τ) the value is the mean of -Σ q₂ log p₁ and -Σ q₁ log p₂ over rows;
    no gradient goes through the codes. Pass the global batch: the codes balance over its rows.
    Runs in float32 under autocast.

    Raises:
        ShapeError: the views do not share one (n, k) shape.

    Example:
        >>> round(swav(torch.zeros(2, 2), torch.zeros(2, 2)).item(), 4)  # ln 2
        0.6931
    """
    check_pair("scores", scores1, scores2, at_least=1)
    with torch.autocast(scores1.device.type, enabled=False):
        views = [full_precision(scores) for scores in (scores1, scores2)]
        q1, q2 = (codes(scores, epsilon=epsilon, iterations=iterations) for scores in views)
        log_p1, log_p2 = ((scores / temperature).log_softmax(dim=1) for scores in views)
        return -(q2 * log_p1 + q1 * log_p2).sum(dim=1).mean() / 2


@torch.no_grad()
def codes(
    scores: Float[Tensor, "n k"], *, epsilon: float = 0.05, iterations: int = 3
) -> Float[Tensor, "n k"]:
    """Assign rows to prototypes softly and evenly: each row sums to 1, each column to about n / k.

    exp(scores / ε), its columns and then its rows made even so many times. Rows are exact; columns
    are as even as the iterations make them.

    Raises:
        InvalidInput: `epsilon` is not positive, or there is no iteration.

    Example:
        >>> codes(torch.zeros(2, 4))[0]
        tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """
    if epsilon <= 0 or iterations < 1:
        raise InvalidInput(
            f"epsilon must be positive and iterations at least 1; got {epsilon} and {iterations}"
        )
    log_q = full_precision(scores) / epsilon
    # The first time in logarithms, so that a small ε overflows nothing. From then on no sum of a
    # row or column is below 1 / nk, and plain division is as exact and faster.
    q = (log_q - log_q.logsumexp(dim=0, keepdim=True)).softmax(dim=1)
    for _ in range(iterations - 1):
        q = q / q.sum(dim=0, keepdim=True)
        q = q / q.sum(dim=1, keepdim=True)
    return q
