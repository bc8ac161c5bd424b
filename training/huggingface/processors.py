"""What a folder's processor does to images and sound: as transformers builds it, or refused.

The library fills in what a processor's file leaves out, by the class that the file names. Its steps
are then taken over one by one, and held to what the library makes of images and sounds.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from attar.errors import InvalidInput

from ..encoders.image_preprocessing import Filter, Pixels
from .config import read_json, size
from .libraries import quiet, transformers

FILE, WHOLE = "preprocessor_config.json", "processor_config.json"

RESAMPLE: Mapping[int, Filter] = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers
STEPS = {"do_resize": True, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255}
"""What a processor of images must do."""

CHOICES = (
    *STEPS,
    "do_center_crop",
    "do_convert_rgb",
)  # images come as RGB, so the last does nothing

SHAPES = ((3, 5), (2, 3), (1, 1), (4, 5))
"""Height and width of images in halves of the crop's longer side: never tall, see `_compare`."""

MOST_LEVELS = 2.01
"""Of 255: resizing rounds twice, and torch and Pillow may differ by a level each time.

Of noise of 113 x 113 pixels enlarged to 224 x 224 one number in 150,528 differs by two.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    """How a waveform is prepared: `rate` in Hz, and whether it gets mean 0 and variance 1."""

    rate: int
    normalise: bool


def images(folder: Path, config: Mapping[str, Any]) -> Pixels:
    """Give the processor's steps on images, for the folder whose config.json holds `config`.

    Raises InvalidInput that names the file and the step that is not followed.
    """
    settings, path = _settings(folder, "image_processor")
    processor = _build(settings, path, config, "AutoImageProcessor")
    steps = processor.to_dict()
    for step, expected in STEPS.items():
        if steps.get(step) != expected:
            raise InvalidInput(f"{path} has {step} {steps.get(step)!r}; attar imports {expected!r}")
    for step, on in steps.items():
        if step.startswith("do_") and on and step not in CHOICES:
            raise InvalidInput(f"{path} has {step} {on!r}; attar imports {', '.join(CHOICES)}")
    resample = steps.get("resample")
    if resample not in RESAMPLE:
        raise InvalidInput(
            f"{path} has resample {resample if resample is None else int(resample)}; attar "
            "imports 2 (bilinear) and 3 (bicubic)"
        )
    try:
        pixels = Pixels(
            size=_size(steps["size"]),
            crop=_sides(steps["crop_size"]) if steps.get("do_center_crop") else None,
            resample=RESAMPLE[resample],
            mean=steps["image_mean"],
            std=steps["image_std"],
        )
    except (InvalidInput, KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be followed: {error}") from error
    _compare(processor, pixels, path)
    return pixels


def sounds(folder: Path, config: Mapping[str, Any]) -> Sound:
    """Give the processor's step on waveforms; raises InvalidInput that names what is not done."""
    settings, path = _settings(folder, "feature_extractor")
    processor = _build(settings, path, config, "AutoFeatureExtractor")
    steps = processor.to_dict()
    kind, features = type(processor).__name__, steps.get("feature_size")
    if (kind, features) != ("Wav2Vec2FeatureExtractor", 1):
        raise InvalidInput(
            f"{path} is a {kind} of {features} features; attar imports "
            "Wav2Vec2FeatureExtractor of 1"
        )
    if not isinstance(steps.get("do_normalize"), bool):
        raise InvalidInput(
            f"{path} has do_normalize {steps.get('do_normalize')!r}; expected true or false"
        )
    return Sound(rate=size(steps, "sampling_rate", path), normalise=steps["do_normalize"])


def _settings(folder: Path, part: str) -> tuple[Mapping[str, Any], Path]:
    """Give a processor's settings and their file: its own, or its part of a larger one's."""
    path = folder / FILE
    if path.exists():
        return read_json(path), path
    path = folder / WHOLE
    if path.exists() and isinstance(held := read_json(path).get(part), Mapping):
        return held, path
    raise InvalidInput(f"{folder} has no {FILE}; save the processor with the model")


def _build(settings: Mapping[str, Any], path: Path, config: Mapping[str, Any], kind: str) -> Any:
    """Let transformers build the processor from its settings alone, in a folder of their own."""
    if settings.get("auto_map"):
        raise InvalidInput(
            f"{path} has auto_map, which asks for code of its own to be run, and attar never "
            "does; save a processor of transformers' own"
        )
    library = transformers("a folder's processor")
    with TemporaryDirectory(prefix="attar-") as copies, quiet(library):
        (Path(copies) / FILE).write_text(json.dumps(settings))
        (Path(copies) / "config.json").write_text(json.dumps({"model_type": config["model_type"]}))
        try:
            return getattr(library, kind).from_pretrained(
                copies, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # whatever the library raises, the folder is what it met
            reason = " ".join(str(error).replace(copies, str(path.parent)).split())
            raise InvalidInput(
                f"transformers cannot build the processor of {path}: {reason}; save it again"
            ) from error


def _size(setting: Any) -> int | tuple[int, int]:
    """Read a size: that of the shorter side, or both."""
    if {key for key, value in setting.items() if value is not None} == {"shortest_edge"}:
        return int(setting["shortest_edge"])
    return _sides(setting)


def _sides(value: Any) -> tuple[int, int]:
    return int(value["height"]), int(value["width"])


def _compare(processor: Any, pixels: Pixels, path: Path) -> None:
    """Hold our steps to the library's on noise of several shapes.

    Pillow 13 resizes tall images vertically first, and torchvision, torch and ONNX Runtime never.
    """
    longer = max(pixels.crop)
    draw = np.random.default_rng(0)
    for down, across in SHAPES:
        shape = (longer * down // 2 + 1, longer * across // 2 + 1, 3)
        image = draw.integers(0, 256, shape, np.uint8)
        try:
            with quiet(transformers("a folder's processor")):
                theirs = processor(
                    image, return_tensors="np", input_data_format="channels_last"
                ).pixel_values[0]
        except Exception as error:  # whatever the library raises, the folder is what it met
            raise InvalidInput(f"{path} fails in transformers on an image: {error}") from error
        ours = pixels(torch.from_numpy(image[None]))[0].numpy()
        levels = (
            np.abs(ours - theirs) / pixels.scale.numpy() if ours.shape == theirs.shape else None
        )
        if levels is None or levels.max() > MOST_LEVELS:
            raise InvalidInput(
                f"{path} makes another image of {shape[0]} x {shape[1]} pixels in transformers "
                "than resize, crop and normalise do in attar; save a processor of those steps"
            )
