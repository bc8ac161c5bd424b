"""Every setting of a processor prepares images and sound as transformers does, or is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

from attar.errors import InvalidInput
from attar.training.huggingface import vision_audio
from benchmarks.hostile.processor_settings import IMAGE, IMAGES, SOUND, SOUNDS, Setting
from benchmarks.support.families import libraries
from benchmarks.support.teachers import write_json

from ..support.vision_audio import dinov2, wav2vec2

FILE = "preprocessor_config.json"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("towers")


def folder(root: Path, name: str, make: Any) -> Path:
    """Save a model once, and give its folder."""
    if not (root / name).exists():
        torch.manual_seed(0)
        make().save_pretrained(root / name)
    return root / name


def read(path: Path, settings: dict[str, Any]) -> vision_audio.Tower:
    write_json(path / FILE, settings)
    tower = vision_audio.read(path)
    assert isinstance(tower, vision_audio.Tower)
    return tower


def images() -> list[NDArray[np.uint8]]:
    """Give noise of odd shapes, a ramp, a board of black and white, and one colour.

    No noise is tall: Pillow 13 resizes tall images vertically first, the others of its kind never.
    """
    draw = np.random.default_rng(1)
    noise = [draw.integers(0, 256, (*size, 3), np.uint8) for size in ((36, 36), (41, 97), (20, 33))]
    ramp = np.tile(np.arange(120, dtype=np.uint8)[:, None, None] * 2, (1, 50, 3))
    board = np.indices((64, 80)).sum(0) % 2 * 255
    return [*noise, ramp, np.repeat(board[..., None], 3, 2).astype(np.uint8), ramp[:1, :1]]


@pytest.mark.parametrize("setting", [s for s in IMAGES if not s.refusal], ids=str)
def test_images_are_prepared_as_the_folder_says(setting: Setting, root: Path) -> None:
    path = folder(root, "dinov2", dinov2)
    with libraries() as (transformers, _):
        pixels: Any = read(path, setting.of(IMAGE)).encoder.pixels
        library = transformers.AutoImageProcessor.from_pretrained(str(path), local_files_only=True)
        for image in images():
            theirs = library(Image.fromarray(image), return_tensors="np").pixel_values[0]
            ours = pixels(torch.from_numpy(image[None]))[0].numpy()
            levels = np.abs(ours - theirs) / pixels.scale.numpy()
            assert levels.max() <= 1.01  # by which torch's and Pillow's rounding may differ


@pytest.mark.parametrize("setting", [s for s in IMAGES if s.refusal], ids=str)
def test_images_that_cannot_be_so_are_refused(setting: Setting, root: Path) -> None:
    with libraries(), pytest.raises(InvalidInput) as refusal:
        read(folder(root, "dinov2", dinov2), setting.of(IMAGE))
    assert setting.refusal in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("setting", [s for s in SOUNDS if not s.refusal], ids=str)
def test_sounds_are_prepared_as_the_folder_says(setting: Setting, root: Path) -> None:
    path = folder(root, "wav2vec2", wav2vec2)
    draw = np.random.default_rng(2)
    with libraries() as (transformers, _), torch.no_grad():
        tower = read(path, setting.of(SOUND))
        model = transformers.AutoModel.from_pretrained(path).eval()
        library = transformers.AutoFeatureExtractor.from_pretrained(str(path))
        assert tower.spec.extra == {"sampling_rate": library.sampling_rate}
        for loud, quiet in ((1.0, 0.0), (0.001, 0.5), (30.0, -4.0), (0.0, 0.0)):
            sound = draw.normal(quiet, loud, 900).astype(np.float32)
            rate = library.sampling_rate
            prepared = library(sound, sampling_rate=rate, return_tensors="pt")
            theirs = F.normalize(model(**prepared).last_hidden_state.mean(1)).numpy()
            ours = tower.encoder(torch.from_numpy(sound[None])).numpy()
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("setting", [s for s in SOUNDS if s.refusal], ids=str)
def test_sounds_that_cannot_be_so_are_refused(setting: Setting, root: Path) -> None:
    with libraries(), pytest.raises(InvalidInput) as refusal:
        read(folder(root, "wav2vec2", wav2vec2), setting.of(SOUND))
    assert setting.refusal in str(refusal.value)
    assert "\n" not in str(refusal.value)
