"""SlotCon: group the places of an image by learned prototypes, and contrast the groups.

Wen et al., NeurIPS 2022, arXiv:2205.15288; as in the authors' code (models/slotcon.py of
github.com/CVMI-Lab/SlotCon at d510e65).
"""

from collections.abc import Callable
from typing import ClassVar, NamedTuple, Self, cast

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from attar.errors import InvalidInput
from attar.heads import Head

from ..data.source import Source
from ..distributed import gather, weight
from ..encoders.encoder import TensorEncoder, refuse_sizes_below_one
from ..encoders.roi_align import roi_align
from ..encoders.scattering import ScatteringEncoder
from ..linear_head import centroid_head
from ..method import Method, Metrics
from ..objectives.dino import dino, moved_centre
from ..objectives.slotcon import slotcon
from ..schedules import Schedule
from ..targets import Ema
from ..views.image import ImageView
from ..views.view import View

EPSILON = 1e-6  # added to a place's share of each slot, as in the authors' code
LARGEST = 512  # images whose places make the exported slots


class SlotConBatch(NamedTuple):
    """Two crops of each image, and where in each of them is what both show."""

    views: tuple[Tensor, Tensor]  # each (n, channels, side, side)
    boxes: tuple[Tensor, Tensor]  # each (n, 4): left, top, right, bottom, as shares of the sides
    flipped: tuple[Tensor, Tensor]  # each (n,) bool: mirrored after it was cropped

    @classmethod
    def of(cls, first: View[Tensor], second: View[Tensor]) -> Self:
        """Find the area that two views show, which have "crop" and "flipped" in their parameters.

        A box has no area where the crops share none.
        """
        extents = [_extent(view) for view in (first, second)]
        (low, high), (other_low, other_high) = extents
        start, end = torch.maximum(low, other_low), torch.minimum(high, other_high)
        boxes, flips = [], []
        for view, (edge, far) in zip((first, second), extents, strict=True):
            shares = [(at - edge) / (far - edge) for at in (start, torch.maximum(start, end))]
            (left, top), (right, bottom) = (share.clamp(0, 1).unbind(1) for share in shares)
            flipped = view.params["flipped"].to(view.data.device)
            mirrored = torch.stack([1 - right, top, 1 - left, bottom], 1)
            box = torch.stack([left, top, right, bottom], 1)
            boxes.append(mirrored.where(view.params["flipped"][:, None], box).to(view.data))
            flips.append(flipped)
        return cls((first.data, second.data), (boxes[0], boxes[1]), (flips[0], flips[1]))

    @classmethod
    def two(
        cls, first: ImageView, second: ImageView
    ) -> Callable[[Tensor, Generator], "SlotConBatch"]:
        """Give what makes both views of images, and finds what they share as `of` does."""
        return lambda images, draw: cls.of(first(images, draw), second(images, draw))


def _extent(view: View[Tensor]) -> tuple[Tensor, Tensor]:
    """Give the first and the last edge, (n, 2) each, of what a view shows, in the image's pixels.

    A crop's first and last pixel are shown in the middle of the view's first and last one.
    """
    low, high = view.params["crop"].double().view(-1, 2, 2).unbind(1)
    half = (high - low) / max(1, view.data.shape[-1] - 1) / 2
    return low - half, high + half


class SlotCon(Method[SlotConBatch]):
    """An encoder of maps, a projector of their places, prototypes, and an EMA teacher of all three.

    A place's scores are its cosines with the prototypes. Student and teacher agree on the scores of
    the area that two views share, which RoIAlign cuts out of both, in DINO's way; and a slot, the
    mean of the places by their share of a prototype, is told from the other slots by `slotcon`,
    after a predictor of the student's. The loss is, summed over both directions,

        group_weight x the first + (1 - group_weight) x the second

    Crops that share nothing are left out of the first. Logs both, as `group` and `slot`, and
    `used`, the share of the prototypes that are the nearest of some place for the teacher. With
    `export_target` the teacher's encoder is probed and exported, as in the authors' code.
    """

    least_items: ClassVar[int] = 2

    encoder: TensorEncoder
    centre: Tensor

    def __init__(
        self,
        encoder: TensorEncoder,
        projector: nn.Module,
        predictor: nn.Module,
        *,
        dim: int,
        prototypes: int,
        momentum: Schedule,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.07,
        temperature: float = 0.2,
        group_weight: float = 0.5,
        centre_momentum: float = 0.9,
        export_target: bool = True,
    ) -> None:
        super().__init__()
        refuse_sizes_below_one(prototypes, prototypes=prototypes)
        if encoder.grid is None or isinstance(encoder, ScatteringEncoder):
            raise InvalidInput(
                "slots are of the places of a map that is averaged, which encoder=small, residual "
                f"networks and vision transformers have; got {encoder.shape}"
            )
        self.encoder = encoder
        self.projector = projector
        self.predictor = predictor
        self.prototypes = nn.Linear(dim, prototypes, bias=False)
        self.student_temperature = student_temperature
        self.teacher_temperature = teacher_temperature
        self.temperature = temperature
        self.group_weight = group_weight
        self.centre_momentum = centre_momentum
        self.export_target = export_target
        self.target = Ema(self._grouping(), momentum)
        self.register_buffer("centre", torch.zeros(prototypes))
        self._scores = torch.empty(0)

    @property
    def exported(self) -> nn.Module:
        """The teacher's encoder, or the student's without `export_target`."""
        return cast("Grouping", self.target.copy).encoder if self.export_target else self.encoder

    def loss(self, batch: SlotConBatch, step: int) -> tuple[Tensor, Metrics]:
        """Give the weighted sum of the losses of groups and slots, over both directions."""
        student = self._grouping()
        own = [student(view) for view in batch.views]
        its = [self.target(view) for view in batch.views]
        self._scores = torch.cat([scores for _, scores in its])
        group = self._group([scores for _, scores in own], [scores for _, scores in its], batch)
        slot = self._slot(*own[0], *its[1]) + self._slot(*own[1], *its[0])
        nearest = torch.unique(self._scores.argmax(1))
        used = len(nearest) / len(self.centre)
        parts: Metrics = {"group": group.detach(), "slot": slot.detach(), "used": used}
        return self.group_weight * group + (1 - self.group_weight) * slot, parts

    def after_step(self, step: int) -> None:
        """Update the teacher, and the centre by its scores of the places of the global batch."""
        self.target.update(self._grouping(), step)
        means = gather(self._scores.mean((2, 3)))
        self.centre.copy_(moved_centre(self.centre, means, momentum=self.centre_momentum))

    @torch.no_grad()
    def heads(self, source: Source, encoder: nn.Module) -> dict[str, Head]:
        """Give the classifier `slots` of token vectors: the mean of those that have one slot.

        It stands for the teacher's projector and prototypes, which a bundle has not. Empty where
        all places of some images of the source have one slot.
        """
        grouping = cast("Grouping", self.target.copy).eval()
        device = self.centre.device
        rows = torch.linspace(0, len(source.train) - 1, min(LARGEST, len(source.train))).long()
        images = source.train[rows].to(device)
        slots = grouping(images)[1].argmax(1).flatten()
        tokens = F.normalize(cast("TensorEncoder", encoder).with_tokens(images)[1].flatten(0, 1))
        present, classes = slots.unique(return_inverse=True)
        if len(present) < 2:
            return {}
        labels = [f"slot {number}" for number in present.tolist()]
        return {"slots": centroid_head(tokens, classes, labels, scale=1 / self.teacher_temperature)}

    def _grouping(self) -> "Grouping":
        return Grouping(self.encoder, self.projector, self.prototypes, self.teacher_temperature)

    def _group(self, own: list[Tensor], its: list[Tensor], batch: SlotConBatch) -> Tensor:
        box = batch.boxes[0]
        shared = ((box[:, 2:] - box[:, :2]) > 0).all(1)  # (n,)
        q1, q2, k1, k2 = (  # each (places, prototypes)
            _aligned(scores, boxes, flipped)[shared].permute(0, 2, 3, 1).flatten(0, 2)
            for views in (own, its)
            for scores, boxes, flipped in zip(views, batch.boxes, batch.flipped, strict=True)
        )
        here = weight(shared.sum())  # every process must ask, also one whose crops share nothing
        if not shared.any():
            return (own[0].sum() + own[1].sum()) * 0
        temperatures = {
            "student_temperature": self.student_temperature,
            "teacher_temperature": self.teacher_temperature,
        }
        both = dino(q1, k2, self.centre, **temperatures) + dino(q2, k1, self.centre, **temperatures)
        return both * here

    def _slot(self, slots: Tensor, scores: Tensor, keys: Tensor, key_scores: Tensor) -> Tensor:
        queries = self.predictor(slots.flatten(0, 1)).view_as(slots)
        parts = queries, keys, nearest_somewhere(scores), nearest_somewhere(key_scores)
        return slotcon(*(gather(part) for part in parts), temperature=self.temperature)


class Grouping(nn.Module):
    """An encoder, a projector of the places of its maps, and prototypes that make slots of them."""

    def __init__(
        self,
        encoder: TensorEncoder,
        projector: nn.Module,
        prototypes: nn.Linear,
        temperature: float,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = projector
        self.prototypes = prototypes
        self.temperature = temperature

    def forward(
        self, images: Float[Tensor, "n channels side side"]
    ) -> tuple[Float[Tensor, "n k d"], Float[Tensor, "n k rows columns"]]:
        """Give the slots of images, and the score of each prototype at each place."""
        tokens = self.encoder.with_tokens(images)[1]
        places = self.projector(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])  # (n, p, d)
        scores = (
            F.normalize(places, dim=2) @ F.normalize(self.prototypes.weight, dim=1).T
        )  # (n, p, k)
        shares = (scores / self.temperature).softmax(2) + EPSILON
        slots = (shares / shares.sum(1, keepdim=True)).transpose(1, 2) @ places
        rows, columns = self.encoder.grid or (1, scores.shape[1])
        return slots, scores.transpose(1, 2).reshape(len(images), -1, rows, columns)


def nearest_somewhere(scores: Float[Tensor, "n k rows columns"]) -> Bool[Tensor, "n k"]:
    """Say which prototypes are the nearest of at least one place of an image."""
    nearest = scores.flatten(2).argmax(1)  # (n, places)
    return torch.zeros(scores.shape[:2], dtype=torch.bool, device=scores.device).scatter(
        1, nearest, value=True
    )


def _aligned(scores: Tensor, boxes: Tensor, flipped: Tensor) -> Tensor:
    """Resample the shared area of (n, k, rows, columns) scores to their size, as before a flip."""
    rows, columns = scores.shape[2:]
    area = roi_align(scores, boxes, size=(rows, columns))
    return area.flip(3).where(flipped[:, None, None, None], area)
