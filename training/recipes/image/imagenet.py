"""What papers on ImageNet and the like set: epochs in steps, LARS, and how ViT-S is trained."""

from collections.abc import Mapping
from typing import Any, Final

IMAGES: Final = 1_281_167  # that train
VIT_S: Final[Mapping[str, Any]] = {
    "encoder": "vit_small",
    "weight_decay": 0.04,
    "clip": 3.0,
    "views": "natural",
    "blur": (1.0, 0.1),
    "solarise": (0.0, 0.2),
}
"""DINO's settings of ViT-S and of the two large views, which SiT takes over."""


def epochs(count: int, *, batch_size: int, images: int = IMAGES) -> int:
    """Give how many steps so many passes over a set of images are."""
    return count * images // batch_size


def passes(count: int, *, batch_size: int) -> dict[str, Any]:
    """Give the settings of so many passes over ImageNet."""
    return {"steps": epochs(count, batch_size=batch_size), "batch_size": batch_size}


def lars(
    *, batch_size: int, rate: float, weight_decay: float, count: int | None = None
) -> dict[str, Any]:
    """Give the settings of papers that train by LARS on ImageNet, ten epochs of it warm-up.

    `count` is how many epochs there are, None where the paper does not say.
    """
    return {
        **({} if count is None else {"steps": epochs(count, batch_size=batch_size)}),
        "batch_size": batch_size,
        "rate": rate,
        "warmup": epochs(10, batch_size=batch_size),
        "weight_decay": weight_decay,
        "views": "natural",
        "optimizer": "lars",
    }
