"""Puzzles: images changed in one of a few numbered ways, and the question which.

Quarter turns: Gidaris et al., ICLR 2018, arXiv:1803.07728. Jigsaw: Noroozi and Favaro, ECCV 2016,
arXiv:1603.09246. Orders of colours, and all answers at once: Lee et al., ICML 2020 (SLA),
arXiv:1910.05872.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from attar.errors import InvalidInput, ShapeError

from ._draws import carried
from .view import View


@dataclass(frozen=True, slots=True, kw_only=True)
class Puzzle:
    """So many numbered `answers`, and what each does: `change(images, labels)`, 0 for nothing."""

    answers: int
    change: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, images: Tensor, generator: torch.Generator) -> View[Tensor]:
        """Change (n, c, h, w) images, each in one way; `params["label"]` (n,) int64 says which.

        Deterministic given the generator, which lives on the CPU.
        """
        labels = torch.randint(self.answers, (len(images),), generator=generator)
        labels = carried(labels, images)
        return View(self.change(images, labels), {"label": labels})

    def all_answers(self, images: Tensor) -> View[Tensor]:
        """Change each image in every way, (n answers, c, h, w): image by image, answer by answer.

        `params["label"]` (n answers,) int64. SLA's joint label is class x answers + label.
        """
        labels = torch.arange(self.answers, device=images.device).repeat(len(images))
        return View(
            self.change(images.repeat_interleave(self.answers, 0), labels), {"label": labels}
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


quarter_turns = Puzzle(answers=4, change=_turn)
colour_orders = Puzzle(answers=6, change=_recolour)


def jigsaw(tiles: int = 3, *, answers: int = 35, seed: int = 0) -> Puzzle:
    """Give the puzzle of `tiles` x `tiles` tiles in one of `answers` orders far from one another.

    The sides of its images are multiples of `tiles`. Label 0 is the order of the whole image; of
    all others the farthest from those chosen comes next, by the least number of tiles that differ,
    and `seed` decides among equals. Sides that are none raise ShapeError.

    Raises:
        InvalidInput: `tiles` is neither 2 nor 3 (16 tiles have too many orders to search), or they
            have fewer orders than `answers`.
    """
    if tiles not in (2, 3):
        raise InvalidInput(f"tiles must be 2 or 3 a side; got {tiles}")
    orders = torch.from_numpy(far_orders(tiles**2, answers, seed))

    def change(
        images: Float[Tensor, "n c h w"], labels: Int[Tensor, " n"]
    ) -> Float[Tensor, "n c h w"]:
        height, width = images.shape[2:]
        if height % tiles or width % tiles:
            raise ShapeError(
                f"sides must be multiples of {tiles} tiles; got {(*images.shape,)}; "
                f"crop to {height // tiles * tiles} x {width // tiles * tiles}"
            )
        side = height // tiles, width // tiles
        cut = images.reshape(-1, images.shape[1], tiles, side[0], tiles, side[1])
        cut = cut.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)  # (n, tiles^2, c, y, x)
        places = torch.arange(len(images), device=images.device)[:, None]
        cut = cut[places, carried(orders, images)[labels]]
        cut = cut.view(-1, tiles, tiles, images.shape[1], *side)  # (n, row, column, c, y, x)
        return cut.permute(0, 3, 1, 4, 2, 5).reshape(images.shape)

    return Puzzle(answers=answers, change=change)


def far_orders(items: int, count: int, seed: int) -> NDArray[np.int64]:
    """Give `count` orders of `items` items, (count, items), the identity first, then greedily far.

    Raises InvalidInput when there are fewer orders, or none asked for.
    """
    every = np.array(list(permutations(range(items))), dtype=np.int8)
    if not 1 <= count <= len(every):
        raise InvalidInput(f"answers must be in [1, {len(every)}]; got {count}")
    # Shuffled, so that the first of the farthest is a random one of them.
    every[1:] = np.random.default_rng(seed).permutation(every[1:])
    chosen = [0]
    nearest = np.full(len(every), items)
    while len(chosen) < count:
        nearest = np.minimum(nearest, (every != every[chosen[-1]]).sum(1))
        chosen.append(int(nearest.argmax()))
    return every[chosen].astype(np.int64)
