"""An encoder of images or sound from a transformers folder becomes a bundle."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attar.manifest import TensorSpec
from attar.training.encoders.towers import Tower

from .bundling import Exported
from .tensor import export_tensor

ITEMS = 2  # of each shape that parity is checked on


def write_tower(path: Path, tower: Tower, *, name: str, overwrite: bool = False) -> Exported:
    """Write `tower` to the bundle `path`, as the variant fp32; parity is checked on noise.

    Raises InvalidInput when the graph differs from the torch encoder, and AlreadyExists when `path`
    is taken and `overwrite` is false.
    """
    return export_tensor(
        path,
        tower.encoder,
        name=name,
        spec=tower.spec,
        items=noise(tower.spec, tower.shapes),
        modality=tower.modality,
        lineage=tower.lineage,
        overwrite=overwrite,
    )


def noise(
    spec: TensorSpec, shapes: Sequence[tuple[int, ...]], *, seed: int = 0
) -> list[NDArray[np.generic]]:
    """Draw items of some shapes, always the same: any byte, or numbers of deviation 1."""
    draw = np.random.default_rng(seed)
    return [
        draw.integers(0, 256, shape, dtype=np.uint8)
        if spec.dtype == "uint8"
        else draw.standard_normal(shape).astype(spec.dtype)
        for shape in shapes
        for _ in range(ITEMS)
    ]
