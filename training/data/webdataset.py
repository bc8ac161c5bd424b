"""WebDataset: images in tar files, read where they lie and never extracted.

A sample is what has one key, the path up to the first dot of its last part: `0001.jpg` with
`0001.cls`, the number of its class (github.com/webdataset/webdataset). Each file is read once,
header by header; an image is read at its place when it is used.
"""

import tarfile
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from attar.errors import InvalidInput

from .folder import SUFFIXES
from .pictures import SKIP, Frame, Picture, decoded, frame_of, left_out, without_bad
from .split import DataSplit

MOST_BYTES: Final = 2**26
"""Of one encoded image: 64 MiB."""
MOST_HEADER_BYTES: Final = 2**20
"""Of what describes a file of a tar, its long name with all."""
MOST_LABEL_BYTES: Final = 32
LABEL: Final = "cls"
BLOCK: Final = tarfile.BLOCKSIZE


@dataclass(frozen=True, slots=True)
class TarIndex:
    """Where each image lies: `size` bytes of a file of `paths`, from `start` on."""

    paths: tuple[Path, ...]
    names: Sequence[str]
    file: NDArray[np.int64]  # of `paths`
    start: NDArray[np.int64]
    size: NDArray[np.int64]

    def pictures(self, rows: Sequence[int]) -> Iterator[Picture]:
        """Read images, one after the other, with each tar opened once."""
        with ExitStack() as stack:
            files: dict[int, IO[bytes]] = {}
            for row in rows:
                number = int(self.file[row])
                if number not in files:
                    files[number] = stack.enter_context(self.paths[number].open("rb"))
                files[number].seek(int(self.start[row]))
                content = files[number].read(int(self.size[row]))
                yield Picture(f"{self.names[row]} of {self.paths[number]}", content, SKIP)

    def some(self, rows: Sequence[int]) -> "TarIndex":
        """Give the index of some images."""
        names = [self.names[row] for row in rows]
        return TarIndex(self.paths, names, self.file[rows], self.start[rows], self.size[rows])


@dataclass(frozen=True, slots=True)
class TarImages:
    """Images in tar files."""

    index: TarIndex
    frame: Frame

    def __len__(self) -> int:
        return len(self.index.names)

    def __getitem__(self, rows: Int[Tensor, "b"], /) -> Float[Tensor, "b c h w"]:
        return decoded(self.index.pictures(rows.tolist()), self.frame)


def tar_images(
    paths: Sequence[Path], *, side: int | None, labelled: bool, skip_bad: bool
) -> DataSplit:
    """Give the images of tar files, in the order of the files and in theirs.

    `side` and `skip_bad` are those of a folder of images. With `labelled`, `KEY.cls` is a class.

    Raises:
        InvalidInput: a tar is damaged or compressed, holds a link or no images, has an image of
            more than MOST_BYTES, several under one key, or classes of some images alone.
    """
    listing = _Listing()
    for number, path in enumerate(paths):
        _read(path, number, listing, labelled=labelled)
    name = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    if not listing.names:
        raise InvalidInput(f"{name} holds no images ({', '.join(SUFFIXES['images'])})")
    index = listing.index(paths)
    notes: tuple[str, ...] = ()
    passed_over = Counter(listing.passed_over)
    classes = listing.classes(paths)
    if skip_bad:
        kept, notes = without_bad(index.pictures(range(len(index.names))), name)
        passed_over.update(left_out(len(index.names) - len(kept)))
        index = index.some(kept)
        classes = None if classes is None else classes[kept]
    frame = frame_of(index.pictures(range(len(index.names))), side)
    passed = dict(sorted(passed_over.items()))
    return DataSplit(name, TarImages(index, frame), classes, passed, (*frame.notes, *notes))


@dataclass(slots=True)
class _Listing:
    """What the headers told so far."""

    names: list[str] = field(default_factory=list)
    keys: dict[tuple[int, str], int] = field(default_factory=dict)  # of an image, its row
    file: "array[int]" = field(default_factory=lambda: array("q"))
    start: "array[int]" = field(default_factory=lambda: array("q"))
    size: "array[int]" = field(default_factory=lambda: array("q"))
    labels: dict[tuple[int, str], int] = field(default_factory=dict)
    passed_over: Counter[str] = field(default_factory=Counter)

    def index(self, paths: Sequence[Path]) -> TarIndex:
        """Say where each image lies."""
        file, start, size = (np.array(part) for part in (self.file, self.start, self.size))
        return TarIndex(tuple(paths), self.names, file, start, size)

    def classes(self, paths: Sequence[Path]) -> NDArray[Any] | None:
        """Give each image's class; None where there is none."""
        if not self.labels:
            return None
        for key, row in self.keys.items():
            if key not in self.labels:
                raise InvalidInput(
                    f"{self.names[row]} of {paths[key[0]]} has no class ({key[1]}.{LABEL}), and "
                    "others have; add it, or read with labels=none"
                )
        return np.array([self.labels[key] for key in self.keys])


class _Headers:
    """A file of which no more is read at once than a header may have."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file = file
        self._path = path
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def read(self, size: int = -1) -> bytes:
        """Read as a file does; raises InvalidInput for more."""
        if not 0 <= size <= MOST_HEADER_BYTES:
            raise InvalidInput(
                f"{self._path} has a header of more than {MOST_HEADER_BYTES:,} bytes at byte "
                f"{self.tell()}; write the tar again"
            )
        return self._file.read(size)


def _read(path: Path, number: int, listing: _Listing, *, labelled: bool) -> None:
    """Read the headers of one tar."""
    with path.open("rb") as file:
        try:
            members = tarfile.TarFile(fileobj=_Headers(file, path))  # type: ignore[arg-type]
            before = -1
            while (member := members.next()) is not None:
                members.members.clear()  # type: ignore[attr-defined]  # it keeps all otherwise
                if member.size < 0 or members.offset <= before:  # or it never ends
                    raise tarfile.ReadError("a file of less than nothing")
                before = members.offset
                _add(path, number, member, file, listing, labelled=labelled)
        except (tarfile.TarError, OSError, ValueError, OverflowError, RecursionError) as error:
            raise InvalidInput(
                f"{path} cannot be read as a tar ({error}); write it again, without compression"
            ) from error
        _refuse_rest(path, file, members.offset)


def _refuse_rest(path: Path, file: IO[bytes], end: int) -> None:
    """Refuse a tar that goes on where its headers end: a damaged one hides all that follow."""
    file.seek(end)
    if file.read(BLOCK).strip(b"\0"):
        raise InvalidInput(f"{path} is damaged at byte {end}; write it again")


def _add(
    path: Path,
    number: int,
    member: tarfile.TarInfo,
    file: IO[bytes],
    listing: _Listing,
    *,
    labelled: bool,
) -> None:
    """Take up one file of a tar."""
    if member.isdir():
        return
    if not member.isreg() or member.issparse():
        raise InvalidInput(
            f"{_shown(member)} of {path} is a link or no plain file; write the tar with the files "
            "themselves"
        )
    folder, _, last = member.name.rpartition("/")
    stem, _, extension = last.partition(".")
    key = number, f"{folder}/{stem}" if folder else stem
    suffix = f".{extension.rpartition('.')[2].lower()}"
    if not stem:
        listing.passed_over["hidden"] += 1
    elif suffix in SUFFIXES["images"]:
        _add_image(path, member, key, listing)
    elif extension.lower() == LABEL and labelled:
        listing.labels[key] = _class(path, member, file)
    else:
        listing.passed_over[f"named *{suffix}" if extension else "without a suffix"] += 1


def _add_image(
    path: Path, member: tarfile.TarInfo, key: tuple[int, str], listing: _Listing
) -> None:
    if not 0 < member.size <= MOST_BYTES:
        raise InvalidInput(
            f"{_shown(member)} of {path} has {member.size:,} bytes, and an image 1 to "
            f"{MOST_BYTES:,}; leave it out"
        )
    if key in listing.keys:
        other = listing.names[listing.keys[key]]
        raise InvalidInput(
            f"{path} has {other} and {_shown(member)}, two images of one sample; leave one of them "
            "out, or give each a name of its own before its first dot"
        )
    listing.keys[key] = len(listing.names)
    listing.names.append(_shown(member))
    listing.file.append(key[0])
    listing.start.append(member.offset_data)
    listing.size.append(member.size)


def _shown(member: tarfile.TarInfo) -> str:
    """Give a name as text; what in it is no UTF-8 is escaped."""
    return member.name.encode("utf-8", "backslashreplace").decode()


def _class(path: Path, member: tarfile.TarInfo, file: IO[bytes]) -> int:
    """Read the number of a class."""
    back = file.tell()
    file.seek(member.offset_data)
    text = file.read(min(member.size, MOST_LABEL_BYTES))
    file.seek(back)
    if member.size > MOST_LABEL_BYTES or not text.strip().isdigit():
        raise InvalidInput(
            f"{_shown(member)} of {path} is {text!r}; it must be the number of a class"
        )
    return int(text)
