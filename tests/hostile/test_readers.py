"""Whatever a reader reads equals what another implementation reads of it, or it is refused.

The oracles are Pillow, SciPy's wav reader, pandas, numpy, pyarrow and the json module.
"""

import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pyarrow import parquet
from scipy.io import wavfile

from attar.errors import AttarError, InvalidInput
from attar.training.data.corpus import read_corpus
from attar.training.reading import read
from benchmarks.hostile.data import riff

MODES = {
    "png": ("1", "L", "LA", "P", "RGB", "RGBA"),
    "jpg": ("L", "RGB", "CMYK"),
    "bmp": ("1", "L", "P", "RGB"),
    "gif": ("L", "P", "RGB"),
    "tiff": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK"),
    "webp": ("L", "RGB", "RGBA"),
    "ppm": ("1", "L", "RGB"),
}
Damage = Callable[[bytes], bytes]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder that each example fills anew."""
    return tmp_path_factory.mktemp("readers")


def alone(folder: Path, name: str, content: bytes) -> Path:
    for path in folder.iterdir():
        path.unlink()
    (folder / name).write_bytes(content)
    return folder / name


def items(path: Path, **options: Any) -> NDArray[np.float32]:
    source = read(str(path), **options)
    read_items: NDArray[np.float32] = source.train[torch.arange(len(source.train))].numpy()
    return read_items


def tried(path: Path) -> NDArray[np.float32] | str:
    """Read items, or give the text of the refusal."""
    try:
        return items(path)
    except AttarError as refused:
        return str(refused)


@st.composite
def damage(draw: st.DrawFn) -> Damage:
    """Draw nothing, a cut, or some bytes that are others."""
    share, flips = draw(st.sampled_from([1.0, 1.0, 1.0, 0.5, 0.9])), []
    if draw(st.booleans()):
        flips = draw(st.lists(st.tuples(st.floats(0, 0.999), st.integers(1, 255)), max_size=4))

    def damaged(content: bytes) -> bytes:
        changed = bytearray(content[: int(len(content) * share)])
        for at, mask in flips:
            if changed:
                changed[int(at * len(changed))] ^= mask
        return bytes(changed)

    return damaged


@st.composite
def pictures(draw: st.DrawFn) -> tuple[str, bytes]:
    """Draw an encoded image, perhaps turned by EXIF, perhaps damaged."""
    suffix = draw(st.sampled_from(sorted(MODES)))
    mode = draw(st.sampled_from(MODES[suffix]))
    size = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    noise = np.random.default_rng(draw(st.integers(0, 9))).integers(0, 256, (*size[::-1], 4))
    picture = Image.fromarray(noise.astype(np.uint8), "RGBA").convert("RGB").convert(mode)
    exif = Image.Exif()
    if draw(st.booleans()):
        exif[0x0112] = draw(st.integers(1, 8))
    file = io.BytesIO()
    named = {"jpg": "jpeg"}.get(suffix, suffix)
    picture.save(file, named, **({"exif": exif} if suffix in ("jpg", "png", "tiff") else {}))
    return f"a.{suffix}", draw(damage())(file.getvalue())


def by_pillow(content: bytes) -> NDArray[np.floating[Any]] | None:
    """Read an image as a user of Pillow and torchvision would; None where Pillow cannot."""
    try:
        with Image.open(io.BytesIO(content)) as file:
            upright = ImageOps.exif_transpose(file)
            grey = upright.mode in ("1", "L", "LA")
            pixels = np.asarray(upright.convert("L" if grey else "RGB"), np.float32) / 255
    except Exception:
        return None
    return pixels[None] if grey else pixels.transpose(2, 0, 1)


@given(made=pictures())
@settings(max_examples=150)
def test_an_image_is_what_pillow_makes_of_it(folder: Path, made: tuple[str, bytes]) -> None:
    path = alone(folder, *made)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damage, of which Pillow warns
        expected = by_pillow(path.read_bytes())
        images = tried(folder)
    if isinstance(images, str):
        assert path.name in images
        assert expected is None or "convert it to 8 bits" in images, images
    else:
        assert expected is not None
        np.testing.assert_allclose(images[0], expected, atol=1e-6)


WIDTHS = {"u1": 1, "<i2": 1, "<i4": 1, "<f4": 3, "<f8": 3}


@st.composite
def recordings(draw: st.DrawFn) -> tuple[bytes, int, bool]:
    """Draw a wav file, its channels, and whether it is whole."""
    kind = draw(st.sampled_from(sorted(WIDTHS)))
    channels, frames = draw(st.integers(1, 3)), draw(st.integers(1, 20))
    noise = np.random.default_rng(draw(st.integers(0, 9))).random((frames, channels)) * 2 - 1
    dtype = np.dtype(kind)
    if dtype.kind == "u":
        samples = (noise * 127 + 128).astype(dtype)
    else:
        samples = (noise * (np.iinfo(dtype).max if dtype.kind == "i" else 1)).astype(dtype)
    content = riff(
        samples,
        form=WIDTHS[kind],
        channels=channels,
        extensible=draw(st.booleans()),
        before=draw(st.sampled_from([b"", b"LIST\4\0\0\0abcd", b"junk\1\0\0\0x\0"])),
    )
    cut = draw(st.sampled_from([0, 0, 1, 5, 30]))
    return content[: len(content) - cut], channels, cut == 0


def by_scipy(path: Path) -> NDArray[np.float64]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of chunks that it passes over
        _, samples = wavfile.read(path)
    if samples.dtype == np.uint8:
        samples = samples.astype(np.float64) - 128
        scale = 128.0
    else:
        scale = -float(np.iinfo(samples.dtype).min) if samples.dtype.kind == "i" else 1.0
    scaled: NDArray[np.float64] = samples.astype(np.float64) / scale
    return scaled


@given(made=recordings())
@settings(max_examples=100)
def test_a_recording_is_what_scipy_makes_of_it(folder: Path, made: tuple[bytes, int, bool]) -> None:
    content, channels, whole = made
    path = alone(folder, "a.wav", content)
    if not whole:
        with pytest.raises(InvalidInput, match=r"a\.wav"):
            items(folder, length=4)
        return
    expected = by_scipy(path).reshape(-1, channels).mean(1)
    clip = items(folder, length=len(expected))[0, 0]
    np.testing.assert_allclose(clip, expected, atol=1e-6)


NUMBERS = st.one_of(
    st.floats(-1e6, 1e6).map(repr),
    st.integers(-1000, 1000).map(str),
    st.sampled_from(["1e3", "-.5", "+2.", " 7 ", "1E-2"]),
)
FIELDS = st.one_of(
    *[NUMBERS] * 6, st.sampled_from(["", "nan", "NA", "x", "1_0", "0x1", "inf", "1e999", "'1'"])
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[bytes, str]:
    """Draw a text table of three columns, and the mark between its fields."""
    mark, end = draw(st.sampled_from([",", ";", "\t"])), draw(st.sampled_from(["\n", "\r\n"]))
    odd = draw(st.booleans())
    rows = draw(st.lists(st.tuples(*[FIELDS if odd else NUMBERS] * 3), min_size=1, max_size=5))
    quoted = draw(st.booleans())
    written = [[f'"{field}"' if quoted else field for field in row] for row in rows]
    text = "".join(mark.join(row) + end for row in [["a", "b", "c"], *written])
    return draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + text.encode(), mark


@given(made=tables())
@settings(max_examples=100)
def test_a_table_is_what_pandas_makes_of_it(folder: Path, made: tuple[bytes, str]) -> None:
    content, mark = made
    path = alone(folder, "a.csv", content)
    frame = pd.read_csv(path, sep=mark, encoding="utf-8-sig", skip_blank_lines=True)
    sound = all(kind.kind in "if" for kind in frame.dtypes) and np.isfinite(frame.to_numpy()).all()
    rows = tried(path)
    if isinstance(rows, str):
        assert not sound, rows
    else:
        np.testing.assert_allclose(rows, frame.to_numpy(np.float32), rtol=1e-6)


DTYPES = ("<f4", ">f8", "<i2", ">i4", "u1", "?", "<f2")


@st.composite
def archives(draw: st.DrawFn) -> tuple[NDArray[Any], bytes]:
    """Draw an array, and an .npz file of it, whose headers may be damaged."""
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 4)))
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    array = np.random.default_rng(draw(st.integers(0, 9))).integers(0, 100, shape).astype(dtype)
    array = np.asarray(array, order=draw(st.sampled_from(["C", "F"])))
    file = io.BytesIO()
    draw(st.sampled_from([np.savez, np.savez_compressed]))(file, x=array, z=np.ones(400))
    content = bytearray(file.getvalue())
    for at, mask in draw(st.lists(st.tuples(st.integers(0, 150), st.integers(1, 255)), max_size=2)):
        content[at] ^= mask
    return array, bytes(content)


@given(made=archives())
@settings(max_examples=150)
def test_an_array_is_what_was_saved(folder: Path, made: tuple[NDArray[Any], bytes]) -> None:
    array, content = made
    path = alone(folder, "a.npz", content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with np.load(io.BytesIO(content)) as loaded:
                expected = np.asarray(loaded["x"])
        except Exception:
            expected = None
        rows = tried(path)
    if isinstance(rows, str):
        assert expected is None or expected.dtype != array.dtype, rows
    elif expected is not None:
        np.testing.assert_array_equal(rows, expected.astype(np.float32))


@st.composite
def arrow_tables(draw: st.DrawFn) -> pa.Table:
    """Draw a table of numbers of several types, some perhaps missing."""
    kinds = draw(
        st.lists(st.sampled_from(["int64", "int8", "uint16", "float32", "double", "bool"]))
    )
    rows = draw(st.integers(1, 7))
    missing = draw(st.booleans())
    columns = {}
    for number, kind in enumerate(["double", *kinds]):
        values = st.booleans() if kind == "bool" else st.integers(0, 100)
        column = draw(
            st.lists(values | st.none() if missing else values, min_size=rows, max_size=rows)
        )
        columns[f"c{number}"] = pa.array(column, pa.type_for_alias(kind))
    return pa.table(columns)


@given(table=arrow_tables(), group=st.integers(1, 4))
@settings(max_examples=60)
def test_parquet_is_what_pandas_makes_of_it(folder: Path, table: pa.Table, group: int) -> None:
    path = alone(folder, "a.parquet", b"")
    parquet.write_table(table, path, row_group_size=group)
    if any(column.null_count for column in table.columns):
        with pytest.raises(InvalidInput, match="are missing"):
            items(path)
    else:
        expected = pd.read_parquet(path).to_numpy(np.float32)
        np.testing.assert_array_equal(items(path), expected)


WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@st.composite
def json_lines(draw: st.DrawFn) -> bytes:
    """Draw lines of objects with a text, blank lines among them, perhaps damaged."""
    lines = [
        json.dumps({"text": text, "other": draw(WORDS)}, ensure_ascii=draw(st.booleans()))
        for text in draw(st.lists(WORDS, min_size=1, max_size=4))
    ]
    lines.insert(draw(st.integers(0, len(lines))), draw(st.sampled_from(["", "  "])))
    text = draw(st.sampled_from(["\n", "\r\n"])).join(lines)
    content = draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + text.encode()
    return draw(damage())(content)


def by_json(content: bytes) -> list[str] | None:
    try:
        lines = content.decode("utf-8-sig").split("\n")
        texts = [json.loads(line)["text"].strip() for line in lines if line.strip()]
        "".join(texts).encode()
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return list(dict.fromkeys(text for text in texts if text))


@given(content=json_lines())
@settings(max_examples=150)
def test_lines_are_what_json_makes_of_them(folder: Path, content: bytes) -> None:
    path = alone(folder, "a.jsonl", content)
    expected = by_json(content)
    try:
        pairs = read_corpus(path).pairs
    except AttarError:
        assert expected is None or b'"summary"' in content
    else:
        assert [pair.body for pair in pairs] == (expected or [])
