"""Masked prediction: the error of a reconstruction on the masked cells or tokens alone.

Tokens: Devlin et al. 2019 (BERT), arXiv:1810.04805, section 3.1. Values: He et al., CVPR 2022
(MAE), arXiv:2111.06377, section 3; Liu et al. 2021 (TERA), arXiv:2007.06028, section 3. Latents:
Assran et al., CVPR 2023 (I-JEPA), arXiv:2301.08243, equation 1; Thimonier et al. 2024 (T-JEPA),
arXiv:2410.05016.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from attar.errors import ShapeError

from ._pairs import full_precision


def masked_values(
    prediction: Float[Tensor, "*cells"],
    target: Float[Tensor, "*cells"],
    hidden: Bool[Tensor, "*cells"],
    *,
    power: Literal[1, 2] = 2,
) -> Float[Tensor, ""]:
    """Give the mean of |prediction - target|^power over the hidden cells.

    MAE squares the error of pixels, TERA takes the absolute error of frames, and JEPA squares that
    of latents, whose target is an EMA of the encoder. The target is detached. Broadcast the mask of
    patches or frames over their cells before the call. Runs in float32 under autocast.

    Raises:
        ShapeError: the three do not share one shape, or nothing is hidden.

    Example:
        >>> hidden = torch.tensor([True, False])
        >>> masked_values(torch.zeros(2), torch.tensor([3.0, 5.0]), hidden).item()
        9.0
    """
    if not prediction.shape == target.shape == hidden.shape or not hidden.any():
        raise ShapeError(
            "prediction, target and hidden must share one shape, with something hidden; got "
            f"{(*prediction.shape,)}, {(*target.shape,)} and {(*hidden.shape,)}, "
            f"{int(hidden.sum())} hidden"
        )
    with torch.autocast(prediction.device.type, enabled=False):
        apart = full_precision(prediction)[hidden] - full_precision(target.detach())[hidden]
        return apart.abs().pow(power).mean()


def masked_tokens(
    logits: Float[Tensor, "*tokens vocabulary"],
    tokens: Int[Tensor, "*tokens"],
    hidden: Bool[Tensor, "*tokens"],
) -> Float[Tensor, ""]:
    """Give the mean cross-entropy of the hidden tokens, at most about ln(vocabulary) if untrained.

    Runs in float32 under autocast.

    Raises:
        ShapeError: the shapes do not belong together, or nothing is hidden.

    Example:
        >>> tokens, hidden = torch.tensor([[3, 5]]), torch.tensor([[True, False]])
        >>> round(masked_tokens(torch.zeros(1, 2, 8), tokens, hidden).item(), 4)  # ln 8
        2.0794
    """
    if not logits.shape[:-1] == tokens.shape == hidden.shape or not hidden.any():
        raise ShapeError(
            "logits must be (*tokens, vocabulary), tokens and hidden (*tokens), with something "
            f"hidden; got {(*logits.shape,)}, {(*tokens.shape,)} and {(*hidden.shape,)}, "
            f"{int(hidden.sum())} hidden"
        )
    with torch.autocast(logits.device.type, enabled=False):
        return F.cross_entropy(full_precision(logits[hidden]), tokens[hidden])
