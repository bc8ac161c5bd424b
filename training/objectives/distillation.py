"""Distillation: match a student's embeddings, and their similarities, to a teacher's."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ._pairs import check_pair, full_precision


def embedding_match(
    student: Float[Tensor, "n d"], teacher: Float[Tensor, "n d"]
) -> Float[Tensor, ""]:
    """Give the mean over rows of 1 - cos(student, teacher): 0 when the directions agree, at most 2.

    This is half the squared distance between the normalised embeddings: half the loss of LEAF
    (Vujanic and Rueckstiess 2025, arXiv:2509.12539) on embeddings of unit length. LEAF and Reimers
    and Gurevych 2020 (arXiv:2004.09813) take the squared error of the embeddings themselves; where
    embeddings are compared by cosine their lengths carry nothing, so here they are divided out.

    Raises:
        ShapeError: the two do not share one (n, d) shape; project the student to the teacher's d.

    Example:
        >>> embedding_match(torch.eye(2), 2 * torch.eye(2)).item()
        0.0
    """
    check_pair("student and teacher", student, teacher, at_least=1)
    with torch.autocast(student.device.type, enabled=False):
        return 1 - F.cosine_similarity(full_precision(student), full_precision(teacher)).mean()


def similarity_match(
    student: Float[Tensor, "n d"], teacher: Float[Tensor, "n k"], *, temperature: float = 0.05
) -> Float[Tensor, ""]:
    """Compare the similarities of each row to the others in teacher and student; 0 when equal.

    The value is the mean over rows of KL(p ‖ q), p and q being the teacher's and the student's
    softmax over the other rows' cosine similarities divided by `temperature`. The widths d and k
    may differ, and rotating either side changes nothing.

    The form is that of SEED (Fang et al., ICLR 2021, arXiv:2101.04731), with three departures: the
    rows compared with are the batch itself rather than a queue, without the row's own; one
    temperature is used for both; and KL replaces cross-entropy, from which it differs by the
    teacher's entropy only, so that the gradients are the same and the minimum is 0. Park et al.
    2019 (RKD, arXiv:1904.05068) and Tung and Mori 2019 (arXiv:1907.09682) match relations too, but
    distances by Huber loss and similarities by squared error. Pass the global batch.

    Raises:
        ShapeError: not (n, d) and (n, k) with one n >= 3; two rows have nothing to rank.

    Example:
        >>> similarity_match(torch.eye(3), torch.eye(3)).item()
        0.0
    """
    check_pair("student and teacher", student, teacher, at_least=3, same_width=False)
    with torch.autocast(student.device.type, enabled=False):
        p = _log_neighbours(full_precision(teacher), temperature)
        q = _log_neighbours(full_precision(student), temperature)
        return F.kl_div(q, p, reduction="batchmean", log_target=True)


def _log_neighbours(z: Float[Tensor, "n d"], temperature: float) -> Float[Tensor, "n n-1"]:
    """Give each row's log-probabilities of picking each other row."""
    z = F.normalize(z, dim=1)
    others = ~torch.eye(len(z), dtype=torch.bool, device=z.device)
    similarities = (z @ z.T)[others].view(len(z), -1)  # (n, n - 1): a row is not its own neighbour
    return F.log_softmax(similarities / temperature, dim=1)
