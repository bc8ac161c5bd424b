"""RankMe: the effective rank of the embeddings; it needs no labels."""

import numpy as np
from numpy.typing import ArrayLike

from attar.errors import InvalidInput

from ._rows import rows

EPSILON = 1e-7  # the paper's, added to each share of the spectrum


def rankme(embeddings: ArrayLike) -> float:
    """Give the smooth rank of (n, d) embeddings: about 1 when collapsed, at most min(n, d).

    exp(-Σ pₖ ln pₖ) with pₖ = σₖ / ‖σ‖₁ + 1e-7 and σ the singular values, without centring: Garrido
    et al. 2023 (arXiv:2210.02885). The paper uses 25 600 rows; compare figures only at
    one n.

    Raises:
        InvalidInput: the embeddings are all zero, which has no rank.
    """
    singular = np.linalg.svd(rows("embeddings", embeddings).astype(np.float64), compute_uv=False)
    if singular[0] == 0:
        raise InvalidInput("rankme needs a non-zero embedding; every row is zero")
    p = singular / singular.sum() + EPSILON
    return float(np.exp(-(p * np.log(p)).sum()))
