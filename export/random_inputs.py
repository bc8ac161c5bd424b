"""Noise to hold an encoder to where nobody gave data: always the same."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from attar import trial_inputs
from attar.manifest import Range, TensorSpec

ITEMS = 2  # of each shape


def noise(
    spec: TensorSpec,
    shapes: Sequence[tuple[int, ...]],
    *,
    values: Range | None = None,
    seed: int = 0,
) -> list[NDArray[np.generic]]:
    """Draw items of some shapes: numbers in the range of `values`, else bytes or of deviation 1."""
    draw = np.random.default_rng(seed)
    return [
        trial_inputs.noise(draw, spec.dtype, shape, values)
        for shape in shapes
        for _ in range(ITEMS)
    ]
