"""A data config: how the images of a pretrained network are prepared, as timm declares it.

timm (https://github.com/huggingface/pytorch-image-models) gives its networks `pretrained_cfg`, a
dict with the keys that are read here. A network of any other library can carry one too.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast, get_args

from attar.errors import InvalidInput

Interpolation: TypeAlias = Literal["bilinear", "bicubic"]
CropMode: TypeAlias = Literal["center", "squash"]

CROP_SHARE = 0.875  # of the resized image, where no crop_pct is declared: timm's default
LARGEST = 4096  # pixels of a side: none is trained on more


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """How images are prepared: resized, cut to `side` x `side` in the centre, and normalised.

    `resize` is the size of the shorter side, or (height, width) where the ratio is not kept; `mean`
    and `std` are of the three channels of an image in [0, 1], and `licence` is that of the weights.
    """

    side: int
    resize: int | tuple[int, int]
    interpolation: Interpolation
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    licence: str | None


def read_data_config(network: object, name: str) -> DataConfig:
    """Read the `pretrained_cfg` of a network; `name` is what errors call it.

    Raises InvalidInput that names the key which is missing or cannot be followed.
    """
    config = getattr(network, "pretrained_cfg", None)
    if not isinstance(config, Mapping):
        raise InvalidInput(
            f"{name} does not say how its images are prepared: set its attribute pretrained_cfg to "
            "a dict such as {'input_size': (3, 224, 224), 'mean': (0.485, 0.456, 0.406), "
            "'std': (0.229, 0.224, 0.225)}"
        )
    size = _numbers(config, "input_size", name)
    if size[0] != 3 or size[1] != size[2] or not 1 <= size[1] <= LARGEST:
        raise InvalidInput(
            f"{name} takes images of {size}; attar prepares (3, side, side), up to {LARGEST}"
        )
    side, share = int(size[1]), config.get("crop_pct") or CROP_SHARE
    if not 0 < share <= 1:
        raise InvalidInput(f"{name} has crop_pct {share}; expected a share above 0, up to 1")
    mode = _choice(config, "crop_mode", get_args(CropMode), name, default="center")
    large = math.floor(side / share)
    mean, std = _numbers(config, "mean", name), _numbers(config, "std", name)
    licence = config.get("license")
    return DataConfig(
        side=side,
        resize=large if mode == "center" else (large, large),
        interpolation=cast(
            "Interpolation",
            _choice(config, "interpolation", get_args(Interpolation), name, default="bicubic"),
        ),
        mean=mean,
        std=std,
        licence=str(licence) if licence else None,
    )


def _numbers(config: Mapping[str, Any], key: str, name: str) -> tuple[float, float, float]:
    value = config.get(key)
    plain = isinstance(value, list | tuple) and all(isinstance(v, int | float) for v in value)
    if not plain or len(cast("tuple[float, ...]", value)) != 3:
        raise InvalidInput(f"{name} has {key} {value!r} in pretrained_cfg; expected three numbers")
    return cast("tuple[float, float, float]", tuple(cast("list[float]", value)))


def _choice(
    config: Mapping[str, Any], key: str, choices: tuple[str, ...], name: str, *, default: str
) -> str:
    value = config.get(key) or default
    if value not in choices:
        raise InvalidInput(
            f"{name} has {key} {value!r}; attar prepares images by {' or '.join(choices)}"
        )
    return str(value)
