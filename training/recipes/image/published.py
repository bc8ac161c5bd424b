"""The numbers of DINO, iBOT, SIE and SlotCon as they were published."""

from collections.abc import Mapping
from typing import Any, Final

from .imagenet import epochs, lars, passes

COCO: Final = 118_287  # images of COCO's train2017
DINO_VIT_SMALL: Final[Mapping[str, Any]] = {
    **passes(300, batch_size=1024),
    "encoder": "vit_small",
    "views": "natural",
    "blur": (1.0, 0.1),
    "solarise": (0.0, 0.2),
    "rate": 0.0005 * 1024 / 256,
    "warmup": epochs(10, batch_size=1024),
    "weight_decay": 0.04,
    "final_weight_decay": 0.4,
    "hidden": 2048,
    "bottleneck": 256,
    "outputs": 65536,
    "frozen": epochs(1, batch_size=1024),
    "momentum": 0.996,
    "rise": epochs(30, batch_size=1024),
    "local_views": 8,
    "local_side": 96,
    "local_area": (0.05, 0.4),
    "global_area": (0.4, 1.0),
}
"""DINO's settings for ViT-S/16 (arXiv:2104.14294, section 3.2, and the official code)."""

IBOT_VIT_SMALL: Final[Mapping[str, Any]] = {
    **DINO_VIT_SMALL,
    **passes(800, batch_size=1024),
    "outputs": 8192,
    "local_views": 10,
    "local_area": (0.05, 0.25),
    "global_area": (0.25, 1.0),
}
"""iBOT's for ViT-S/16 (arXiv:2111.07832, section 4.1, and the official code's README)."""

SIE_3DIEBENCH: Final[Mapping[str, Any]] = {
    "batch_size": 1024,
    "rate": 1e-3,
    "warmup": 0,
    "weight_decay": 1e-6,
    "encoder": "resnet18",
    "projector": 1024,
    "equivariant": 256,
}
"""SIE's for ResNet-18 on renderings of objects (arXiv:2302.10283, and the official code)."""

SLOTCON_COCO: Final[Mapping[str, Any]] = {
    **lars(batch_size=512, rate=1.0 * 512 / 256, weight_decay=1e-5),
    "steps": epochs(800, batch_size=512, images=COCO),
    "warmup": epochs(5, batch_size=512, images=COCO),
    "encoder": "resnet50",
    "blur": (1.0, 0.1),
    "solarise": (0.0, 0.2),
    "area": (0.08, 1.0),
    "flip": 0.5,
    "hidden": 4096,
    "projection": 256,
    "projector_depth": 3,
    "prototypes": 256,
    "momentum": 0.99,
}
"""SlotCon's for ResNet-50 (arXiv:2205.15288, section 4.1, and the official code's script)."""
