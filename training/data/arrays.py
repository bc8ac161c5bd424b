"""Arrays as items: rows of numbers, in memory or mapped from a file."""

import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from attar.errors import InvalidInput, ShapeError

from ..sampler import evenly

Form: TypeAlias = Literal["image", "series", "table"]
SAMPLE = 256  # rows that a set is judged by
LARGEST = 8192  # pixels of a side
COLOURS = (1, 3)  # an axis of so many is an image's channels
LOCAL_HEADER = 30  # bytes before the name in a zip member's own header


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayRows:
    """The rows of one array as float32 items of one form.

    Images (n, h, w) or with channels first or last are uint8, scaled to [0, 1], or floats that are
    there already; with `side` they are cut to their centre square and resized (bicubic). Series are
    (n, channels, samples), or (n, samples) with one channel. Tables are (n, features), as they are.
    """

    name: str
    values: NDArray[Any]
    form: Form
    side: int | None = None

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: Int[Tensor, "b"], /) -> Float[Tensor, "b ..."]:
        return items(self.name, self.values[rows.numpy()], self.form, self.side)

    def note(self) -> str:
        """Describe the values, from a sample of the rows."""
        some = self.values[list(evenly(range(len(self)), SAMPLE))]
        if not some.size:
            return f"{self.name} are no items"
        scaled = self.form == "image" and self.values.dtype == np.uint8
        return (
            f"{self.name} are {self.form} items, {self.values.dtype} from {some.min():.4g} to "
            f"{some.max():.4g}, {'divided by 255' if scaled else 'as they are'}"
        )


def array_rows(
    name: str, values: NDArray[Any], *, form: Form | None = None, side: int | None = None
) -> ArrayRows:
    """Check an array of items; without `form`, its axes and its dtype say what the items are.

    Four axes, or three of uint8, are images; three are series; two are a table.

    Raises ShapeError for an array that has no such form, or whose dtype is not numbers, and
    InvalidInput for one without rows or where some of its rows are no such items.
    """
    if values.dtype.kind not in "iufb" or not 2 <= values.ndim <= 4 or 0 in values.shape[1:]:
        raise ShapeError(
            f"{name} must be numbers with two to four axes, the items' first; "
            f"got {values.dtype} {values.shape}"
        )
    if form not in (None, *get_args(Form)):
        raise InvalidInput(f"form is one of {', '.join(get_args(Form))}; got {form!r}")
    item_form = form or _form(values)
    if values.ndim not in {"image": (3, 4), "series": (2, 3), "table": (2,)}[item_form]:
        raise ShapeError(f"{name} cannot be read as {item_form} items; got {values.shape}")
    if side is not None and (item_form != "image" or not 1 <= side <= LARGEST):
        raise InvalidInput(
            f"side is the pixels of an image, from 1 to {LARGEST}; got {side} for {name}, "
            f"{item_form} items"
        )
    rows = ArrayRows(name=name, values=values, form=item_form, side=side)
    if item_form == "image":
        _check_images(name, values)
    return rows


def _check_images(name: str, values: NDArray[Any]) -> None:
    """Refuse axes and values that are not those of images, from a sample of the rows."""
    height, width = values.shape[1:3] if values.ndim == 3 else (0, 0)
    if width in COLOURS and height > max(COLOURS):
        raise ShapeError(
            f"{name} has shape {values.shape}, which is one image (h, w, {width}); items come "
            f"first: (1, {', '.join(map(str, values.shape))})"
        )
    last = values.ndim == 4 and not {values.shape[1], values.shape[3]} & {*COLOURS}
    if last and values.shape[3] < min(values.shape[1:3]):
        raise ShapeError(
            f"{name} has shape {values.shape}, with {values.shape[3]} channels last; these must be "
            "1 or 3, or stand before height and width"
        )
    some = values[list(evenly(range(len(values)), SAMPLE))]
    if len(some) > 1 and values.dtype == np.uint8 and some.max() == 1:
        raise InvalidInput(
            f"images in {name} are uint8 of 0 and 1, and 255 is white; save them as bool, or "
            "times 255"
        )
    if len(some):
        items(name, some, "image")


def items(
    name: str, values: NDArray[Any], form: Form, side: int | None = None
) -> Float[Tensor, "b ..."]:
    """Give a batch of `ArrayRows`; raises InvalidInput for invalid values."""
    if form != "image":
        with np.errstate(over="ignore"):  # infinite then, and refused
            tensor = torch.from_numpy(np.array(values, np.float32))
        if not tensor.isfinite().all():
            raise InvalidInput(
                f"{name} has numbers that are missing or infinite; fill them in or leave those "
                "rows out"
            )
        return tensor[:, None] if form == "series" and tensor.ndim == 2 else tensor
    images = torch.from_numpy(np.array(values, np.float32))
    if values.dtype == np.uint8:
        images /= 255
    elif not (images.amin() >= 0 and images.amax() <= 1):  # which NaN fails too
        raise InvalidInput(
            f"images in {name} must be uint8, or in [0, 1]; got {values.dtype} from "
            f"{images.amin():.4g} to {images.amax():.4g}: save as uint8, or divide by what is white"
        )
    if images.ndim == 3:
        images = images[:, None]
    elif images.shape[3] in COLOURS and images.shape[1] not in COLOURS:
        images = images.permute(0, 3, 1, 2).contiguous()
    return images if side is None else _square(images, side)


def _form(values: NDArray[Any]) -> Form:
    if values.ndim == 4 or (values.ndim == 3 and values.dtype == np.uint8):
        return "image"
    return "series" if values.ndim == 3 else "table"


def _square(images: Float[Tensor, "b c h w"], side: int) -> Float[Tensor, "b c side side"]:
    height, width = images.shape[2:]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    square = images[:, :, top : top + short, left : left + short]
    if short == side:
        return square
    resized = F.interpolate(square, (side, side), mode="bicubic", antialias=True)
    return resized.clamp(0, 1)  # bicubic overshoots at edges


ENCRYPTED = 1  # a bit of a zip member's flags
DAMAGE = (
    *(OSError, ValueError, EOFError, LookupError, TypeError, SyntaxError, ArithmeticError),
    *(MemoryError, RuntimeError, struct.error, tokenize.TokenError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)
"""The exceptions of numpy and zipfile for a damaged file."""


class Npz(Mapping[str, NDArray[Any]]):
    """The arrays of an .npz file, each read at its first use; pickled objects are refused.

    One that is stored uncompressed (`numpy.savez`) is mapped from the file, so that it may be
    larger than memory; a compressed one is loaded whole.
    """

    def __init__(self, path: Path) -> None:
        """Open the file; raises InvalidInput when it is no .npz."""
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                self._members = {
                    info.filename.removesuffix(".npy"): info
                    for info in archive.infolist()
                    if info.filename.endswith(".npy")
                }
        except DAMAGE as error:
            raise InvalidInput(f"{path} cannot be read as an .npz file: {error}") from error

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __getitem__(self, name: str) -> NDArray[Any]:
        info = self._members[name]
        try:
            if info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & ENCRYPTED:
                return self._mapped(info)
            with np.load(self.path, allow_pickle=False) as arrays:
                loaded: NDArray[Any] = arrays[name]
                return loaded
        except DAMAGE as error:
            raise InvalidInput(
                f"{self.path} cannot give its array {name!r} ({error}); arrays of objects are not "
                "read: save numbers or texts"
            ) from error

    def _mapped(self, info: zipfile.ZipInfo) -> NDArray[Any]:
        with self.path.open("rb") as file:
            file.seek(info.header_offset)
            header = file.read(LOCAL_HEADER)
            lengths = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
            file.seek(sum(lengths), 1)  # over the name and the extra field
            start = file.tell()
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0
            if version != (1, 0):
                read = np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(file)
            if dtype.hasobject:
                raise ValueError("it holds Python objects")
            if 0 in shape:
                return np.zeros(shape, dtype)
            size = math.prod(shape) * dtype.itemsize
            if file.tell() - start + size != info.file_size or min(shape, default=0) < 0:
                raise ValueError(
                    f"{dtype} {shape} takes {size} bytes, and the member has {info.file_size} with "
                    "its header"
                )
            order: Literal["F", "C"] = "F" if fortran else "C"
            return np.memmap(self.path, dtype, "r", file.tell(), shape, order)
