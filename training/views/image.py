"""Image views: crops, affine maps, colour changes, blur, erasing and noise."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float
from kornia.augmentation import (
    AugmentationBase2D,
    ColorJitter,
    RandomAffine,
    RandomErasing,
    RandomGaussianBlur,
    RandomGaussianNoise,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomSolarize,
)
from torch import Tensor
from torch.nn import functional as F

from attar.errors import InvalidInput, ShapeError

from ._draws import carried, lent
from .view import View

ImageView = Callable[[Tensor, torch.Generator], View[Tensor]]
ViewName: TypeAlias = Literal["affine", "natural", "crop"]
COLOUR = ("brightness", "contrast", "saturation", "hue")  # kornia's words, in our order


def distortion(
    *,
    degrees: float = 15.0,
    translate: float = 0.1,
    scale: tuple[float, float] = (0.85, 1.15),
    shear: float = 10.0,
    erase: float = 0.3,
    noise: float = 0.1,
) -> ImageView:
    """Give a function from (n, 1, h, w) float images in [0, 1] and a generator to a view of them.

    Each image is rotated by up to `degrees`, moved by up to a share `translate` of its side,
    scaled and sheared (degrees), with probability `erase` loses a box of 5 to 20 % of its area,
    and gets Gaussian noise of deviation `noise`. No flips: a mirrored digit is not that digit.
    `params["affine"]` (n, 3, 3) are the pixel transforms, `params["erased"]` (n,) bool.
    Deterministic given the generator, which lives on the CPU; the caller's random state is kept.
    """
    move = RandomAffine(degrees, (translate, translate), scale, shear, p=1.0)
    rub = RandomErasing(scale=(0.05, 0.2), p=erase)
    spoil = RandomGaussianNoise(std=noise, p=1.0)

    def view(images: Tensor, generator: torch.Generator) -> View[Tensor]:
        with lent(generator):
            boxes = rub.forward_parameters(images.shape)
            data = spoil(rub(move(images), params=boxes))
        return View(data, {"affine": move.transform_matrix, "erased": boxes["batch_prob"] > 0.5})

    return view


def _cropped(
    images: Float[Tensor, "n c h w"], boxes: Float[Tensor, "n 4"], side: int
) -> Float[Tensor, "n c side side"]:
    """Stretch each image's box, first to last pixel, over `side` x `side` pixels.

    kornia would solve equations for the same map, which takes longer, and which a GPU waits for.
    """
    height, width = images.shape[2:]
    left, top, right, bottom = carried(boxes.to(images.dtype), images)[:, :, None].unbind(1)
    along = torch.linspace(0, 1, side, dtype=images.dtype, device=images.device)
    x = (2 * (left + (right - left) * along) + 1) / width - 1  # (n, side), in [-1, 1]
    y = (2 * (top + (bottom - top) * along) + 1) / height - 1
    grid = torch.stack(
        [x[:, None].expand(-1, side, -1), y[:, :, None].expand(-1, -1, side)], -1
    )  # (n, side, side, 2)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def natural(
    side: int,
    *,
    area: tuple[float, float] = (0.08, 1.0),
    flip: float = 0.5,
    jitter: float = 0.8,
    colour: tuple[float, float, float, float] = (0.4, 0.4, 0.2, 0.1),
    grey: float = 0.2,
    blur: float = 0.5,
    solarise: float = 0.0,
) -> ImageView:
    """Give a function from (n, 3, h, w) float images in [0, 1] and a generator to a view of them.

    Each image is cropped to a share of its `area`, at a ratio of 3/4 to 4/3, and resized to `side`;
    then, each with its own probability, mirrored (`flip`), recoloured (`jitter`: brightness,
    contrast, saturation and hue by up to `colour`), made `grey`, blurred by a Gaussian of 0.1 to 2
    pixels' deviation over a tenth of the side (`blur`) and solarised, that is, inverted where
    brighter than half (`solarise`). Resizing is bilinear and does not smooth what it shrinks.

    The colours are those of BYOL (Grill et al. 2020, arXiv:2006.07733, appendix B) and Barlow Twins
    (Zbontar et al. 2021, arXiv:2103.03230, section 2.2), whose two views differ: blur 1.0 and
    solarise 0.0, blur 0.1 and solarise 0.2. SimCLR (Chen et al. 2020, arXiv:2002.05709, appendix A)
    takes colour (0.8, 0.8, 0.8, 0.2), and on CIFAR half of that and no blur. Unlike there, the four
    colour changes come in one random order for the whole batch (kornia's way).

    `params`: "crop" (n, 4) float, left, top, right and bottom pixel of the crop, all inside it;
    "flipped", "jittered", "grey", "blurred" and "solarised" (n,) bool; "colour" (n, 4), the factors
    of brightness, contrast and saturation and the turn of hue, 1, 1, 1 and 0 where not jittered.
    All are drawn on the CPU, so that a GPU computes without being waited for. Deterministic given
    the generator, which lives on the CPU; the caller's random state is kept.

    Raises:
        InvalidInput: a probability is not in [0, 1], or the turn of hue not in [0, 0.5].
        ShapeError: the images are not (n, 3, h, w); with neither `jitter` nor `grey` they may have
            any number of channels.
    """
    if not 0 <= colour[3] <= 0.5:
        raise InvalidInput(f"the turn of hue must be in [0, 0.5]; got {colour[3]}")
    changes = {
        "flipped": (flip, RandomHorizontalFlip(p=1.0)),
        "jittered": (jitter, ColorJitter(*colour, p=1.0)),
        "grey": (grey, RandomGrayscale(p=1.0)),
        "blurred": (blur, RandomGaussianBlur(max(side // 20 * 2 + 1, 3), (0.1, 2.0), p=1.0)),
        "solarised": (solarise, RandomSolarize((0.5, 0.5), (0.0, 0.0), p=1.0)),
    }
    for name, (probability, _) in changes.items():
        if not 0 <= probability <= 1:
            raise InvalidInput(f"the share of {name} images must be in [0, 1]; got {probability}")
    channels = 3 if jitter or grey else None
    return _CropAndChanges(side, RandomResizedCrop((side, side), area), changes, channels)


@dataclass(frozen=True, slots=True)
class _CropAndChanges:
    """The view of `natural`: a crop, then each change for a share of the images."""

    side: int
    crop: RandomResizedCrop
    changes: Mapping[str, tuple[float, AugmentationBase2D]]
    channels: int | None  # None is any number

    def __call__(self, images: Tensor, generator: torch.Generator) -> View[Tensor]:
        if images.ndim != 4 or images.shape[1] != (self.channels or images.shape[1]):
            raise ShapeError(f"images must be (n, 3, h, w); got {(*images.shape,)}")
        n = len(images)
        factors = torch.tensor([1.0, 1.0, 1.0, 0.0]).repeat(n, 1)
        with lent(generator):
            box = self.crop.forward_parameters(images.shape)
            params = {"crop": box["src"][:, [0, 2]].flatten(1)}
            data = _cropped(images, params["crop"], self.side)
            for name, (probability, step) in self.changes.items():
                params[name] = torch.rand(n) < probability
                # kornia would change every image and then choose: blurring a tenth is ten times
                # less work. The choice is made on the CPU, so its count costs no waiting.
                rows = params[name].nonzero()[:, 0]
                if len(rows) == 0:
                    continue
                there = carried(rows, data)
                draws = step.forward_parameters((len(rows), *data.shape[1:]))
                data = data.index_copy(0, there, step(data[there], params=draws))
                if name == "jittered":
                    factors[rows] = torch.stack([draws[f"{part}_factor"] for part in COLOUR], 1)
        return View(data, {**params, "colour": factors})


def named_view(name: ViewName, side: int, **strengths: Any) -> ImageView:
    """Give the views that a setting names: `affine` for small drawings, `natural` for photographs.

    `crop` gives natural crops of a fifth of the area or more, mirrored or not, and no change of
    colour: MAE's (He et al. 2022, arXiv:2111.06377, table 8). Both have `side` pixels; `natural`
    takes `strengths` as its arguments.
    """
    match name:
        case "natural":
            return natural(side, **strengths)
        case "crop":
            return natural(side, area=(0.2, 1.0), jitter=0, grey=0, blur=0)
        case "affine":
            return distortion(degrees=20, scale=(0.75, 1.25), shear=15)


def cropped(view: ImageView, side: int, *, area: tuple[float, float]) -> ImageView:
    """Give the view of `side` x `side` crops of images: of a share of their `area`, not mirrored.

    `params` are those of `view`, and "crop" as `natural` gives it.
    """
    crop = natural(side, area=area, flip=0, jitter=0, grey=0, blur=0)

    def both(images: Tensor, generator: torch.Generator) -> View[Tensor]:
        part = crop(images, generator)
        changed = view(part.data, generator)
        return View(changed.data, {**changed.params, "crop": part.params["crop"]})

    return both
