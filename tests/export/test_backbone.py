"""A network of images by name becomes a bundle that takes images as they are decoded."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

import attar
from attar.errors import InvalidInput
from attar.export.backbone import backbone_tower
from attar.export.importing import import_folder
from benchmarks.support.networks import lite0, tiny

HERE = "torch:benchmarks.support.networks"


def photograph(height: int, width: int) -> NDArray[np.uint8]:
    """Draw a smooth image in colour."""
    draw = np.random.default_rng(height)
    small = Image.fromarray(draw.integers(0, 256, (7, 9, 3), np.uint8))
    return np.array(small.resize((width, height), Image.Resampling.BICUBIC))


def prepared(
    image: NDArray[np.uint8], large: int, side: int, resample: Image.Resampling
) -> Image.Image:
    """Resize the shorter side and keep the centre, as timm's evaluation transform does."""
    height, width = image.shape[:2]
    short = min(height, width)
    size = large * width // short, large * height // short
    left, top = ((full - side) // 2 for full in size)
    resized = Image.fromarray(image).resize(size, resample)
    return resized.crop((left, top, left + side, top + side))


def test_a_bundle_prepares_images_and_has_the_networks_numbers_and_licence(tmp_path: Path) -> None:
    bundle = import_folder(f"{HERE}:tiny", tmp_path / "tiny.attar").bundle
    assert bundle.manifest.licence == "CC0-1.0"
    assert bundle.manifest.lineage == {"imported": f"{HERE}:tiny", "weights": "pretrained"}
    network = tiny().eval()
    images = [photograph(20, 31), photograph(25, 13)]
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)))
    theirs = []
    for image in images:
        cut = np.array(prepared(image, 10, 8, Image.Resampling.BILINEAR))
        pixels = torch.from_numpy(cut).permute(2, 0, 1) / 255
        with torch.no_grad():
            theirs.append(F.normalize(network((pixels - mean)[None] / std).mean((2, 3)))[0].numpy())
    ours = attar.load(bundle.path, threads=1).embed(images).vectors
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_real_weights_give_the_packages_own_features() -> None:
    tower = backbone_tower(f"{HERE}:lite0")
    image = photograph(256, 300)  # which needs no resizing, where Pillow differs by a level
    cut = np.array(prepared(image, 256, 224, Image.Resampling.BICUBIC), np.float32)
    pixels = (torch.from_numpy(cut).permute(2, 0, 1) - 127) / 128
    with torch.no_grad():
        theirs = F.normalize(lite0().eval()(pixels[None]).mean((2, 3)))
        ours = tower.encoder(torch.from_numpy(image[None]))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert (ours.shape, tower.licence) == ((1, 1280), "Apache-2.0")


def test_an_option_of_another_kind_of_encoder_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    path = tmp_path / "x.attar"
    with pytest.raises(InvalidInput, match="says all there is of its encoder but --weights and"):
        import_folder(f"{HERE}:tiny", path, side="vision")
    with pytest.raises(InvalidInput, match=r"--weights and --licence are of networks by name"):
        import_folder(tmp_path, path, licence="MIT")
    with pytest.raises(InvalidInput, match="to calibrate int8 on"):
        import_folder(f"{HERE}:tiny", path, variants=["int8"])
    assert not path.exists()
