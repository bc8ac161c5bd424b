"""Image files become tensors of one shape, and what is no such image is named."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from attar.errors import InvalidInput, ShapeError
from attar.training.data.pictures import image_folder, packed_images
from attar.training.reading import read

ALL = torch.arange


def noise(height: int, width: int, seed: int = 0, channels: int = 3) -> NDArray[np.uint8]:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def save(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def encoded(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def test_a_folder_for_each_class_gives_images_and_classes(tmp_path: Path) -> None:
    for seed, name in enumerate(("dog/a.png", "cat/deep/b.bmp", "cat/a.PNG")):
        save(tmp_path / name, noise(5, 4, seed))
    save(tmp_path / ".cache/x.png", noise(5, 4))
    (tmp_path / "cat/notes.txt").write_text("no image")
    part = image_folder(tmp_path)
    images, classes = part.items, part.labels
    assert classes is not None
    assert classes.tolist() == ["cat", "cat", "dog"]
    pixels = images[torch.tensor([2, 0])]
    assert pixels.shape == (2, 3, 5, 4)
    for got, seed in zip(pixels, (0, 2), strict=True):
        assert torch.equal(got, torch.tensor(noise(5, 4, seed)).permute(2, 0, 1) / 255)


def test_a_flat_folder_has_no_classes_and_grey_images_one_channel(tmp_path: Path) -> None:
    save(tmp_path / "a.png", noise(3, 3, channels=1))
    part = image_folder(tmp_path)
    images, classes = part.items, part.labels
    assert classes is None
    assert torch.equal(images[ALL(1)][0, 0], torch.tensor(noise(3, 3, channels=1)) / 255)


def test_the_shorter_side_fits_and_the_centre_is_kept(tmp_path: Path) -> None:
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 4:20] = 200  # the centre square and what the filter reaches; black on either side
    save(tmp_path / "a.png", wide)
    save(tmp_path / "b.png", wide.transpose(1, 0, 2))
    images = image_folder(tmp_path, side=4).items[ALL(2)]
    assert images.shape == (2, 3, 4, 4)
    assert torch.allclose(images, torch.tensor(200 / 255))


def test_an_image_of_the_right_size_keeps_its_pixels(tmp_path: Path) -> None:
    save(tmp_path / "a.png", noise(6, 6))
    assert torch.equal(
        image_folder(tmp_path, side=6).items[ALL(1)], image_folder(tmp_path).items[ALL(1)]
    )


def test_a_camera_held_upright_gives_an_upright_image(tmp_path: Path) -> None:
    pixels = noise(4, 6)
    turned = Image.fromarray(np.rot90(pixels).copy())
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown a quarter turn clockwise
    turned.save(tmp_path / "a.png", exif=exif)
    images = image_folder(tmp_path).items
    assert torch.equal(images[ALL(1)][0], torch.tensor(pixels).permute(2, 0, 1) / 255)


def test_images_back_to_back_are_the_images() -> None:
    files = [encoded(noise(5, 5, seed)) for seed in range(3)]
    offset = np.cumsum([0, *map(len, files)])
    content = np.frombuffer(b"".join(files), np.uint8)
    images = packed_images("it", content, offset, side=None)
    assert torch.equal(
        images[torch.tensor([2])][0], torch.tensor(noise(5, 5, 2)).permute(2, 0, 1) / 255
    )
    for bad in (offset[:-1], offset + 1, offset[::-1], offset.astype(float), offset[:1]):
        with pytest.raises(ShapeError, match="offset in it must rise from 0 to"):
            packed_images("it", content, bad, side=None)
    with pytest.raises(ShapeError, match=r"must be uint8 \(bytes,\); got int64"):
        packed_images("it", content.astype(int), offset, side=None)


def test_only_the_requested_images_are_read(tmp_path: Path) -> None:
    for row in range(3):
        save(tmp_path / f"{row}.png", noise(4, 4, row))
    images = image_folder(tmp_path).items
    (tmp_path / "1.png").unlink()
    assert images[torch.tensor([2, 0])].shape == (2, 3, 4, 4)
    with pytest.raises(InvalidInput, match=r"1.png cannot be decoded"):
        images[torch.tensor([1])]


def test_bad_images_are_skipped_and_named_where_that_was_asked(tmp_path: Path) -> None:
    for name in ("good/a.png", "good/d.png", "bad/b.png", "bad/c.png"):
        save(tmp_path / name, noise(4, 4, ord(name[-5])))
    (tmp_path / "bad/b.png").write_bytes((tmp_path / "good/a.png").read_bytes()[:40])
    (tmp_path / "good/e.jpg").write_text("<html>not found</html>")
    Image.fromarray(noise(4, 4, channels=1).astype(np.uint16)).save(tmp_path / "good/d.png")

    source = read(str(tmp_path), skip_bad=True, test_last=1)
    assert source.summary is not None
    assert source.test is not None
    assert (len(source.train), len(source.test)) == (1, 1)
    assert source.summary.classes == {"bad": 1, "good": 1}
    said = "\n".join(source.summary.lines())
    assert "3 images that cannot be decoded" in said
    for name in ("b.png cannot be decoded", "d.png has I;16 pixels", "e.jpg cannot be decoded"):
        assert name in said

    with pytest.raises(InvalidInput, match="cannot be decoded"):
        read(str(tmp_path))
    with pytest.raises(InvalidInput, match="skip_bad is True, but digits is shipped"):
        read("digits", skip_bad=True)
    (tmp_path / "good/a.png").unlink()
    (tmp_path / "bad/c.png").unlink()
    with pytest.raises(InvalidInput, match="has no image that can be decoded; skipped: "):
        read(str(tmp_path), skip_bad=True)


def test_what_is_no_usable_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"has no images \(.apng"):
        image_folder(tmp_path)
    save(tmp_path / "a.png", noise(4, 4))
    with pytest.raises(InvalidInput, match="side must be from 1 to 8192 pixels; got 0"):
        image_folder(tmp_path, side=0)
    save(tmp_path / "b.png", noise(5, 4))
    with pytest.raises(ShapeError, match=r"b.png is 5 x 4 pixels and the first image 4 x 4; pass"):
        image_folder(tmp_path).items[ALL(2)]
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    with pytest.raises(InvalidInput, match=r"b.png cannot be decoded as an image"):
        image_folder(tmp_path).items[ALL(2)]
    Image.fromarray(noise(4, 4, channels=1).astype(np.uint16)).save(tmp_path / "b.png")
    with pytest.raises(InvalidInput, match=r"b.png has I;16 pixels; convert it to 8 bits"):
        image_folder(tmp_path).items[ALL(2)]
    save(tmp_path / "cat/c.png", noise(4, 4))
    with pytest.raises(InvalidInput, match=r"has folders of classes, and a.png, b.png in none"):
        image_folder(tmp_path)
