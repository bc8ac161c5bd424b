"""iBOT: DINO, and masked patches that a student gives what its teacher sees there.

Zhou et al., ICLR 2022, arXiv:2111.07832; losses and centres as in the authors' code (main_ibot.py
of github.com/bytedance/ibot at 564f363).
"""

from collections.abc import Callable
from itertools import groupby
from typing import ClassVar, NamedTuple, Self, cast

import torch
from jaxtyping import Bool
from torch import Generator, Tensor, nn

from ..distributed import gather
from ..encoders.prototype_head import PrototypeHead
from ..encoders.tokens import Hidden
from ..encoders.vit import VitEncoder
from ..method import Method, Metrics
from ..objectives.dino import moved_centre
from ..objectives.ibot import ibot
from ..schedules import Schedule
from ..targets import Ema
from ..views.masks import block_mask
from .dino import other_views, used

LONGEST = 0.5  # side of a masked block, as a share of the image's


class IbotBatch(NamedTuple):
    """The views of each image, two global first, and the patches that are masked in those two."""

    views: tuple[Tensor, ...]  # each (n, channels, side, side), of its own side
    hidden: tuple[Tensor, Tensor]  # each (n, patches) bool

    @classmethod
    def of(
        cls, views: tuple[Tensor, ...], draw: Generator, *, grid: int, mask: tuple[float, float]
    ) -> Self:
        """Mask blocks of `grid` x `grid` patches in half of the images of both global views.

        The masked share of an image is uniform in `mask` (section 4 of the paper).
        """
        first, second = (
            _blocks(len(view), grid, draw, mask=mask).to(view.device) for view in views[:2]
        )
        return cls(views, (first, second))

    @classmethod
    def after(
        cls, views: Callable[[Tensor, Generator], tuple[Tensor, ...]], *, grid: int
    ) -> Callable[..., Self]:
        """Give what makes the `views` of images, and then masks patches as `of` does."""
        return lambda images, draw, *, mask: cls.of(views(images, draw), draw, grid=grid, mask=mask)


def _blocks(
    n: int, grid: int, draw: Generator, *, mask: tuple[float, float]
) -> Bool[Tensor, "n patches"]:
    low, high = mask
    share, masked = torch.rand(2, n, generator=draw)
    rate = (low + (high - low) * share).where(masked < 0.5, 0.0)
    return block_mask(n, (grid, grid), draw, rate=rate, longest=LONGEST).flatten(1)


class Ibot(Method[IbotBatch]):
    """A vision transformer and one head for images and patches, and an EMA teacher of both.

    The student sees the global views with masked patches, and the local ones; the teacher sees the
    global views whole, and so is the tokenizer of their patches. The loss is DINO's between views
    plus, with weight `patch_weight`, `ibot` between a global view and itself. The head's prototypes
    stand still for the first `frozen` steps. Logs both parts, as `view` and `patch`, and `used` as
    DINO does. With `export_target` the teacher's encoder is what is probed and exported.
    """

    least_items: ClassVar[int] = 2

    encoder: VitEncoder
    centre: Tensor
    patch_centre: Tensor

    def __init__(
        self,
        encoder: VitEncoder,
        head: PrototypeHead,
        *,
        momentum: Schedule,
        teacher_temperature: Schedule,
        student_temperature: float = 0.1,
        centre_momentum: float = 0.9,
        patch_weight: float = 1.0,
        frozen: int = 0,
        export_target: bool = True,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.mask_token = nn.Parameter(torch.zeros(encoder.width))
        self.target = Ema(Tokenizer(encoder, head), momentum)
        for name in ("centre", "patch_centre"):
            self.register_buffer(name, torch.zeros(head.outputs.out_features))
        self.teacher_temperature = teacher_temperature
        self.student_temperature = student_temperature
        self.centre_momentum = centre_momentum
        self.patch_weight = patch_weight
        self.frozen = frozen
        self.export_target = export_target
        self._teacher = torch.empty(0), torch.empty(0)

    @property
    def exported(self) -> nn.Module:
        """The teacher's encoder, or the student's without `export_target`."""
        target = cast("Tokenizer", self.target.copy)
        return target.encoder if self.export_target else self.encoder

    def loss(self, batch: IbotBatch, step: int) -> tuple[Tensor, Metrics]:
        """Give DINO's loss of the views plus the weighted loss of the masked patches."""
        temperatures = {
            "student_temperature": self.student_temperature,
            "teacher_temperature": self.teacher_temperature(step),
        }
        whole, masked = torch.cat(batch.views[:2]), torch.cat(batch.hidden)
        frozen = step < self.frozen
        student = Tokenizer(self.encoder, self.head)
        pooled, patches = student(whole, Hidden(masked, self.mask_token), frozen=frozen)
        local = [
            logits
            for _, views in groupby(batch.views[2:], key=lambda view: view.shape)
            for logits in self._local(list(views), frozen=frozen)
        ]
        self._teacher = its_pooled, its_patches = self.target(whole)
        view = other_views(
            [*pooled.chunk(2), *local], its_pooled.chunk(2), self.centre, **temperatures
        )
        patch = ibot(patches, its_patches, self.patch_centre, masked, **temperatures)
        parts = {"view": view.detach(), "patch": patch.detach()}
        return view + self.patch_weight * patch, {**parts, "used": used(its_pooled, self.centre)}

    def after_step(self, step: int) -> None:
        """Update the teacher, and both centres by the teacher's outputs for the global batch."""
        self.target.update(Tokenizer(self.encoder, self.head), step)
        for centre, outputs in zip((self.centre, self.patch_centre), self._teacher, strict=True):
            mean = outputs if outputs.ndim == 2 else outputs.mean(1)  # of an image's patches
            centre.copy_(moved_centre(centre, gather(mean), momentum=self.centre_momentum))

    def _local(self, views: list[Tensor], *, frozen: bool) -> tuple[Tensor, ...]:
        logits: Tensor = self.head(self.encoder(torch.cat(views)), frozen=frozen)
        return logits.chunk(len(views))


class Tokenizer(nn.Module):
    """An encoder followed by a head, which takes its embedding and, one by one, its patches."""

    def __init__(self, encoder: VitEncoder, head: PrototypeHead) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(
        self, images: Tensor, hidden: Hidden | None = None, *, frozen: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Give the logits of images, (n, k), and those of their patches, (n, patches, k)."""
        states = self.encoder.states(self.encoder.tokens(images, hidden))
        pooled: Tensor = self.head(self.encoder.embed(states), frozen=frozen)
        patches = self.encoder.project(self.encoder.own(states).flatten(0, 1))
        logits: Tensor = self.head(patches, frozen=frozen)
        return pooled, logits.view(len(images), -1, logits.shape[1])
