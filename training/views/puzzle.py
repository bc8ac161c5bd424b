"""Puzzles: one of a few numbered transformations of an image, as a label that costs nothing.

Quarter turns: Gidaris et al., ICLR 2018, arXiv:1803.07728. Orders of colours, and all labels of an
image in one batch: Lee et al., ICML 2020 (SLA), arXiv:1910.05872.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.errors import ShapeError

from ._draws import carried
from .view import View


@dataclass(frozen=True, slots=True, kw_only=True)
class Puzzle:
    """A set of `classes` numbered transformations; `change(images, labels)` applies them.

    Class 0 leaves the image unchanged.
    """

    classes: int
    change: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, images: Tensor, generator: torch.Generator) -> View[Tensor]:
        """Transform (n, c, h, w) images by random classes, `params["label"]`, (n,) int64.

        Deterministic given the generator, which lives on the CPU.
        """
        labels = torch.randint(self.classes, (len(images),), generator=generator)
        labels = carried(labels, images)
        return View(self.change(images, labels), {"label": labels})

    def all_classes(self, images: Tensor) -> View[Tensor]:
        """Transform each image by all classes, (n classes, c, h, w), image by image.

        `params["label"]` is (n classes,) int64. With it, SLA's joint label of an image is
        (its class) x classes + label.
        """
        labels = torch.arange(self.classes, device=images.device).repeat(len(images))
        return View(
            self.change(images.repeat_interleave(self.classes, 0), labels), {"label": labels}
        )


def _turn(images: Float[Tensor, "n c h w"], labels: Int[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
    if images.shape[-1] != images.shape[-2]:
        raise ShapeError(f"only square images can be turned; got {(*images.shape,)}")
    turns = torch.stack([images.rot90(turn, (2, 3)) for turn in range(4)])  # (4, n, c, h, w)
    return turns[labels, torch.arange(len(images), device=images.device)]


def _recolour(
    images: Float[Tensor, "n c h w"], labels: Int[Tensor, " n"]
) -> Float[Tensor, "n c h w"]:
    if images.shape[1] != 3:
        raise ShapeError(f"images must have three colours, (n, 3, h, w); got {(*images.shape,)}")
    orders = carried(torch.tensor(list(permutations(range(3)))), images)[labels]  # (n, 3)
    return images.gather(1, orders[:, :, None, None].expand_as(images))


quarter_turns = Puzzle(classes=4, change=_turn)
colour_orders = Puzzle(classes=6, change=_recolour)
