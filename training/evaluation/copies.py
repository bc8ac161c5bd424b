"""Copies: images transformed as copies on the web are, which are to find their originals.

The kinds of Copydays (Douze et al., CIVR 2009), by which Goyal et al. 2022 (arXiv:2202.08360,
section 6) judge copy detection: crops, JPEG, and stronger changes; made here with Pillow.
"""

import io
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps

AREA, QUALITY, DEGREES = 0.5, 20, 10  # kept by a crop; of JPEG; of a rotation


def _crop(image: Image.Image) -> Image.Image:
    width, height = image.size
    kept = max(1, round(width * AREA**0.5)), max(1, round(height * AREA**0.5))
    left, top = (width - kept[0]) // 2, (height - kept[1]) // 2
    box = (left, top, left + kept[0], top + kept[1])
    return image.resize(image.size, Image.Resampling.BICUBIC, box=box)


def _jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return Image.open(file)


def _rotate(image: Image.Image) -> Image.Image:
    return image.rotate(DEGREES, Image.Resampling.BICUBIC)


def _grey(image: Image.Image) -> Image.Image:
    return ImageOps.grayscale(image).convert(image.mode)


def _blur(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(max(image.size) / 64))


def _strong(image: Image.Image) -> Image.Image:
    return _jpeg(_blur(ImageOps.mirror(_crop(image))))


COPIES: Final[Mapping[str, Callable[[Image.Image], Image.Image]]] = {
    "crop": _crop,
    "jpeg": _jpeg,
    "mirror": ImageOps.mirror,
    "rotation": _rotate,
    "grey": _grey,
    "blur": _blur,
    "strong": _strong,  # a mirrored, blurred crop as JPEG
}
"""Each kind of copy by its name."""


def copied(images: NDArray[np.float32], kind: str) -> NDArray[np.float32]:
    """Make a copy of each of (n, c, h, w) images in [0, 1], c being 1 or 3."""
    copy = COPIES[kind]
    levels = (images * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)
    made = [
        np.asarray(copy(Image.fromarray(row[..., 0] if row.shape[2] == 1 else row)))
        for row in levels
    ]
    pixels: NDArray[np.float32] = np.stack(made).astype(np.float32) / np.float32(255)
    return pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)
