"""Distil a teacher's distribution over classes into a student, on items without labels.

SimCLRv2: Chen et al., NeurIPS 2020, arXiv:2006.10029, section 2. SSLD: Cui et al. 2021,
arXiv:2103.05959, section 3.
"""

from collections.abc import Callable
from copy import deepcopy

from torch import Tensor, nn

from attar.heads import Head

from ..data.source import Source
from ..encoders.classifier import Classifier
from ..linear_head import linear_head
from ..method import Method, Metrics
from ..targets import Frozen


class LabelDistillation(Method[Tensor]):
    """Student and teacher see the same view of a batch; both give (n, classes) logits.

    `objective` compares the student's logits with the teacher's: `soft_labels` in SimCLRv2,
    `jensen_shannon` in SSLD. With `batch_statistics` the teacher's batch norm uses the statistics
    of the batch, as the student's does; Cui et al. find that this is better. The teacher is copied,
    so that one teacher can serve several students. `encoder` is the student with its classifier.
    Logs `agreed`, the share of items to which both give one class.
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
        self.teacher = Frozen(deepcopy(teacher), batch_statistics=batch_statistics)
        self.objective = objective

    def loss(self, batch: Tensor, step: int) -> tuple[Tensor, Metrics]:
        """Give the objective of the student's and the teacher's logits."""
        teacher_logits = self.teacher(batch)
        logits = self.encoder(batch)
        agreed = (logits.argmax(1) == teacher_logits.argmax(1)).float().mean()
        return self.objective(logits, teacher_logits), {"agreed": agreed.detach()}

    def heads(self, source: Source, encoder: nn.Module) -> dict[str, Head]:
        """Give the student's classifier, if it has one of two classes or more."""
        labels, student = source.class_names, self.encoder
        if not isinstance(student, Classifier) or student.encoder is not encoder or len(labels) < 2:
            return {}
        head = student.head
        return {
            "classifier": linear_head(head.weight, head.bias, labels, examples=len(source.train))
        }
