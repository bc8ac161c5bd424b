"""Corruptions of images at five severities: those of ImageNet-C that numpy, scipy and Pillow make.

Hendrycks and Dietterich, ICLR 2019, arXiv:1903.12261, section 4.1; the numbers are those of the
authors' code (github.com/hendrycks/robustness): of ImageNet-C, and for images of less than
`SMALL` pixels of CIFAR-10-C. Left out are those that need other pictures or libraries (frost, snow,
fog, spatter, motion, glass, zoom, elastic). Blur is the "extra" Gaussian one instead of defocus.
"""

import io
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from attar.errors import InvalidInput

Pixels: TypeAlias = NDArray[np.float64]  # (h, w, c) in [0, 1]
Corruption: TypeAlias = Callable[[Pixels, float, np.random.Generator], Pixels]

SMALL: Final = 64  # pixels of a side
SEVERITIES: Final = (1, 2, 3, 4, 5)


def _gaussian_noise(image: Pixels, deviation: float, draw: np.random.Generator) -> Pixels:
    noisy: Pixels = image + draw.normal(0, deviation, image.shape)
    return noisy


def _shot_noise(image: Pixels, photons: float, draw: np.random.Generator) -> Pixels:
    counted: Pixels = draw.poisson(image * photons) / photons
    return counted


def _impulse_noise(image: Pixels, share: float, draw: np.random.Generator) -> Pixels:
    hit, white = draw.random(image.shape) < share, draw.random(image.shape) < 0.5
    changed: Pixels = np.where(hit, white.astype(np.float64), image)
    return changed


def _gaussian_blur(image: Pixels, deviation: float, _: np.random.Generator) -> Pixels:
    blurred: Pixels = gaussian_filter(image, (deviation, deviation, 0), mode="nearest")
    return blurred


def _brightness(image: Pixels, change: float, _: np.random.Generator) -> Pixels:
    """Raise the value of hue, saturation and value: all channels grow by one factor."""
    value = image.max(axis=2, keepdims=True)
    raised = np.clip(value + change, 0, 1)
    brighter: Pixels = np.where(value > 0, image * raised / np.maximum(value, 1e-12), raised)
    return brighter


def _contrast(image: Pixels, share: float, _: np.random.Generator) -> Pixels:
    mean = image.mean(axis=(0, 1), keepdims=True)
    flatter: Pixels = (image - mean) * share + mean
    return flatter


def _pixelate(image: Pixels, share: float, _: np.random.Generator) -> Pixels:
    height, width = image.shape[:2]
    small = max(1, int(width * share)), max(1, int(height * share))
    picture = _picture(image).resize(small, Image.Resampling.BOX)
    return _pixels(picture.resize((width, height), Image.Resampling.BOX))


def _jpeg(image: Pixels, quality: float, _: np.random.Generator) -> Pixels:
    file = io.BytesIO()
    _picture(image).save(file, "JPEG", quality=int(quality))
    return _pixels(Image.open(file))


CORRUPTIONS: Final[Mapping[str, tuple[Corruption, tuple[float, ...], tuple[float, ...]]]] = {
    "gaussian_noise": (
        _gaussian_noise,
        (0.08, 0.12, 0.18, 0.26, 0.38),
        (0.04, 0.06, 0.08, 0.09, 0.10),
    ),
    "shot_noise": (_shot_noise, (60, 25, 12, 5, 3), (500, 250, 100, 75, 50)),
    "impulse_noise": (
        _impulse_noise,
        (0.03, 0.06, 0.09, 0.17, 0.27),
        (0.01, 0.02, 0.03, 0.05, 0.07),
    ),
    "gaussian_blur": (_gaussian_blur, (1, 2, 3, 4, 6), (0.4, 0.6, 0.7, 0.8, 1.0)),
    "brightness": (_brightness, (0.1, 0.2, 0.3, 0.4, 0.5), (0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": (_contrast, (0.4, 0.3, 0.2, 0.1, 0.05), (0.75, 0.5, 0.4, 0.3, 0.15)),
    "pixelate": (_pixelate, (0.6, 0.5, 0.4, 0.3, 0.25), (0.95, 0.9, 0.85, 0.75, 0.65)),
    "jpeg_compression": (_jpeg, (25, 18, 15, 10, 7), (80, 65, 58, 50, 40)),
}
"""By the paper's names: the function, and its strengths on large and on small images."""


def corrupted(
    images: NDArray[np.float32], name: str, severity: int, *, seed: int = 0
) -> NDArray[np.float32]:
    """Corrupt (n, c, h, w) images in [0, 1], c being 1 or 3, by one of `CORRUPTIONS`.

    `severity` is from 1 to 5. Random numbers depend on the seed, the name and the severity alone.
    Raises InvalidInput for a name or a severity that there is not.
    """
    if name not in CORRUPTIONS or severity not in SEVERITIES:
        raise InvalidInput(
            f"a corruption is one of {', '.join(CORRUPTIONS)} at severity 1 to 5; got {name!r} at "
            f"{severity}"
        )
    function, large, small = CORRUPTIONS[name]
    strength = (small if min(images.shape[2:]) < SMALL else large)[severity - 1]
    draw = np.random.default_rng((seed, [*CORRUPTIONS].index(name), severity))
    changed = [
        np.clip(function(image.transpose(1, 2, 0).astype(np.float64), strength, draw), 0, 1)
        for image in images
    ]
    return np.stack(changed).transpose(0, 3, 1, 2).astype(np.float32)


def _picture(image: Pixels) -> Image.Image:
    levels = (image * 255).round().astype(np.uint8)
    return Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels)


def _pixels(picture: Image.Image) -> Pixels:
    levels = np.asarray(picture, np.float64) / 255
    return levels[..., None] if levels.ndim == 2 else levels
