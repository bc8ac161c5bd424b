"""Data as people have it: what a file or folder holds, and what is read of it, or why it is not.

The one list; tests/hostile/test_data.py holds `attar.training.reading.read`, `read_corpus` and
`read_documents` to it.
"""

import gzip
import io
import json
import math
import os
import struct
import wave
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import Image
from pyarrow import parquet

Make = Callable[[Path], object]
"""Lays data in a folder, and gives what `--data` names where that is not the folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """What is read: how many items of what shape, how many of each class, and what is left."""

    train: int
    test: int = 0
    shape: tuple[int, ...] | None = None
    classes: Mapping[str, int] = field(default_factory=dict)
    passed_over: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # words of what was assumed
    first: tuple[float, ...] = ()  # numbers that the first item begins with
    first_test: tuple[float, ...] = ()  # the same of the test part


@dataclass(frozen=True, slots=True)
class Case:
    """One file or folder, and what is read of it or text of the refusal."""

    what: str
    make: Make
    outcome: Reads | tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.what


# Images


def image(path: Path, colour: Any = (200, 30, 30), mode: str = "RGB", **options: Any) -> None:
    """Save a 4 x 4 image in the format that its suffix names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (4, 4), colour).save(path, **options)


def images(*names: str, count: int = 2) -> Make:
    """Lay images in folders, or flat for an empty name."""

    def make(folder: Path) -> None:
        for name in names:
            for row in range(count):
                image(folder / name / f"{row}.png")

    return make


def each(*makes: Make) -> Make:
    """Lay several things, and give what the last names."""

    def make(folder: Path) -> object:
        return [make(folder) for make in makes][-1]

    return make


def put(name: str, content: bytes | str = b"") -> Make:
    """Lay one file."""

    def make(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return make


def renamed(name: str, to: str) -> Make:
    def make(folder: Path) -> None:
        (folder / name).rename(folder / to)

    return make


def link(name: str, to: str) -> Make:
    def make(folder: Path) -> None:
        (folder / name).symlink_to(folder / to)

    return make


def one(name: str, *arguments: Any, **options: Any) -> Make:
    return lambda folder: image(folder / name, *arguments, **options)


def sized(name: str, width: int, height: int, mode: str = "RGB") -> Make:
    return lambda folder: Image.new(mode, (width, height)).save(folder / name)


def turned(name: str) -> Make:
    """Save three pixels of a row, to be shown one above the other."""

    def make(folder: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        picture = Image.fromarray(np.array([[0, 51, 255]], np.uint8))
        picture.save(folder / name, exif=exif)

    return make


def encoded(level: Any, mode: str = "L", side: int = 2) -> bytes:
    file = io.BytesIO()
    Image.new(mode, (side, side), level).save(file, "png")
    return file.getvalue()


def packed(*files: bytes) -> Make:
    """Lay encoded images back to back in an .npz."""

    def make(folder: Path) -> Path:
        content = np.frombuffer(b"".join(files), np.uint8)
        offset = np.cumsum([0, *map(len, files)])
        np.savez(folder / "a.npz", jpeg=content, offset=offset)
        return folder / "a.npz"

    return make


def frames(name: str) -> Make:
    def make(folder: Path) -> None:
        pages = [Image.new("L", (2, 2), level) for level in (51, 255)]
        pages[0].save(folder / name, save_all=True, append_images=pages[1:])

    return make


def palette(folder: Path) -> None:
    picture = Image.new("P", (2, 2), 1)
    picture.putpalette([0, 0, 0, 255, 0, 51])
    picture.save(folder / "a.png", transparency=bytes([0, 128]))


def truncated(folder: Path) -> None:
    image(folder / "a.png")
    image(folder / "b.jpg")
    content = (folder / "b.jpg").read_bytes()
    (folder / "b.jpg").write_bytes(content[: len(content) - 20])


SOME = {"bus": 2, "car": 2}
TWO = {"cat": 4, "dog": 4}
RGB = (3, 4, 4)
SUFFIXES = (
    *("apng", "avif", "bmp", "dib", "gif", "j2k", "jfif", "jp2", "jpe", "jpeg", "JPG", "pcx"),
    *("pnm", "ppm", "qoi", "tga", "tif", "tiff", "WebP"),
)

FOLDERS: tuple[Case, ...] = (
    Case(
        "a class called train",
        images("bus", "car", "train"),
        Reads(train=3, test=3, shape=RGB, classes={**SOME, "train": 2}),
    ),
    Case(
        "a class called test",
        images("bus", "test"),
        Reads(train=2, test=2, classes={"bus": 2, "test": 2}),
    ),
    Case(
        "train alone",
        each(images("train/cat", "train/dog", count=4), put("readme.md")),
        Reads(
            train=6,
            test=2,
            classes=TWO,
            passed_over={"hidden or no data next to the parts": 1},
        ),
    ),
    *(
        Case(
            f"{train} and {test}",
            images(f"{train}/cat", f"{train}/dog", f"{test}/cat", f"{test}/dog"),
            Reads(train=4, test=4, classes=TWO),
        )
        for train, test in (
            *(("train", "test"), ("train", "valid"), ("train", "val"), ("train", "dev")),
            *(("training", "testing"), ("Train", "Eval"), ("TRAINING", "validation")),
        )
    ),
    Case(
        "train, test and valid",
        images("train", "test", "valid"),
        Reads(train=2, test=2, passed_over={"part valid, since test tests": 1}),
    ),
    Case(
        "train, test and a folder more",
        images("train", "test", "unlabelled"),
        ("has the parts train and test, and with them unlabelled; move that away",),
    ),
    Case(
        "parts and a table, by its own name",
        each(images("train", "test"), put("sampleSubmission.csv")),
        ("with them sampleSubmission.csv; move that away",),
    ),
    *(
        Case(
            f"parts in a folder alone{what}",
            each(images("data/train/a", "data/train/b", "data/val/a", "data/val/b"), put("x.txt")),
            ("holds data alone, which has a part that trains; pass", "x/data"),
            options,
        )
        for what, options in (("", {}), (", no labels wanted", {"labels": "none"}))
    ),
    Case("test without train", images("test/a", "valid/a"), ("holds test, valid: call one train",)),
    Case("train twice", images("train", "training"), ("holds train, training: call one train",)),
    Case(
        "train in two forms",
        each(images("train"), put("train.csv", "a\n1\n"), images("test")),
        ("train, ", "train.csv have one name; keep the one that is the part"),
    ),
    Case(
        "parts inside a part",
        images("train/train", "train/test", "test/train", "test/test"),
        ("train is one part of a set, but has parts itself",),
    ),
    Case(
        "labels in one part alone",
        each(images("train/cat", "train/dog"), images("test")),
        ("either both parts have labels or none has", "labels=none"),
    ),
    Case(
        "labels in one part alone, and none wanted",
        each(images("train/cat", "train/dog"), images("test")),
        Reads(train=4, test=2),
        {"labels": "none"},
    ),
    Case(
        "folders that are no classes",
        images("batch0", "batch1"),
        Reads(train=4),
        {"labels": "none"},
    ),
    Case(
        "some in folders and some in none, and no labels wanted",
        images("batch0", ""),
        Reads(train=4),
        {"labels": "none"},
    ),
    Case("some in folders and some in none", images("a", ""), ("0.png, 1.png in none",)),
    Case(
        "images and a recording",
        each(images("cat", "dog"), lambda folder: wav(folder / "cat" / "purr.wav")),
        ("several kinds of data: 4 images", "1 recordings (cat/purr.wav)"),
    ),
    Case(
        "images and a table called train",
        each(images("cat", "dog"), put("train.csv", "a,b\n1,2\n")),
        ("several kinds of data: 4 images", "1 tables (train.csv)"),
    ),
    Case(
        "images and an array",
        each(images(""), put("x.npz")),
        ("several kinds of data: 2 images", "1 arrays (x.npz)"),
    ),
    Case(
        "images in a format that is not read",
        each(images(""), put("a.HEIC")),
        ("a.HEIC, a format that is not read; convert to PNG or JPEG",),
    ),
    Case(
        "recordings in a format that is not read",
        put("a/b.mp3"),
        ("a/b.mp3, a format that is not read; convert to PCM wav",),
    ),
    Case(
        "what is no data",
        each(
            images("cat", "dog"),
            put("notes.txt"),
            put("cat/Thumbs.db"),
            put("cat/._0.png"),
            put(".cache/x.png"),
            put("licence"),
            put("empty/notes.txt"),
        ),
        Reads(
            train=2,
            test=2,
            classes={"cat": 2, "dog": 2},
            passed_over={
                "folder without images: empty": 1,
                "hidden": 2,
                "named *.db": 1,
                "named *.txt": 2,
                "without a suffix": 1,
            },
        ),
    ),
    Case(
        "columns in another order in the test part",
        each(put("train.csv", "a,b\n1,2\n"), put("test.csv", "b,a,c\n3,4,5\n")),
        Reads(train=1, test=1, shape=(2,), first=(1, 2), first_test=(4, 3)),
    ),
    Case(
        "a column that the test part lacks",
        each(put("train.csv", "a,b\n1,2\n"), put("test.csv", "a\n3\n")),
        ("test.csv has no column 'b'; it has a",),
    ),
    Case(
        "another rate in the test part",
        each(
            lambda folder: wav(folder / "train" / "a.wav"),
            lambda folder: wav(folder / "test" / "a.wav", rate=16000),
        ),
        Reads(train=1, test=1, shape=(1, 8000), notes=("8,000 Hz, as given",)),
    ),
    Case(
        "a class of the test part alone",
        images("train/cat", "train/dog", "test/cat", "test/fox"),
        Reads(
            train=4,
            test=4,
            classes={"cat": 4, "dog": 2, "fox": 2},
            notes=("classes of the test part alone: fox",),
        ),
    ),
    Case(
        "a name that is not UTF-8",
        images(os.fsdecode(b"caf\xe9"), "the"),
        Reads(train=2, test=2, classes={os.fsdecode(b"caf\xe9"): 2, "the": 2}),
    ),
    Case("no name", lambda _: Path(" "), ("the data's name is empty",)),
    Case("a name that is too long", lambda folder: folder / ("a" * 999), ("no file or folder",)),
    Case("a side of nothing", images(""), ("side must be from 1 to 8192",), {"side": 0}),
    Case("a side beyond memory", images(""), ("side must be from 1 to 8192",), {"side": 10**6}),
    Case(
        "clips beyond memory",
        lambda folder: wav(folder / "a.wav"),
        ("at most 1,000,000 Hz and 67,108,864 samples; got 8000 Hz, 1000000000000 samples",),
        {"length": 10**12},
    ),
    Case("labels of another word", images(""), ("labels is one of read, none",), {"labels": "no"}),
    Case("nothing", put("a.bin"), ("holds nothing to read: images, .wav",)),
    Case("two tables", each(put("a.csv"), put("b.csv")), ("2 tables, of which none is called",)),
    Case(
        "a link to a folder",
        each(
            images("data/cat", "elsewhere/fox"),
            link("data/fox", "elsewhere/fox"),
            lambda folder: folder / "data",
        ),
        Reads(train=2, test=2, classes={"cat": 2, "fox": 2}),
    ),
    Case(
        "a link to the folder that it lies in",
        each(images("cat"), link("cat/back", "cat")),
        ("back is a link back to a folder that it lies in; take it away",),
    ),
    Case(
        "a link to nothing",
        each(images("cat"), link("cat/9.png", "nowhere.png")),
        ("9.png is a link to nothing; take it away",),
    ),
    Case(
        "a pipe that is called an image",
        each(images("cat"), lambda folder: os.mkfifo(folder / "cat" / "x.png")),
        ("x.png is no plain file; take it away",),
    ),
)

IMAGES: tuple[Case, ...] = (
    *(
        Case(f"an image called .{suffix}", one(f"a.{suffix}"), Reads(train=1, shape=RGB))
        for suffix in SUFFIXES
    ),
    Case("an image called .pgm", one("a.pgm", 51, "L"), Reads(train=1, first=(0.2,))),
    Case("an image called .pbm", one("a.pbm", 1, "1"), Reads(train=1, first=(1.0,))),
    Case(
        "grey first and colour later",
        each(one("0.png", 51, "L"), one("1.png"), one("2.png")),
        Reads(train=3, shape=RGB, first=(0.2, 0.2), notes=("all are read as RGB",)),
    ),
    Case(
        "all grey",
        each(one("0.png", 51, "L"), one("1.png", 1, "1")),
        Reads(train=2, shape=(1, 4, 4)),
    ),
    Case("grey with alpha", one("0.png", (51, 0), "LA"), Reads(train=1, first=(0.2,))),
    Case("colour with alpha", one("0.png", (51, 0, 0, 0), "RGBA"), Reads(train=1, first=(0.2,))),
    Case("a palette that is in part clear", palette, Reads(train=1, shape=(3, 2, 2), first=(1.0,))),
    Case("CMYK", one("a.tiff", (0, 255, 255, 0), "CMYK"), Reads(train=1, shape=RGB, first=(1.0,))),
    Case("16 bits", one("a.png", 51, "I;16"), ("a.png has I;16 pixels; convert it to 8 bits",)),
    Case("floats", one("a.tiff", 0.2, "F"), ("a.tiff has F pixels; convert it to 8 bits",)),
    *(
        Case(
            f"a .{suffix} that EXIF turns",
            turned(f"a.{suffix}"),
            Reads(train=1, shape=(1, 3, 1), first=(0.0, 0.2, 1.0)),
        )
        for suffix in ("png", "tiff")
    ),
    *(
        Case(f"several frames in .{name}", frames(f"a.{name}"), Reads(train=1, first=(0.2,)))
        for name in ("gif", "png", "tiff")
    ),
    Case(
        "a JPEG called png",
        each(one("a.jpg", 51, "L", quality=100), renamed("a.jpg", "a.png")),
        Reads(train=1, first=(0.2,)),
    ),
    Case("a text called png", put("a.png", "no image"), ("a.png cannot be decoded as an image",)),
    Case("an empty file", put("a.png"), ("a.png cannot be decoded as an image",)),
    Case(
        "PostScript called png",
        one("a.eps"),
        ("a.eps, a format that is not read",),
    ),
    Case(
        "PostScript in disguise",
        each(one("a.eps"), renamed("a.eps", "a.png")),
        ("a.png cannot be decoded as an image",),
    ),
    Case("a file that was cut", truncated, ("b.jpg cannot be decoded as an image",)),
    Case(
        "sizes that differ",
        each(one("a.png"), sized("b.png", 5, 4)),
        ("b.png is 4 x 5 pixels and the first image 4 x 4; pass side=N to fit all to N x N",),
    ),
    Case(
        "sizes that differ, the first grey",
        each(one("a.png", 51, "L"), sized("b.png", 4, 4), sized("c.png", 4, 5), one("d.png")),
        ("c.png is 5 x 4 pixels and the first image 4 x 4; pass side=N",),
    ),
    Case(
        "sizes that differ, fitted",
        each(sized("a.png", 5, 4), sized("b.png", 4, 5)),
        Reads(train=2, shape=(3, 4, 4)),
        {"side": 4},
    ),
    *(
        Case(
            f"one size once turned, .{suffix}",
            each(sized(f"a.{suffix}", 1, 3, "L"), turned(f"b.{suffix}")),
            Reads(train=2, shape=(1, 3, 1)),
        )
        for suffix in ("png", "jpg", "tiff")
    ),
    *(
        Case(
            f"another size once turned, .{suffix}",
            each(sized(f"a.{suffix}", 3, 1, "L"), turned(f"b.{suffix}")),
            (f"b.{suffix} is 3 x 1 pixels and the first image 1 x 3",),
        )
        for suffix in ("png", "jpg", "webp", "tiff")
    ),
    Case(
        "sizes that differ, back to back in an .npz",
        packed(encoded(9), encoded(9), encoded(9, side=3)),
        ("image 2 of ", "is 3 x 3 pixels and the first image 2 x 2; pass side=N"),
    ),
)

# Recordings

RAMP = np.arange(-4, 4) / 8


def riff(
    samples: NDArray[Any],
    *,
    form: int = 1,
    rate: int = 8000,
    channels: int = 1,
    says: int | None = None,
    before: bytes = b"",
    extensible: bool = False,
    block: int | None = None,
) -> bytes:
    """Give a wav file, whose header need not be true."""
    content = samples.tobytes()
    width = samples.dtype.itemsize
    layout = struct.pack(
        "<HHIIHH",
        *(0xFFFE if extensible else form, channels, rate, rate * channels * width),
        *(block or channels * width, width * 8),
    )
    if extensible:
        tail = bytes.fromhex("000000001000800000aa00389b71")
        layout += struct.pack("<HHIH", 22, width * 8, 0, form) + tail
    data = b"data" + struct.pack("<I", len(content) if says is None else says) + content
    body = b"WAVE" + b"fmt " + struct.pack("<I", len(layout)) + layout + before + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def wav(path: Path, *, width: int = 2, rate: int = 8000) -> None:
    """Save a second of silence as the standard library has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(bytes(rate * width))


def sound(content: bytes, name: str = "a.wav") -> Make:
    return put(name, content)


WHOLE = (RAMP * 2**15).astype("<i2")
EIGHT = {"length": 8}
CLIP = Reads(train=1, shape=(1, 8), first=tuple(RAMP))


def recording(what: str, content: bytes, outcome: Reads | tuple[str, ...] = CLIP) -> Case:
    return Case(what, sound(content), outcome, EIGHT)


def unread(form: int, name: str) -> Case:
    return recording(f"samples in {name}", riff(WHOLE, form=form), (f"its samples are {name}",))


RECORDINGS: tuple[Case, ...] = (
    recording("16 bits", riff(WHOLE)),
    recording("8 bits", riff((RAMP * 128 + 128).astype(np.uint8))),
    recording("32 bits", riff((RAMP * 2**31).astype("<i4"))),
    recording("32-bit floats", riff(RAMP.astype("<f4"), form=3)),
    recording("64-bit floats", riff(RAMP.astype("<f8"), form=3)),
    recording("extensible 16 bits", riff(WHOLE, extensible=True)),
    recording("extensible floats", riff(RAMP.astype("<f4"), form=3, extensible=True)),
    recording("a chunk of odd length before", riff(WHOLE, before=b"LIST\3\0\0\0abc\0")),
    recording("a stream's open end", riff(WHOLE, says=0xFFFFFFFF)),
    recording("bytes after the samples", riff(WHOLE) + b"LIST\4\0\0\0abcd"),
    recording("stereo", riff(np.stack([WHOLE, WHOLE], 1), channels=2)),
    Case("a name in capitals", sound(riff(WHOLE), "A.WAVE"), CLIP, EIGHT),
    recording(
        "more samples said than there are",
        riff(WHOLE, says=1600),
        ("says that it has 1,600 bytes of samples, and 16 are there; copy it again",),
    ),
    recording("no samples", riff(WHOLE[:0]), ("holds no samples; take it away",)),
    recording("no chunk of samples", riff(WHOLE)[:36], ("holds no samples; take it away",)),
    recording("integers as floats", riff(RAMP.astype("<f4") * 32768, form=3), ("up to 1.638e+04",)),
    recording("floats that are no number", riff(np.full(8, np.nan, "<f4"), form=3), ("up to nan",)),
    unread(6, "A-law"),
    unread(7, "mu-law"),
    unread(2, "ADPCM"),
    unread(85, "MP3"),
    unread(99, "of format 99"),
    recording("no rate", riff(WHOLE, rate=0), ("its rate is 0 Hz",)),
    recording("no channels", riff(WHOLE, channels=0, block=2), ("0 channels of 16 bits",)),
    recording(
        "frames of another width", riff(WHOLE, block=3), ("1 channels of 16 bits in 3 bytes",)
    ),
    recording(
        "an mp3 called wav", b"ID3" + bytes(60), ("not with RIFF and WAVE", "convert or remove")
    ),
    recording("an RF64", b"RF64" + riff(WHOLE)[4:], ("it begins with b'RF64'",)),
    recording("an empty file", b"", ("cannot be read as a wav file",)),
    Case(
        "rates that differ",
        each(sound(riff(WHOLE)), sound(riff(WHOLE, rate=16000), "b.wav")),
        Reads(train=2, shape=(1, 8000), notes=("8,000 Hz, the first recording's",)),
    ),
)

# Text tables


def table(content: str | bytes, name: str = "a.csv") -> Make:
    def make(folder: Path) -> Path:
        put(name, content)(folder)
        return folder / name

    return make


def refused(what: str, content: str | bytes, *texts: str, **options: Any) -> Case:
    return Case(what, table(content), texts, options)


SEVERAL = "a,b,label\n1,2,x\n3,4,y\n5,6,x\n7,8,y\n"
LABELLED = Reads(train=2, test=2, shape=(2,), classes={"x": 2, "y": 2})
ROWS = Reads(train=2, shape=(2,), first=(1.0, 2.0))

TABLES: tuple[Case, ...] = (
    Case("a table with labels", table(SEVERAL), LABELLED),
    Case(
        "a byte order mark before label",
        table("\ufefflabel,a,b\nx,1,2\nx,3,4\ny,1,2\ny,5,6\n"),
        LABELLED,
    ),
    Case("Label in capitals", table(SEVERAL.replace("label", "LABEL")), LABELLED),
    Case("a blank before a name", table(SEVERAL.replace(",", ", ")), LABELLED),
    Case("no labels wanted", table(SEVERAL), Reads(train=4, shape=(2,)), {"labels": "none"}),
    Case("carriage returns", table(SEVERAL.replace("\n", "\r\n")), LABELLED),
    Case(
        "semicolons", table("a;b\n1;2\n3;4\n"), Reads(train=2, first=(1, 2), notes=("semicolons",))
    ),
    Case(
        "tabs in a .csv", table("a\tb\n1\t2\n3\t4\n"), Reads(train=2, first=(1, 2), notes=("tabs",))
    ),
    Case("commas in a .tsv", table("a,b\n1,2\n3,4\n", "a.tsv"), Reads(train=2, notes=("commas",))),
    Case("a name in capitals", table("a,b\n1,2\n3,4\n", "A.CSV"), ROWS),
    Case("a packed table", table(gzip.compress(b"a,b\n1,2\n3,4\n"), "a.csv.gz"), ROWS),
    Case("quotes", table('a,"b, b"\n"1",2\n3,"4"\n'), ROWS),
    Case(
        "blank lines", table("a,b\n\n1,2\n\n3,4\n"), Reads(train=2, passed_over={"blank lines": 2})
    ),
    Case(
        "coordinates in capitals",
        table("X,Y,Z\n1,2,3\n3,4,5\n"),
        Reads(train=2, shape=(3,), first=(1.0, 2.0, 3.0)),
    ),
    Case("items X of classes y", table("X,y\n1,0\n3,1\n"), ("column 'y', which may be",)),
    Case("names that are numbers", table("0,1\n1,2\n3,4\n"), ROWS),
    Case(
        "a constant column",
        table("a,b\n1,2\n1,4\n"),
        Reads(train=2, notes=("the same in every row of a.csv: a",)),
    ),
    Case(
        "a column that counts rows",
        table("id,b\n0,5\n1,4\n2,9\n"),
        Reads(train=3, notes=("id counts the rows",)),
    ),
    Case(
        "times that float32 cannot tell apart",
        table("t\n1700000001\n1700000002\n1700000003\n"),
        Reads(train=3, notes=("float32 cannot tell most values of t apart",)),
    ),
    Case(
        "labels with leading zeros",
        table("a,label\n1,01\n2,1\n3,01\n4,1\n"),
        Reads(train=2, test=2, classes={"01": 2, "1": 2}),
    ),
    Case(
        "whole floats as labels",
        table("a,label\n1,1.0\n2,1.0\n"),
        Reads(train=1, test=1, classes={"1": 2}),
    ),
    Case(
        "a column that says train, valid and nothing",
        table("a,use\n1,train\n2,Valid\n3,\n4,train\n"),
        Reads(train=2, test=1, passed_over={"rows that say nothing": 1}),
        {"part": "use"},
    ),
    Case(
        "is_train",
        table("a,is_train\n1,1\n2,0\n3,1\n"),
        Reads(train=2, test=1, first=(1,)),
        {"part": "is_train"},
    ),
    Case(
        "is_test",
        table("a,is_test\n1,1\n2,0\n3,0\n"),
        Reads(train=2, test=1, first=(2,)),
        {"part": "is_test"},
    ),
    refused(
        "a label that is chosen as a feature",
        SEVERAL,
        "column 'label' is the label, so it cannot be an item's; leave it out of columns",
        columns=["a", "label"],
    ),
    refused("a column twice", SEVERAL, "column 'a' is chosen twice", columns=["a", "a"]),
    Case(
        "a label that is chosen as a feature, where no labels are wanted",
        table("a,label\n1,2\n3,4\n"),
        ROWS,
        {"columns": ["a", "label"], "labels": "none"},
    ),
    refused("a form that is none", "a\n1\n", "form is one of image, series, table", form="x"),
    refused(
        "folds", "a,fold\n1,0\n2,1\n3,2\n", "column 'fold' must say train or test", part="fold"
    ),
    refused(
        "classes that nobody named",
        "a,target\n1,0\n2,1\n",
        "'target', which may be the classes; pass label=target",
    ),
    refused(
        "parts that nobody named",
        "a,is_test\n1,0\n2,1\n",
        "pass part=is_test if it says which rows test",
    ),
    refused(
        "pandas' index",
        ",a\n0,5\n1,6\n",
        "a column without a name, as pandas writes the rows' numbers; save without (index=False)",
    ),
    refused(
        "two columns of labels",
        "label,Label,a\nx,y,1\n",
        "has columns label, Label; say which by label=NAME",
    ),
    refused(
        "no names",
        "5.1,3.5,0\n4.9,3.0,0\n",
        "has numbers in its first line (5.1, 3.5, 0)",
        "write a line of names",
    ),
    refused("a name twice", "a,a\n1,2\n", "must name its columns, each once"),
    refused("no rows", "a,b\n", "and have rows after it", "0 rows"),
    refused("an empty table", "", "must name its columns"),
    refused(
        "a row cut short",
        "a,b\n1,2\n3\n",
        "a.csv, line 3: 1 fields, but the first line names 2 columns",
    ),
    refused(
        "a missing value",
        "a,b\n1,2\n3,\n",
        "column 'b' must be finite numbers; row 1 has '', which is missing",
    ),
    refused("NaN", "a,b\n1,2\n3,nan\n", "row 1 has 'nan'"),
    refused("infinity", "a,b\n1,2\n3,-inf\n", "row 1 has '-inf'"),
    refused("beyond float32", "a,b\n1,2\n3,1e39\n", "row 1 has '1e39', beyond float32"),
    refused(
        "a decimal comma",
        "a;b\n1,5;2\n",
        "row 0 has '1,5', and a number takes a point and no commas",
    ),
    refused(
        "thousands",
        'a,b\n"1,500",2\n',
        "row 0 has '1,500', and a number takes a point and no commas",
    ),
    refused("an underscore", "a\n1_000\n", "row 0 has '1_000'"),
    refused("a missing label", "a,label\n1,x\n2,\n", "1 labels are missing, the first in row 1"),
    refused(
        "measurements as labels",
        "a,label\n1,0.5\n2,1.5\n",
        "labels of",
        "must be classes",
        "row 0 has 0.5",
    ),
    refused(
        "another encoding",
        "a\n1\né\n".encode("latin-1"),
        "cannot be read as a table",
        "save it in UTF-8",
    ),
    refused("UTF-16", "a\n1\n".encode("utf-16"), "cannot be read as a table", "save it in UTF-8"),
    refused(
        "a label that is not there",
        SEVERAL,
        "has no column 'kind'; it has a, b, label",
        label="kind",
    ),
    Case(
        "half a packed table",
        table(gzip.compress(b"a,b\n1,2\n" * 99)[:-9], "a.csv.gz"),
        ("cannot be read as a table",),
    ),
    Case(
        "a table in another format",
        table(b"PK", "a.xlsx"),
        ("a.xlsx is none of .npz, .parquet, .tar, .csv", "convert it"),
    ),
)

# Arrays


def npz(*, save: Callable[..., object] = np.savez, **arrays: Any) -> Make:
    def make(folder: Path) -> Path:
        save(folder / "a.npz", **arrays)
        return folder / "a.npz"

    return make


def lied(folder: Path) -> Path:
    """Say in an array's header that it has more rows than its member holds."""
    np.savez(folder / "a.npz", x=np.ones((2, 3), np.float32), z=np.ones((90, 3), np.float32))
    content = (folder / "a.npz").read_bytes()
    (folder / "a.npz").write_bytes(content.replace(b"(2, 3), }", b"(9, 3), }", 1))
    return folder / "a.npz"


def cut_npz(folder: Path) -> Path:
    path = folder / "a.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).random((50, 3)))
    content = bytearray(path.read_bytes())
    content[90:110] = bytes(20)
    path.write_bytes(content)
    return path


NUMBERS = np.arange(12.0).reshape(4, 3)
PIXELS = np.arange(2 * 4 * 4, dtype=np.uint8).reshape(2, 4, 4) * 8
FOUR = np.array([0, 1, 0, 1])
HALVES = Reads(train=2, test=2, shape=(3,), classes={"0": 2, "1": 2})

ARRAYS: tuple[Case, ...] = (
    Case("x and y", npz(x=NUMBERS, y=FOUR), HALVES),
    Case("x and labels", npz(x=NUMBERS, labels=FOUR), HALVES),
    Case("labels in a column", npz(x=NUMBERS, y=FOUR[:, None]), HALVES),
    Case(
        "labels of bytes",
        npz(x=NUMBERS, y=np.array([b"a", b"b"] * 2)),
        Reads(train=2, test=2, classes={"a": 2, "b": 2}),
    ),
    Case("boolean labels", npz(x=NUMBERS, y=FOUR > 0), HALVES),
    Case(
        "arrays that are not items",
        npz(x=NUMBERS, ids=FOUR),
        Reads(train=4, shape=(3,), passed_over={"array ids": 1}),
    ),
    Case("x_train and x_val", npz(x_train=NUMBERS, x_val=NUMBERS[:1]), Reads(train=4, test=1)),
    Case(
        "x_train, x_val and x_test",
        npz(X_train=NUMBERS, X_val=NUMBERS[:1], X_test=NUMBERS[:2]),
        Reads(train=4, test=2, passed_over={"array X_val": 1}),
    ),
    Case("Fortran's order", npz(x=np.asfortranarray(NUMBERS)), Reads(train=4, first=(0, 1, 2))),
    Case("big endian", npz(x=NUMBERS.astype(">f8")), Reads(train=4, first=(0, 1, 2))),
    Case(
        "16 bits as numbers",
        npz(x=NUMBERS.astype("<i2")),
        Reads(train=4, first=(0, 1, 2), notes=("int16 from 0 to 11, as they are",)),
    ),
    Case(
        "images of uint8",
        npz(x=PIXELS),
        Reads(
            train=2,
            shape=(1, 4, 4),
            first=(0, 8 / 255),
            notes=("uint8 from 0 to 248, divided by 255",),
        ),
    ),
    Case("channels last", npz(x=np.zeros((2, 5, 4, 3), np.uint8)), Reads(train=2, shape=(3, 5, 4))),
    Case("images of booleans", npz(x=PIXELS[:, None] > 9), Reads(train=2, shape=(1, 4, 4))),
    Case(
        "images of floats from 0 to 255",
        npz(x=PIXELS[:, None].astype(np.float32)),
        ("must be uint8, or in [0, 1]; got float32 from 0 to 248", "divide by what is white"),
    ),
    Case(
        "images of int64",
        npz(x=PIXELS[:, None].astype(np.int64)),
        ("must be uint8, or in [0, 1]; got int64",),
    ),
    Case(
        "images from -1 to 1",
        npz(x=PIXELS[:, None] / 124 - 1),
        ("must be uint8, or in [0, 1]; got float64 from -1 to 1",),
    ),
    Case(
        "masks of uint8",
        npz(x=(PIXELS > 9).astype(np.uint8)),
        ("are uint8 of 0 and 1, and 255 is white; save them as bool",),
    ),
    Case(
        "one colour image and no items",
        npz(x=np.zeros((8, 8, 3), np.uint8)),
        ("which is one image (h, w, 3); items come first: (1, 8, 8, 3)",),
    ),
    Case(
        "four channels last",
        npz(x=np.zeros((2, 8, 8, 4), np.uint8)),
        ("with 4 channels last; these must be 1 or 3, or stand before",),
    ),
    Case(
        "labels of another length",
        npz(x=NUMBERS, y=FOUR[:3]),
        ("must have one label an item; got labels of shape (3,) for 4 items",),
    ),
    Case(
        "labels one-hot",
        npz(x=NUMBERS, y=np.eye(4)),
        ("must have one label an item; got labels of shape (4, 4)",),
    ),
    Case(
        "labels that are missing",
        npz(x=NUMBERS, y=np.array(["a", "", "b", "a"])),
        ("1 labels are missing, the first in row 1",),
    ),
    Case("labels that are NaN", npz(x=NUMBERS, y=np.array([0, 1, np.nan, 0])), ("row 2 has nan",)),
    Case(
        "numbers and names as labels",
        npz(x_train=NUMBERS, y_train=FOUR, x_test=NUMBERS, y_test=FOUR.astype(str)),
        ("write both as numbers, or both as names",),
    ),
    Case("NaN", npz(x=np.full((2, 2), np.nan)), ("has numbers that are missing or infinite",)),
    Case(
        "complex numbers",
        npz(x=NUMBERS + 1j),
        ("must be numbers with two to four axes", "complex128"),
    ),
    Case("Python objects", npz(x=np.array([{}, []], object)), ("arrays of objects are not read",)),
    Case(
        "names that differ in case",
        npz(x=NUMBERS, X=NUMBERS),
        ("arrays that differ in case alone, of X, x",),
    ),
    Case("other names", npz(images=NUMBERS), ("must hold train", "got images")),
    Case("beyond float32", npz(x=np.full((2, 2), 1e300)), ("missing or infinite",)),
    Case(
        "labels beyond int64",
        npz(x=NUMBERS, y=np.array([2**63, 1, 2, 3], np.uint64)),
        ("must be below 2^63; got 9223372036854775808",),
    ),
    Case("no rows", npz(x=NUMBERS[:0]), ("has no items; a part needs at least one",)),
    Case(
        "a header that says more than is there",
        lied,
        ("cannot give its array 'x'", "takes 108 bytes"),
    ),
    Case("a packed array that was damaged", cut_npz, ("cannot give its array 'x'",)),
    Case(
        "no zip",
        table(b"no zip", "a.npz"),
        ("a.npz cannot be read as an .npz file",),
    ),
)

# Parquet


def columns(name: str = "a.parquet", /, *, write_statistics: bool = True, **values: Any) -> Make:
    def make(folder: Path) -> Path:
        table = pa.table(values)
        parquet.write_table(table, folder / name, write_statistics=write_statistics)
        return folder if "-of-" in name else folder / name

    return make


def saved(features: Mapping[str, Any] | None = None, /, **values: Any) -> Make:
    """Save a data set of Hugging Face's `datasets`."""

    def make(folder: Path) -> Path:
        datasets = pytest.importorskip("datasets")
        kinds = features and datasets.Features(
            {name: getattr(datasets, kind)(*rest) for name, (kind, *rest) in features.items()}
        )
        datasets.Dataset.from_dict(values, features=kinds).save_to_disk(str(folder / "saved"))
        return folder / "saved"

    return make


def as_parquet(folder: Path) -> Path:
    """Write the data set that `saved` saved in `folder` as Parquet."""
    datasets = pytest.importorskip("datasets")
    datasets.load_from_disk(str(folder / "saved")).to_parquet(str(folder / "a.parquet"))
    return folder / "a.parquet"


CLASSES = {"a": ("Value", "float32"), "label": ("ClassLabel", 2)}
GREY, RED = encoded(51), encoded((255, 0, 0), "RGB")
HALF = pa.array([1.0, None])

PARQUET: tuple[Case, ...] = (
    Case("numbers", columns(a=[1, 2], b=[0.5, 1.5]), Reads(train=2, shape=(2,), first=(1, 0.5))),
    Case("booleans", columns(a=[True, False]), Reads(train=2, first=(1,))),
    Case("large whole numbers", columns(a=[2**60, 1]), Reads(train=2, first=(2.0**60,))),
    Case(
        "labels",
        columns(a=[1, 2, 3, 4], label=["x", "y"] * 2),
        Reads(train=2, test=2, classes={"x": 2, "y": 2}),
    ),
    Case(
        "Label in capitals",
        columns(a=[1, 2, 3, 4], Label=[5, 6] * 2),
        Reads(train=2, test=2, classes={"5": 2, "6": 2}),
    ),
    Case(
        "labels in a dictionary",
        columns(a=[1, 2], label=pa.array(["x", "x"]).dictionary_encode()),
        Reads(train=1, test=1, classes={"x": 2}),
    ),
    Case(
        "grey images first",
        columns(image=[GREY, RED]),
        Reads(train=2, shape=(3, 2, 2), first=(0.2,), notes=("all are read as RGB",)),
    ),
    Case(
        "images and other columns",
        columns(image=[GREY], fine=[3]),
        Reads(train=1, shape=(1, 2, 2), notes=("columns that are not read: fine",)),
    ),
    Case(
        "a part in several files",
        each(
            columns("train-00000-of-00002.parquet", a=[1]),
            columns("train-00001-of-00002.parquet", a=[2]),
            columns("test-00000-of-00001.parquet", a=[3]),
        ),
        Reads(train=2, test=1, first=(1,)),
    ),
    Case(
        "classes that nobody named",
        columns(a=[1], target=[0]),
        ("'target', which may be the classes; pass label=target",),
    ),
    Case(
        "labels that are missing",
        columns(a=[1, 2], label=["x", None]),
        ("1 labels are missing, the first in row 1; leave those",),
    ),
    Case(
        "labels that are missing and not wanted",
        columns(a=[1, 2], label=["x", None]),
        Reads(train=2),
        {"labels": "none"},
    ),
    *(
        Case(
            f"labels that are -1 in {what}",
            make,
            ("2 labels are missing (null or -1), the first in row 2; leave those", "labels=none"),
        )
        for what, make in (
            ("a saved data set", saved(CLASSES, a=[1, 2, 3, 4], label=[0, 1, -1, None])),
            (
                "Parquet of datasets",
                each(saved(CLASSES, a=[1, 2, 3, 4], label=[0, 1, -1, -1]), as_parquet),
            ),
        )
    ),
    Case(
        "labels that are -1 and not wanted",
        saved(CLASSES, a=[1, 2, 3, 4], label=[0, 1, -1, -1]),
        Reads(train=4),
        {"labels": "none"},
    ),
    Case(
        "labels of a saved data set, none missing",
        saved(CLASSES, a=[1, 2, 3, 4], label=[0, 1, 1, 0]),
        Reads(train=2, test=2, classes={"0": 2, "1": 2}),
    ),
    Case(
        "classes -1 and 1 of whole numbers",
        saved(a=[1, 2, 3, 4], label=[-1, 1, -1, 1]),
        Reads(train=2, test=2, classes={"-1": 2, "1": 2}),
    ),
    Case(
        "labels that are lists",
        columns(a=[1], label=[[1]]),
        ("labels are list<", "choose others by label=NAME"),
    ),
    Case(
        "images of sizes that differ",
        columns(image=[GREY, GREY, encoded(9, side=3)]),
        ("the image in row 2 of ", "is 3 x 3 pixels and the first image 2 x 2; pass side=N"),
    ),
    Case(
        "a missing number",
        columns(a=HALF),
        ("has numbers that are missing: column 'a' lacks one in row 1; fill them in",),
    ),
    Case(
        "a missing number in a late file",
        each(
            columns("train-00000-of-00002.parquet", a=[1, 2], b=[3, 4]),
            columns("train-00001-of-00002.parquet", a=[1, 2, 3], b=[3, 4, None]),
        ),
        ("column 'b' lacks one in row 4",),
    ),
    Case("a missing list", columns(a=[[1], [2], None]), ("column 'a' lacks one in row 2",)),
    Case(
        "a number missing from a list",
        columns(a=[[1, 2], [3, 4], [5, None]]),
        ("column 'a' lacks one in row 2",),
    ),
    Case(
        "a number missing from a list of lists",
        columns(a=[[[1], [2]], [[3], [None]]]),
        ("column 'a' lacks one in row 1",),
    ),
    Case(
        "a missing number in a file without statistics",
        columns(a=[1, 2, None], write_statistics=False),
        ("column 'a' lacks one in row 2",),
    ),
    Case(
        "a number missing from a column that is not read",
        columns(a=[1, 2], b=[3, None]),
        Reads(train=2, shape=(1,)),
        {"columns": ["a"]},
    ),
    Case("a missing image", columns(image=[GREY, None]), ("is missing; leave that row out",)),
    *(
        Case(
            f"a missing image, {what}",
            columns(image=[image] * 70 + [missing]),
            ("the image in row 70 of ", "is missing; leave that row out"),
            {"side": 2},
        )
        for what, image, missing in (
            ("as bytes", RED, None),
            ("as a struct", {"bytes": RED, "path": None}, None),
            ("as a struct of nothing", {"bytes": RED, "path": "a"}, {"bytes": None, "path": None}),
        )
    ),
    Case(
        "images with and without a path",
        columns(image=[{"bytes": RED, "path": None}, {"bytes": RED, "path": "a"}]),
        Reads(train=2, shape=(3, 2, 2)),
        {"side": 2},
    ),
    Case(
        "a number missing from a saved data set",
        saved(a=[1.0, 2.0, None]),
        ("column 'a' lacks one in row 2",),
    ),
    Case(
        "NaN in a saved data set",
        saved(a=[1.0] * 1070 + [math.nan]),
        ("column 'a' lacks one in row 1070",),
    ),
    Case(
        "an image missing from a saved data set",
        saved(image=[RED] * 70 + [None]),
        ("the image in row 70 of ", "is missing"),
        {"side": 2},
    ),
    Case("bytes that are no image", columns(image=[b"no"]), ("cannot be decoded as an image",)),
    Case("texts", columns(a=["x"]), ("choose them with columns, from a (string)",)),
    Case(
        "no Parquet", table(b"PAR1", "a.parquet"), ("a.parquet cannot be read as a Parquet file",)
    ),
)

CASES = (*FOLDERS, *IMAGES, *RECORDINGS, *TABLES, *ARRAYS, *PARQUET)

# Texts: what `read_corpus` gives; items are pairs, and `first` is not looked at.


def lines(*rows: object, end: str = "\n") -> str:
    return "".join(json.dumps(row) + end for row in rows)


def pair(number: int, **others: object) -> dict[str, object]:
    return {"name": str(number), "summary": f"ask {number}", "body": f"item {number}", **others}


PAIRS = lines(pair(0), pair(1))
ALONE = lines({"text": "a b"}, {"text": "c d"})
BOTH = Reads(train=2)


def written(what: str, name: str, content: str | bytes, *outcome: Any, **options: Any) -> Case:
    read = outcome[0] if isinstance(outcome[0], Reads) else outcome
    return Case(what, table(content, name), read, options)


TEXTS: tuple[Case, ...] = (
    written("pairs", "a.jsonl", PAIRS, BOTH),
    written("pairs after a byte order mark", "a.jsonl", "\ufeff" + PAIRS, BOTH),
    written(
        "blank lines", "a.jsonl", PAIRS + "\n \n", Reads(train=2, passed_over={"blank lines": 2})
    ),
    written("carriage returns", "a.jsonl", PAIRS.replace("\n", "\r\n"), BOTH),
    written(
        "no name",
        "a.jsonl",
        lines({"summary": "a", "body": "b"}, {"summary": "c", "body": "d"}),
        BOTH,
    ),
    written("texts alone", "a.jsonl", ALONE, Reads(train=2, notes=("span of its first 64 words",))),
    written("a column that is named", "a.jsonl", lines({"t": "a"}, {"t": "b"}), BOTH, column="t"),
    written(
        "a text a line",
        "a.txt",
        "one\r\n\ntwo\none\n",
        Reads(train=2, passed_over={"blank texts": 2, "texts that occur before": 1}),
    ),
    written("a text a line after a mark", "a.txt", "\ufeffone\ntwo", BOTH),
    Case(
        "a text a file",
        each(put("a.txt", "one\ntwo"), put("in/b.md", "three"), put("c.png"), put(".d.txt")),
        Reads(train=2, passed_over={"hidden": 1, "named *.png": 1}),
    ),
    written("a column called text", "a.csv", "id,text\n1,one\n2,two\n", BOTH),
    written("a column of a table", "a.tsv", "id\tq\n1\tone\n2\ttwo\n", BOTH, column="q"),
    written("one column", "a.csv", "question\none\ntwo\n", BOTH),
    written(
        "pairs in a table",
        "a.csv",
        "summary,body\na,b\nc,d\n",
        Reads(train=2, notes=("pairs of summary",)),
    ),
    Case(
        "a dictionary of Parquet",
        columns(text=pa.array(["one", "two", "one"]).dictionary_encode()),
        Reads(train=2, passed_over={"texts that occur before": 1}),
    ),
    written("a long text in a table", "a.csv", f"text\n{'long ' * 40_000}\nb\n", BOTH),
    Case(
        "Parquet",
        columns(id=[1, 2], text=["one", None]),
        Reads(train=1, passed_over={"blank texts": 1}),
    ),
    written("a mixture", "a.jsonl", PAIRS + ALONE, "line 3: summary is missing"),
    written("texts and others", "a.jsonl", ALONE + '{"t": "x"}', "line 3: 'text' is missing"),
    written("a text that is a number", "a.jsonl", ALONE + '{"text": 5}', "line 3: 'text' is 5"),
    written(
        "an array", "a.json", json.dumps([pair(0)]), "line 1: an array and no object: write each"
    ),
    written(
        "a key twice",
        "a.jsonl",
        '{"text": "a", "text": "b"}',
        "line 1: the key 'text' occurs twice",
    ),
    written(
        "half a surrogate pair",
        "a.jsonl",
        '{"text": "\\ud800"}',
        "line 1:",
        "surrogates not allowed",
    ),
    written("a blank summary", "a.jsonl", lines(pair(0, summary=" ")), "line 1: summary is blank"),
    written("null", "a.jsonl", lines(pair(0, body=None)), "line 1: not all of", "are strings"),
    written(
        "other keys",
        "a.jsonl",
        '{"content": "a"}',
        "line 1: summary is missing",
        "or give texts alone, under text",
    ),
    written(
        "another encoding",
        "a.jsonl",
        b'{"text": "\xe9"}',
        "cannot read pairs from",
        "save it as UTF-8",
    ),
    written("a packed file", "a.jsonl", gzip.compress(b"{}"), "cannot read pairs from", "unpacked"),
    written("a text in another encoding", "a.txt", b"\xe9", "is not UTF-8", "save it as UTF-8"),
    written(
        "no column of texts",
        "a.csv",
        "id,q\n1,one\n",
        "has no column called text; choose by --read column=NAME, of id, q",
    ),
    written(
        "a column that is not there", "a.csv", "id,q\n1,one\n", "has no column 'z'", column="z"
    ),
    written("a column of lines", "a.txt", "a", "has a text a line; leave it out", column="q"),
    written("another format", "a.pdf", "x", "is no corpus; pass .txt"),
    Case(
        "parts of a text a line",
        each(put("train.txt", "one\ntwo"), put("valid.txt", "three"), put("test.txt", "four")),
        ("holds the parts test.txt, train.txt, valid.txt; pass the one that trains", "x/train.txt"),
    ),
    Case(
        "parts in folders",
        each(put("train/pos/a.txt", "one"), put("test/pos/a.txt", "two"), put("README", "three")),
        ("holds the parts test, train; pass the one that trains", "x/train"),
    ),
    Case(
        "texts called train and test among others",
        each(put("train.md", "one"), put("test.md", "two"), put("setup.md", "three")),
        Reads(train=3),
    ),
    Case("a folder without texts", put("a.png"), ("has no texts (.txt, .text, .md)",)),
    Case("nothing", lambda folder: folder / "none.txt", ("there is no file or folder",)),
)

# Documents: what `read_documents` gives.

DOCUMENTS: tuple[Case, ...] = (
    written(
        "titled rows", "a.csv", "Title,Text\nt,one\nu,two\n", Reads(train=2, notes=("2 have a",))
    ),
    written("groups", "a.jsonl", lines({"text": "a", "group": "g"}, {"text": "b"}), BOTH),
    written("a name twice", "a.csv", "name,text\nn,a\nn,b\nn#2,c\n", Reads(train=3)),
    written("pairs as documents", "a.jsonl", PAIRS, Reads(train=2, notes=("2 have a title",))),
    written(
        "a text with and without a title",
        "a.jsonl",
        lines({"text": "a", "title": "t"}, {"text": "a"}, {"text": " a", "title": None}),
        Reads(train=2, passed_over={"texts that occur before": 1}),
    ),
    written("a huge line", "a.txt", "word " * 200_000, Reads(train=1)),
    written("a huge word", "a.md", "x" * 1_000_000, Reads(train=1)),
    written("old line ends", "a.md", "# A\r\none\r\n# B\r\ntwo\r\n", BOTH),
    written("a mark before a heading", "a.md", "\ufeff# A\none\n## B\ntwo", BOTH),
    written("code that never ends", "a.md", "one\n```\ntwo\n# B\n", Reads(train=1)),
    written("tags that never end", "a.html", "<p>one<h2>B</h2><div>two", BOTH),
    written("a module for another Python", "a.py", "print 'one'", "a.py has no text"),
    Case(
        "files of several kinds, some without text",
        each(
            put("a.rst", "A\n=\n\none\n"),
            put("b/c.md", "two"),
            put("d.txt"),
            put("e.md", "# E\n"),
            put("f.png"),
        ),
        Reads(train=2, passed_over={"named *.png": 1, "files without text": 2}),
    ),
    Case(
        "a folder with a file in another encoding",
        each(put("a.md", "one"), put("b.rst", b"caf\xe9")),
        ("b.rst is not UTF-8", "save it as UTF-8"),
    ),
    Case(
        "a folder with files of no text alone",
        each(put("a.md", "# A\n"), put("b.html", "<script>x</script>")),
        ("has no text; pass a file or a folder with texts",),
    ),
    Case(
        "a folder without documents", put("a.png"), ("has no texts (.txt, .text, .md, .markdown",)
    ),
    written("an empty file", "a.txt", "", "a.txt has no text; pass a file or a folder with texts"),
    written("a title alone", "a.md", "# Title\n", "a.md has no text"),
    written(
        "a page without text", "a.html", "<script>x</script><nav>y</nav>", "a.html has no text"
    ),
    written("a module without docstrings", "a.py", "x = 1\n", "a.py has no text"),
    written("lines of blanks", "a.jsonl", "\n \n", "a.jsonl has no text"),
    written("UTF-16", "a.md", "one".encode("utf-16"), "a.md is not UTF-8", "save it as UTF-8"),
    written("Latin-1", "a.html", b"caf\xe9", "a.html is not UTF-8", "save it as UTF-8"),
    written("binary", "a.txt", b"PK\x03\x04\x00", "a.txt has a NUL at character 4", "or remove it"),
    written(
        "a file of another kind",
        "a.pdf",
        "x",
        "a.pdf has no documents that are read; pass a folder",
    ),
    written("a number", "a.jsonl", '{"text": 5}', "line 1: 'text' is 5; it must be a text"),
    written("a missing text", "a.jsonl", ALONE + '{"t": "x"}', "line 3: 'text' is missing"),
    written("a title that is no text", "a.jsonl", '{"text": "a", "title": 3}', "'title' is 3"),
    written(
        "no column with text",
        "a.csv",
        "id,q\n1,one\n",
        "has no column text or body; choose by --read column=NAME, of id, q",
    ),
    written("no such column", "a.csv", "id,q\n1,one\n", "has no column 'z'", column="z"),
    written("a column of a page", "a.md", "a", "has no columns; leave it out", column="q"),
    Case("no file of documents", lambda folder: folder / "no.md", ("there is no file or folder",)),
)
