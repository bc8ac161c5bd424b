"""Image views: small grey images moved, rubbed out in part and made noisy, by kornia."""

from collections.abc import Callable

import torch
from kornia.augmentation import RandomAffine, RandomErasing, RandomGaussianNoise
from torch import Tensor

from .view import View

ImageView = Callable[[Tensor, torch.Generator], View[Tensor]]


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
        # kornia draws from torch's global generator only, so lend it one seeded from ours.
        seed = int(torch.randint(2**63 - 1, (), generator=generator))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            boxes = rub.forward_parameters(images.shape)
            data = spoil(rub(move(images), params=boxes))
        return View(data, {"affine": move.transform_matrix, "erased": boxes["batch_prob"] > 0.5})

    return view
