"""Noise to hold an encoder to where nobody gave data: always the same."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from attar.manifest import TensorSpec

ITEMS = 2  # of each shape


def noise(
    spec: TensorSpec, shapes: Sequence[tuple[int, ...]], *, seed: int = 0
) -> list[NDArray[np.generic]]:
    """Draw items of some shapes: any byte, or numbers of deviation 1."""
    draw = np.random.default_rng(seed)
    return [
        draw.integers(0, 256, shape, dtype=np.uint8)
        if spec.dtype == "uint8"
        else draw.standard_normal(shape).astype(spec.dtype)
        for shape in shapes
        for _ in range(ITEMS)
    ]
