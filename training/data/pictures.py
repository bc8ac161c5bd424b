"""Pictures: encoded images become tensors of one shape when they are asked for."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from attar.errors import InvalidInput, ShapeError

SUFFIXES = frozenset(
    (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
GREY, DEEP = ("1", "L", "LA"), ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")  # Pillow's modes


@dataclass(frozen=True, slots=True)
class Picture:
    """An encoded image: its file, or the bytes of one, and what an error calls it."""

    name: str
    content: Path | bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The one shape of a set's images: 1 or 3 channels, and pixels that others are fitted to.

    Without `fit`, an image of another size is refused.
    """

    channels: int
    height: int
    width: int
    fit: bool


def frame_of(first: Picture, side: int | None) -> Frame:
    """Frame a set as its first image is: grey or colour, its own size or squares of `side`."""
    if side is not None and side < 1:
        raise InvalidInput(f"side must be at least 1 pixel; got {side}")
    image = _opened(first)
    return Frame(
        channels=1 if image.mode in GREY else 3,
        height=side or image.height,
        width=side or image.width,
        fit=side is not None,
    )


def decoded(pictures: Iterable[Picture], frame: Frame) -> Float[Tensor, "b c h w"]:
    """Decode, turn upright as EXIF says, fit and scale to [0, 1].

    To fit is to resize so that the shorter side fills the frame (bicubic) and to keep the centre.
    Raises InvalidInput, and ShapeError for a size that is not the frame's and may not be fitted.
    """
    return torch.stack([_tensor(picture, frame) for picture in pictures])


def _tensor(picture: Picture, frame: Frame) -> Float[Tensor, "c h w"]:
    image = _opened(picture).convert("L" if frame.channels == 1 else "RGB")
    size = frame.width, frame.height
    if image.size != size:
        if not frame.fit:
            raise ShapeError(
                f"{picture.name} is {image.height} x {image.width} pixels and the first image "
                f"{frame.height} x {frame.width}; pass side to fit all to one size"
            )
        image = ImageOps.fit(image, size, Image.Resampling.BICUBIC)
    pixels = np.asarray(image).reshape(frame.height, frame.width, frame.channels)
    return torch.tensor(pixels).permute(2, 0, 1).float() / 255


def _opened(picture: Picture) -> Image.Image:
    """Decode an image, upright."""
    content = picture.content
    try:
        with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as image:
            upright = ImageOps.exif_transpose(image)
            upright.load()
    # Pillow's decoders tell of damage by any of these.
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InvalidInput(
            f"{picture.name} cannot be decoded as an image ({error}); mend it or take it away"
        ) from error
    if upright.mode in DEEP:
        raise InvalidInput(
            f"{picture.name} has {upright.mode} pixels; convert it to 8 bits a channel"
        )
    return upright


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """Images in files of their own."""

    paths: tuple[Path, ...]
    frame: Frame

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: Int[Tensor, "b"], /) -> Float[Tensor, "b c h w"]:
        paths = [self.paths[row] for row in rows.tolist()]
        return decoded((Picture(str(path), path) for path in paths), self.frame)


@dataclass(frozen=True, slots=True)
class PackedImages:
    """Encoded images back to back in one uint8 array: row i is offset[i] to offset[i + 1]."""

    name: str
    content: NDArray[np.uint8]
    offset: NDArray[np.int64]
    frame: Frame

    def __len__(self) -> int:
        return len(self.offset) - 1

    def __getitem__(self, rows: Int[Tensor, "b"], /) -> Float[Tensor, "b c h w"]:
        pictures = (packed(self.name, self.content, self.offset, row) for row in rows.tolist())
        return decoded(pictures, self.frame)


def packed(name: str, content: NDArray[np.uint8], offset: NDArray[np.int64], row: int) -> Picture:
    """Give one image of `PackedImages`."""
    return Picture(
        f"image {row} of {name}", content[int(offset[row]) : int(offset[row + 1])].tobytes()
    )


def packed_images(
    name: str, content: NDArray[Any], offset: NDArray[Any], *, side: int | None
) -> PackedImages:
    """Check the two arrays of `PackedImages` and frame them as the first image is.

    Raises ShapeError when they are not bytes and offsets that rise from 0 to the last of them.
    """
    if content.ndim != 1 or content.dtype != np.uint8:
        raise ShapeError(
            f"packed images in {name} must be uint8 (bytes,); got {content.dtype} {content.shape}"
        )
    whole = offset.ndim == 1 and offset.dtype.kind in "iu" and len(offset) > 1
    at = offset.astype(np.int64) if whole else np.zeros(1, np.int64)
    if not whole or at[0] != 0 or at[-1] != len(content) or (np.diff(at) <= 0).any():
        raise ShapeError(
            f"offset in {name} must rise from 0 to {len(content)}, the number of bytes, in whole "
            f"numbers; got {offset.dtype} {offset.shape}"
        )
    return PackedImages(name, content, at, frame_of(packed(name, content, at, 0), side))


def image_folder(
    folder: Path, *, side: int | None = None
) -> tuple[ImageFiles, NDArray[np.str_] | None]:
    """Give the images of `folder/class/...` and each one's class, or those of a flat folder.

    Channels and, without `side`, the size are the first image's. Raises InvalidInput when there are
    no images, or some lie in a folder of a class and some beside it.
    """
    paths, classes = files_and_classes(folder, SUFFIXES, "images")
    first = Picture(str(paths[0]), paths[0])
    return ImageFiles(paths, frame_of(first, side)), classes


def files_and_classes(
    folder: Path, suffixes: frozenset[str], what: str
) -> tuple[tuple[Path, ...], NDArray[np.str_] | None]:
    """List the files with one of the suffixes, sorted by path, and the folder of each one's class.

    The class is the name of the first folder below `folder`; hidden files and folders are passed
    over. In a flat folder there are no classes.
    """
    found: Sequence[Path] = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes
        and path.is_file()
        and not any(name.startswith(".") for name in path.relative_to(folder).parts)
    )
    if not found:
        raise InvalidInput(
            f"{folder} has no {what} ({', '.join(sorted(suffixes))}), neither flat nor in a folder "
            "for each class"
        )
    below = [path.relative_to(folder).parts for path in found]
    flat = [len(parts) == 1 for parts in below]
    if all(flat):
        return tuple(found), None
    if any(flat):
        stray = found[flat.index(True)]
        raise InvalidInput(
            f"{folder} has folders of classes, and {stray.name} lies in none; move it into one, or "
            "all into one flat folder"
        )
    return tuple(found), np.array([parts[0] for parts in below])
