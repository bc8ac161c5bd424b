"""DINO: match the teacher's output distribution, centred and sharpened, across two views.

Caron et al., ICCV 2021, arXiv:2104.14294, equations 1 to 4 and Algorithm 1.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from ._pairs import check_pair, full_precision


def dino(
    student: Float[Tensor, "n k"],
    teacher: Float[Tensor, "n k"],
    centre: Float[Tensor, "k"],
    *,
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.04,
) -> Float[Tensor, ""]:
    """Give the mean cross-entropy of softmax(s / τₛ) under softmax((t - c) / τₜ) over rows.

    Student and teacher are the outputs for two different views. No gradient goes through the
    teacher. Centring prevents that one output dominates, but favours uniform outputs; a low τₜ does
    the opposite; together they prevent collapse. Update `centre` by `moved_centre`. Runs in float32
    under autocast.

    Raises:
        ShapeError: the two do not share one (n, k) shape.

    Example:
        >>> round(dino(torch.zeros(1, 4), torch.eye(1, 4), torch.zeros(4)).item(), 4)  # ln 4
        1.3863
    """
    check_pair("student and teacher", student, teacher, at_least=1)
    with torch.autocast(student.device.type, enabled=False):
        p = ((full_precision(teacher.detach()) - centre) / teacher_temperature).softmax(dim=1)
        log_p = (full_precision(student) / student_temperature).log_softmax(dim=1)
        return -(p * log_p).sum(dim=1).mean()


@torch.no_grad()
def moved_centre(
    centre: Float[Tensor, "k"], teacher: Float[Tensor, "n k"], *, momentum: float = 0.9
) -> Float[Tensor, "k"]:
    """Give m c + (1 - m) mean(t) over the global batch's rows, for the next step (equation 4).

    Example:
        >>> moved_centre(torch.zeros(2), torch.ones(3, 2))
        tensor([0.1000, 0.1000])
    """
    return momentum * centre + (1 - momentum) * full_precision(teacher).mean(dim=0).to(centre)
