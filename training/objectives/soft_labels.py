"""Knowledge distillation: match a teacher's distribution over classes, without labels.

Hinton et al. 2015, arXiv:1503.02531, section 2; SimCLRv2: Chen et al., NeurIPS 2020,
arXiv:2006.10029, equation 2; SSLD: Cui et al. 2021, arXiv:2103.05959, section 3.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from attar.errors import InvalidInput

from ._pairs import check_pair, full_precision


def soft_labels(
    student: Float[Tensor, "n k"], teacher: Float[Tensor, "n k"], *, temperature: float = 1.0
) -> Float[Tensor, ""]:
    """Give the mean over rows of -τ² Σ p log q, p and q the softmax of logits over τ.

    τ² keeps the gradient's size the same at every temperature (Hinton et al.). No gradient goes
    through the teacher. At least τ² times the teacher's entropy. Runs in float32 under autocast.

    Raises:
        ShapeError: the two do not share one (n, k) shape.
        InvalidInput: `temperature` is not positive.

    Example:
        >>> round(soft_labels(torch.zeros(1, 4), torch.zeros(1, 4)).item(), 4)  # ln 4
        1.3863
    """
    check_pair("student's and teacher's logits", student, teacher, at_least=1)
    if temperature <= 0:
        raise InvalidInput(f"temperature must be positive; got {temperature}")
    with torch.autocast(student.device.type, enabled=False):
        p = (full_precision(teacher.detach()) / temperature).softmax(dim=1)
        log_q = (full_precision(student) / temperature).log_softmax(dim=1)
        return -(p * log_q).sum(dim=1).mean() * temperature**2


def jensen_shannon(
    student: Float[Tensor, "n k"], teacher: Float[Tensor, "n k"]
) -> Float[Tensor, ""]:
    """Give the mean over rows of (KL(p ‖ m) + KL(q ‖ m)) / 2 with m = (p + q) / 2, in nats.

    p and q are the softmax of the logits. Symmetric, and between 0 and ln 2: a student that is far
    off gets a smaller pull than by cross-entropy. No gradient goes through the teacher. Runs in
    float32 under autocast.

    Raises:
        ShapeError: the two do not share one (n, k) shape.

    Example:
        >>> jensen_shannon(torch.zeros(1, 4), torch.zeros(1, 4)).item()
        0.0
    """
    check_pair("student's and teacher's logits", student, teacher, at_least=1)
    with torch.autocast(student.device.type, enabled=False):
        log_p = full_precision(teacher.detach()).log_softmax(dim=1)
        log_q = full_precision(student).log_softmax(dim=1)
        # In logarithms: a class that neither gives any weight to must not become 0 * -inf.
        log_m = torch.logaddexp(log_p, log_q) - math.log(2)
        divergences = log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)
        return divergences.sum(dim=1).mean() / 2
