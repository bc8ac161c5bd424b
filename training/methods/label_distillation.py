"""Teach a student its teacher's distribution over classes, on items whose labels nobody knows.

SimCLRv2: Chen et al., NeurIPS 2020, arXiv:2006.10029, section 2. SSLD: Cui et al. 2021,
arXiv:2103.05959, section 3.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..method import Method, Metrics


class LabelDistillation(Method[Tensor]):
    """Student and teacher see one view of a batch; both give (n, classes) logits.

    `objective` compares the student's with the teacher's, such as `soft_labels` (the SimCLRv2 way)
    or `jensen_shannon` (the SSLD way). With `batch_statistics` the teacher's batch norm uses those
    of the batch, as the student's does; Cui et al. find that the better. `encoder` is the student,
    classifier included. Logs how often both name one class.
    """

    def __init__(
        self,
        encoder: nn.Module,
        teacher: nn.Module,
        objective: Callable[[Tensor, Tensor], Tensor],
        *,
        batch_statistics: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.teacher = teacher.requires_grad_(requires_grad=False)
        self.objective = objective
        self.batch_statistics = batch_statistics

    def loss(self, batch: Tensor, step: int) -> tuple[Tensor, Metrics]:
        """Compare the logits."""
        self.teacher.train(self.batch_statistics)
        with torch.no_grad():
            taught = self.teacher(batch)
        learnt = self.encoder(batch)
        agreed = (learnt.argmax(1) == taught.argmax(1)).float().mean()
        return self.objective(learnt, taught), {"agreed": agreed.detach()}
