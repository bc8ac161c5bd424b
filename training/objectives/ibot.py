"""iBOT: give masked patches the distributions that the teacher gives them, unmasked.

Zhou et al., ICLR 2022, arXiv:2111.07832, equation 2.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attar.errors import ShapeError

from ._pairs import full_precision


def ibot(
    student: Float[Tensor, "n p k"],
    teacher: Float[Tensor, "n p k"],
    centre: Float[Tensor, "k"],
    hidden: Bool[Tensor, "n p"],
    *,
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.04,
) -> Float[Tensor, ""]:
    """Give the cross-entropy of masked patches, averaged over those of an image, then over images.

    The student's outputs are for an image without the patches that `hidden` masks, the teacher's
    for all of it. Softmaxes, centre and gradient are as in `dino`. The paper sums over patches; its
    authors' code takes the mean, and 0 for an image without a masked patch, as here. Runs in
    float32 under autocast.

    Raises:
        ShapeError: the two do not share one (n, p, k) shape with at least one patch, or `hidden` is
            not (n, p).

    Example:
        >>> outputs, hidden = torch.zeros(1, 2, 4), torch.tensor([[True, False]])
        >>> round(ibot(outputs, outputs, torch.zeros(4), hidden).item(), 4)  # ln 4
        1.3863
    """
    if student.ndim != 3 or student.shape != teacher.shape or hidden.shape != student.shape[:2]:
        raise ShapeError(
            "student and teacher must share one (n, p, k) shape, and hidden be (n, p); got "
            f"{(*student.shape,)}, {(*teacher.shape,)} and {(*hidden.shape,)}"
        )
    if 0 in student.shape:
        raise ShapeError(f"there must be an image, a patch and an output; got {(*student.shape,)}")
    with torch.autocast(student.device.type, enabled=False):
        p = ((full_precision(teacher.detach()) - centre) / teacher_temperature).softmax(dim=2)
        log_p = (full_precision(student) / student_temperature).log_softmax(dim=2)
        each = -(p * log_p).sum(dim=2) * hidden  # (n, p)
        return (each.sum(dim=1) / hidden.sum(dim=1).clamp(min=1)).mean()
