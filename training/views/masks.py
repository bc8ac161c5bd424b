"""Masks: which cells of each item are masked; True is masked.

Except for blocks, every row has the same number of masked cells, so that the others form a batch.
To let the share grow in training, take `rate` from a schedule.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attar.errors import InvalidInput, ShapeError

from ._draws import carried, normal_like
from .view import View


def random_mask(
    n: int, length: int, generator: torch.Generator, *, rate: float
) -> Bool[Tensor, "n length"]:
    """Hide exactly round(rate length) cells of each row, any as likely as any other.

    Deterministic given the generator, which lives on the CPU, as is the mask.
    """
    _share("rate", rate)
    return _some(torch.ones(n, length, dtype=torch.bool), round(rate * length), generator)


def span_mask(
    n: int, length: int, generator: torch.Generator, *, rate: float, span: int
) -> Bool[Tensor, "n length"]:
    """Hide round(rate length / span) spans of `span` cells in each row, none over another.

    Any placement is as likely as any other; spans may touch. Deterministic given the generator,
    which lives on the CPU, as is the mask.

    Raises InvalidInput when a span is longer than a row.
    """
    _share("rate", rate)
    if not 1 <= span <= length:
        raise InvalidInput(f"span must be in [1, length = {length}]; got {span}")
    spans = min(round(rate * length / span), length // span)
    # Spans shrunk to one cell each are a choice of cells; growing them moves later ones along.
    shrunk = length - spans * (span - 1)
    starts = _some(torch.ones(n, shrunk, dtype=torch.bool), spans, generator)
    starts = starts.nonzero()[:, 1].view(n, spans) + torch.arange(spans) * (span - 1)
    cells = (starts[:, :, None] + torch.arange(span)).flatten(1)  # (n, spans span)
    return torch.zeros(n, length, dtype=torch.bool).scatter(1, cells, value=True)


def block_mask(
    n: int,
    size: tuple[int, int],
    generator: torch.Generator,
    *,
    rate: float | Float[Tensor, " n"],
    longest: float = 0.3,
) -> Bool[Tensor, "n h w"]:
    """Hide rectangles of random sides in each row until at least a share `rate` is hidden.

    Sides are 1 cell to a share `longest` of the whole side; the last block may mask more than
    `rate`, by less than its area. `rate` is one for all rows or one each. Deterministic
    given the generator, which lives on the CPU, as is the mask.

    Source: Atito et al. 2021 (SiT), arXiv:2104.03602, section 3.
    """
    rates = torch.as_tensor(rate).expand(n)
    _share("longest", longest)
    for each in rates.tolist():
        _share("rate", each)
    most = torch.tensor([max(1, int(longest * side)) for side in size])
    hidden = torch.zeros(n, *size, dtype=torch.bool)
    wanted = rates * (size[0] * size[1]) - 1e-3  # a whole number of cells is met in float32 too
    while (short := hidden.sum((1, 2)) < wanted).any():
        draws = torch.rand(4, n, generator=generator)
        sides = 1 + (draws[:2] * most[:, None]).long()  # (2, n)
        starts = (draws[2:] * (torch.tensor(size)[:, None] - sides + 1)).long()
        down, across = (
            (torch.arange(length) >= start[:, None])
            & (torch.arange(length) < (start + side)[:, None])
            for length, start, side in zip(size, starts, sides, strict=True)
        )
        hidden |= down[:, :, None] & across[:, None, :] & short[:, None, None]
    return hidden


class FeatureMasks(NamedTuple):
    """What a context encoder sees of each row, and the sets to be predicted from it."""

    context: Tensor  # (n, features) bool, True is seen
    targets: Tensor  # (n, sets, features) bool, True is to be predicted


def feature_masks(
    n: int,
    features: int,
    generator: torch.Generator,
    *,
    context: tuple[float, float] = (0.2, 0.4),
    target: tuple[float, float] = (0.2, 0.4),
    sets: int = 4,
) -> FeatureMasks:
    """Choose a context, and `sets` target sets that share no feature with it, for each row.

    The sizes are shares of the features drawn from `context` and `target`, one of each for the
    batch: a whole number between them where there is one, else the nearest, at least 1; targets
    take at most what the context leaves. Target sets may overlap. Deterministic given the
    generator, which lives on the CPU, as are the masks.

    Source: Thimonier et al. 2024 (T-JEPA), arXiv:2410.05016, whose shares these are.
    """
    if features < 2 or sets < 1:
        raise InvalidInput(
            f"there must be at least 2 features and 1 target set; got {features} and {sets}"
        )
    seen = min(_size(features, "context", context, generator), features - 1)
    wanted = min(_size(features, "target", target, generator), features - seen)
    everything = torch.ones(n, features, dtype=torch.bool)
    chosen = _some(everything, seen, generator)
    left = (~chosen).repeat_interleave(sets, 0)
    return FeatureMasks(chosen, _some(left, wanted, generator).view(n, sets, features))


def corrupt(
    images: Float[Tensor, "n c h w"],
    generator: torch.Generator,
    *,
    cell: int,
    drop: float = 0.5,
    replace: float = 0.3,
    longest: float = 0.3,
) -> View[Tensor]:
    """Hide blocks of each image: first a share `replace` by another's, then `drop` by noise.

    Blocks are `block_mask`s over cells of `cell` x `cell` pixels. The other image is one of the
    batch, in the same place; noise is Gaussian around the image's mean with its deviation, colour
    by colour. The authors' code draws a share above one half between that and the share.

    `params["hidden"]` (n, h, w) bool are the corrupted pixels, of which `params["foreign"]` show
    `params["other"]` (n,) int64. Deterministic given the generator, which lives on the CPU, on one
    kind of device.

    Source: Atito et al. 2021 (SiT), arXiv:2104.03602, section 3: what to rebuild is what is hidden.

    Raises:
        InvalidInput: a share is not in [0, 1].
        ShapeError: the sides are not multiples of the cell's.
    """
    n, _, height, width = images.shape
    if cell < 1 or height % cell or width % cell:
        raise ShapeError(
            f"the sides of images must be multiples of cell = {cell}; got {(*images.shape,)}"
        )
    _share("replace", replace)
    grid = height // cell, width // cell
    foreign = block_mask(n, grid, generator, rate=replace, longest=longest)
    dropped = block_mask(n, grid, generator, rate=drop, longest=longest) & ~foreign
    # A cycle through a random order gives each image another, where there is one.
    order = torch.randperm(n, generator=generator)
    other = carried(torch.empty_like(order).scatter(0, order, order.roll(1)), images)
    foreign, dropped = (
        carried(mask, images).repeat_interleave(cell, 1).repeat_interleave(cell, 2)
        for mask in (foreign, dropped)
    )
    mean = images.mean((2, 3), keepdim=True)
    deviation = images.std((2, 3), keepdim=True, correction=0)
    noise = mean + deviation * normal_like(images, generator)
    data = noise.where(dropped[:, None], images[other].where(foreign[:, None], images))
    return View(data, {"hidden": foreign | dropped, "foreign": foreign, "other": other})


def _some(
    allowed: Bool[Tensor, "n length"], count: int, generator: torch.Generator
) -> Bool[Tensor, "n length"]:
    """Choose `count` allowed cells of each row, of which there must be as many."""
    draws = torch.rand(allowed.shape, generator=generator).where(allowed, 2.0)
    chosen: Int[Tensor, "n count"] = draws.argsort(1)[:, :count]
    return torch.zeros_like(allowed).scatter(1, chosen, value=True)


def _size(features: int, name: str, shares: tuple[float, float], generator: torch.Generator) -> int:
    """Draw a number of features between two shares of them."""
    low, high = shares
    if not 0 <= low <= high <= 1:
        raise InvalidInput(f"{name} must be 0 <= low <= high <= 1; got {shares}")
    least, most = math.ceil(low * features - 1e-9), math.floor(high * features + 1e-9)
    if least > most:  # no whole number lies between them
        least = most = round((low + high) / 2 * features)
    return max(1, int(torch.randint(least, most + 1, (), generator=generator)))


def _share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise InvalidInput(f"{name} must be in [0, 1]; got {value}")
