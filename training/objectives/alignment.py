"""Alignment: the distance of a prediction to its target; the method has to prevent collapse.

BYOL: Grill et al., NeurIPS 2020, arXiv:2006.07733, equation 2. SimSiam: Chen and He, CVPR 2021,
arXiv:2011.10566, equation 1, which is (this - 2) / 2.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ._pairs import check_pair, full_precision


def cosine_alignment(
    prediction: Float[Tensor, "n d"], target: Float[Tensor, "n d"]
) -> Float[Tensor, ""]:
    """Give the mean over rows of 2 - 2 cos: the squared distance of the directions, 0 to 4.

    Detach the target: BYOL's is an EMA of the student, SimSiam's the student itself. Runs in
    float32 under autocast.

    Raises:
        ShapeError: the two do not share one (n, d) shape.

    Example:
        >>> cosine_alignment(torch.eye(2), -torch.eye(2)).item()
        4.0
    """
    check_pair("prediction and target", prediction, target, at_least=1)
    with torch.autocast(prediction.device.type, enabled=False):
        cosine = F.cosine_similarity(full_precision(prediction), full_precision(target))
        return 2 - 2 * cosine.mean()


def squared_alignment(
    prediction: Float[Tensor, "n d"], target: Float[Tensor, "n d"]
) -> Float[Tensor, ""]:
    """Give the mean over rows and dimensions of the squared difference.

    For targets whose length matters: the states of I-JEPA (arXiv:2301.08243) and T-JEPA
    (arXiv:2410.05016), and the teacher's embeddings in further pretraining (arXiv:2210.02871). Runs
    in float32 under autocast.

    Raises:
        ShapeError: the two do not share one (n, d) shape.

    Example:
        >>> squared_alignment(torch.zeros(2, 3), torch.ones(2, 3)).item()
        1.0
    """
    check_pair("prediction and target", prediction, target, at_least=1)
    with torch.autocast(prediction.device.type, enabled=False):
        return F.mse_loss(full_precision(prediction), full_precision(target))
