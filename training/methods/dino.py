"""DINO: a student sees crops of every size and matches its teacher's outputs for the large ones.

Caron et al., ICCV 2021, arXiv:2104.14294.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from ..distributed import gather
from ..encoders.prototype_head import PrototypeHead
from ..method import Method, Metrics
from ..objectives.dino import dino, moved_centre
from ..schedules import Schedule
from ..targets import Ema
from .asymmetric import Chain


class Dino(Method[tuple[Tensor, ...]]):
    """An encoder and a head, and an EMA teacher of both; a batch is the views, two global first.

    The teacher sees the global views, the student all of them, and each of the student's outputs is
    compared with the teacher's for every other view (equation 3 of the paper). Views of one size
    go through the network together. The head's prototypes stand still for the first `frozen` steps,
    as in the authors' code. Logs `used`, the share of the outputs that the teacher prefers for at
    least one item: 1 / outputs at a collapse. With `export_target` the teacher's encoder is what is
    probed and exported, as in the paper, instead of the student's.
    """

    least_items: ClassVar[int] = 2

    centre: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        head: PrototypeHead,
        *,
        momentum: Schedule,
        teacher_temperature: Schedule,
        student_temperature: float = 0.1,
        centre_momentum: float = 0.9,
        frozen: int = 0,
        export_target: bool = True,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.target = Ema(Chain(encoder, head), momentum)
        self.register_buffer("centre", torch.zeros(head.outputs.out_features))
        self.teacher_temperature = teacher_temperature
        self.student_temperature = student_temperature
        self.centre_momentum = centre_momentum
        self.frozen = frozen
        self.export_target = export_target
        self._teacher = torch.empty(0)

    @property
    def exported(self) -> nn.Module:
        """The teacher's encoder, or the student's without `export_target`."""
        return cast("Chain", self.target.copy).encoder if self.export_target else self.encoder

    def loss(self, batch: tuple[Tensor, ...], step: int) -> tuple[Tensor, Metrics]:
        """Give the mean cross-entropy over all pairs of a teacher's and another student's view."""
        student = [
            logits
            for _, views in groupby(batch, key=lambda view: view.shape)
            for logits in self._student(list(views), frozen=step < self.frozen)
        ]
        self._teacher = self.target(torch.cat(batch[:2]))
        loss = other_views(
            student,
            self._teacher.chunk(2),
            self.centre,
            student_temperature=self.student_temperature,
            teacher_temperature=self.teacher_temperature(step),
        )
        return loss, {"used": used(self._teacher, self.centre)}

    def after_step(self, step: int) -> None:
        """Update the teacher, and the centre by the teacher's outputs for the global batch."""
        self.target.update(Chain(self.encoder, self.head), step)
        outputs = gather(self._teacher)
        self.centre.copy_(moved_centre(self.centre, outputs, momentum=self.centre_momentum))

    def _student(self, views: list[Tensor], *, frozen: bool) -> tuple[Tensor, ...]:
        embeddings = self.encoder(torch.cat(views))
        logits: Tensor = self.head(embeddings, frozen=frozen)
        return logits.chunk(len(views))


def other_views(
    student: Sequence[Tensor], teacher: Sequence[Tensor], centre: Tensor, **temperatures: float
) -> Tensor:
    """Give the mean of `dino` over all pairs of a teacher's and another student's view.

    Each is (n, k), and the first of the student are the views that the teacher sees.
    """
    losses = [
        dino(own, its, centre, **temperatures)
        for number, its in enumerate(teacher)
        for other, own in enumerate(student)
        if other != number
    ]
    return torch.stack(losses).mean()


def used(teacher: Tensor, centre: Tensor) -> float:
    """Give the share of the k outputs that the teacher's (n, k) prefer for at least one item."""
    return len(torch.unique((teacher - centre).argmax(dim=1))) / len(centre)
