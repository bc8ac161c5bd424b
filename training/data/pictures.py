"""Encoded images as tensors of one shape, decoded when they are used."""

import io
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from attar.errors import InvalidInput, ShapeError

from .arrays import LARGEST
from .folder import Files, files_of
from .split import DataSplit

GREY, DEEP = ("1", "L", "LA"), ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")  # Pillow's modes
MOST_NAMED: Final = 100  # skipped files that a summary names
SIDEWAYS = (5, 6, 7, 8)  # EXIF's orientations that swap width and height
SKIP: Final = "repair it or remove it, or leave out all such by skip_bad=true"
FORMATS = (
    *("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "QOI", "TGA"),
    *("TIFF", "WEBP"),
)  # none of which starts another program, as EPS does


@dataclass(frozen=True, slots=True)
class Picture:
    """An encoded image: its file, or the bytes of one, and what an error calls it.

    `fix` is what the error says to do where it cannot be decoded.
    """

    name: str
    content: Path | bytes
    fix: str = "repair it, or remove it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The one shape of a set's images: 1 or 3 channels, and pixels that others are fitted to.

    Without `fit`, an image of another size is refused.
    """

    channels: int
    height: int
    width: int
    fit: bool
    mixed: bool = False  # whether the first is grey where others have colour

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed of the set's images."""
        return (MIXED,) if self.mixed else ()


MIXED = "the first image is grey and others have colour: all are read as RGB"


def frame_of(pictures: Iterable[Picture], side: int | None) -> Frame:
    """Frame a set: its first image's size or squares of `side`, in colour where one image is.

    Without `side` the headers of all images are read; with it, after a grey image, those of the
    next until one has colour. Raises InvalidInput for one that is met and cannot be decoded, and
    ShapeError, without `side`, for the first of another size.
    """
    if side is not None and not 1 <= side <= LARGEST:
        raise InvalidInput(f"side must be from 1 to {LARGEST} pixels; got {side}")
    others = iter(pictures)
    image = _opened(next(others))
    colour = image.mode not in GREY
    for picture in others:
        if colour and side is not None:
            break
        mode, size = _header(picture)
        colour = colour or mode not in GREY
        if side is None and size != image.size:
            # A header need not say how an image is turned: refuse by its decoded size alone.
            _check_size(picture, _opened(picture).size, image.size)
    return Frame(
        channels=3 if colour else 1,
        height=side or image.height,
        width=side or image.width,
        fit=side is not None,
        mixed=colour and image.mode in GREY,
    )


def decoded(pictures: Iterable[Picture], frame: Frame) -> Float[Tensor, "b c h w"]:
    """Decode, turn upright as EXIF says, fit and scale to [0, 1].

    To fit is to resize so that the shorter side fills the frame (bicubic) and to keep the centre.
    Raises InvalidInput, and ShapeError for a size that is not the frame's and may not be fitted.
    """
    return torch.stack([_tensor(picture, frame) for picture in pictures])


def _tensor(picture: Picture, frame: Frame) -> Float[Tensor, "c h w"]:
    image = _converted(picture, "L" if frame.channels == 1 else "RGB")
    size = frame.width, frame.height
    if image.size != size:
        if not frame.fit:
            _check_size(picture, image.size, size)
        image = ImageOps.fit(image, size, Image.Resampling.BICUBIC)
    pixels = np.asarray(image).reshape(frame.height, frame.width, frame.channels)
    return torch.tensor(pixels).permute(2, 0, 1).float() / 255


def _check_size(picture: Picture, size: tuple[int, int], first: tuple[int, int]) -> None:
    """Refuse an image of another size (width, height) than the first one's."""
    if size != first:
        raise ShapeError(
            f"{picture.name} is {size[1]} x {size[0]} pixels and the first image {first[1]} x "
            f"{first[0]}; pass side=N to fit all to N x N pixels"
        )


def _converted(picture: Picture, mode: str) -> Image.Image:
    """Decode an image, upright, and give it grey or in RGB, without its transparency."""
    image = _opened(picture)
    if mode == "L" and image.mode not in GREY:
        raise InvalidInput(f"{picture.name} has colour, and the set was found to be grey")
    with _decoding(picture):
        if image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")  # of which Pillow warns otherwise
        return image.convert(mode)


def _header(picture: Picture) -> tuple[str, tuple[int, int]]:
    """Read an image's mode and its upright size (width, height) from its header."""
    with _decoding(picture), _file(picture) as image:
        if image.format == "TIFF":  # whose size is that of the upright image already
            return image.mode, image.size
        # Not PNG's own getexif: it decodes the image to look for EXIF after the pixels.
        turned = Image.Image.getexif(image).get(ExifTags.Base.Orientation) in SIDEWAYS
        return image.mode, image.size[::-1] if turned else image.size


def _opened(picture: Picture) -> Image.Image:
    """Decode an image, upright; of an animation or a stack of pages, the first."""
    with _decoding(picture), _file(picture) as image:
        upright = ImageOps.exif_transpose(image)
        upright.load()
    if upright.mode in DEEP:
        raise InvalidInput(
            f"{picture.name} has {upright.mode} pixels; convert it to 8 bits a channel"
        )
    return upright


@contextmanager
def _file(picture: Picture) -> Iterator[Image.Image]:
    """Open an image of a format that is read.

    Not by its path: Pillow maps an uncompressed TIFF then, and garbles one that EXIF turns.
    """
    Image.init()  # or Pillow knows the commonest formats alone
    formats = [name for name in FORMATS if name in Image.OPEN]
    content = picture.content
    with (
        io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file,
        Image.open(file, formats=formats) as image,
    ):
        yield image


@contextmanager
def _decoding(picture: Picture) -> Iterator[None]:
    """Name the image that cannot be decoded; Pillow's decoders tell of damage by any of these."""
    try:
        yield
    except (*DAMAGE, Image.DecompressionBombError) as error:
        raise InvalidInput(
            f"{picture.name} cannot be decoded as an image ({_why(error)}); {picture.fix}"
        ) from error


def _why(error: Exception) -> str:
    """Give what Pillow says of damage; of a file in no format it gives the file's Python object."""
    is_unknown = isinstance(error, UnidentifiedImageError)
    return "it is in no format that is read" if is_unknown else str(error)


DAMAGE = (
    *(OSError, EOFError, ValueError, SyntaxError, TypeError, LookupError),
    *(ArithmeticError, AttributeError, MemoryError, RuntimeError, struct.error, zlib.error),
)


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """Images in files of their own."""

    paths: tuple[Path, ...]
    frame: Frame

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: Int[Tensor, "b"], /) -> Float[Tensor, "b c h w"]:
        paths = [self.paths[row] for row in rows.tolist()]
        return decoded(_pictures(paths), self.frame)


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
    is_integer = offset.ndim == 1 and offset.dtype.kind in "iu" and len(offset) > 1
    at = offset.astype(np.int64) if is_integer else np.zeros(1, np.int64)
    if not is_integer or at[0] != 0 or at[-1] != len(content) or (np.diff(at) <= 0).any():
        raise ShapeError(
            f"offset in {name} must rise from 0 to {len(content)}, the number of bytes, in whole "
            f"numbers; got {offset.dtype} {offset.shape}"
        )
    pictures = (packed(name, content, at, row) for row in range(len(at) - 1))
    return PackedImages(name, content, at, frame_of(pictures, side))


def image_folder(folder: Path, *, side: int | None = None) -> DataSplit:
    """Give the images of `folder/class/...` and each one's class, or those of a flat folder.

    Channels are three where one image has colour; without `side`, the size is the first image's.
    Raises InvalidInput when there are no images or other data too (see `folder.files_of`), or some
    lie in a folder of a class and some in none.
    """
    return image_files(files_of(folder, kind="images")[1], side=side)


def image_files(files: Files, *, side: int | None, skip_bad: bool = False) -> DataSplit:
    """Give images that `files_of` listed.

    With `skip_bad` each is decoded once, and one that cannot be read is left out, counted and
    named. Raises InvalidInput where none is left.
    """
    notes: tuple[str, ...] = ()
    if skip_bad:
        kept, notes = without_bad(_pictures(files.paths), str(files.folder))
        files = replace(
            files,
            paths=tuple(files.paths[i] for i in kept),
            passed_over={**files.passed_over, **left_out(len(files.paths) - len(kept))},
        )
    classes = files.classes()
    frame = frame_of(_pictures(files.paths), side)
    return DataSplit(
        str(files.folder),
        ImageFiles(files.paths, frame),
        classes,
        files.passed_over,
        (*frame.notes, *notes),
    )


def without_bad(pictures: Iterable[Picture], name: str) -> tuple[list[int], tuple[str, ...]]:
    """Decode images, give the numbers of those that can be, and what is wrong with the others.

    Raises InvalidInput where none can be; `name` is what an error calls the set.
    """
    kept, wrong = [], []
    for i, picture in enumerate(pictures):
        try:
            _opened(replace(picture, fix="repair it, or remove it"))
        except InvalidInput as error:
            wrong.append(f"skipped: {error}")
        else:
            kept.append(i)
    if not kept:
        raise InvalidInput(f"{name} has no image that can be decoded; {wrong[0]}")
    if len(wrong) > MOST_NAMED:
        wrong[MOST_NAMED:] = [f"skipped: {len(wrong) - MOST_NAMED:,} more"]
    return kept, tuple(wrong)


def left_out(count: int) -> dict[str, int]:
    """Give how many images `without_bad` left out, as a summary counts what is passed over."""
    return {"images that cannot be decoded": count} if count else {}


def _pictures(paths: Iterable[Path]) -> Iterator[Picture]:
    return (Picture(str(path), path, SKIP) for path in paths)
