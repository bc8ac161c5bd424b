"""The checked and normalised rows that all probes start from."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attar.encodings import slice_dims
from attar.errors import InvalidInput, ShapeError


def rows(name: str, values: ArrayLike) -> NDArray[np.float32]:
    """Give finite (n, d) float32 rows, n and d at least 1, or raise an error that says `name`."""
    array = np.asarray(values, dtype=np.float32)
    if array.ndim != 2 or 0 in array.shape:
        raise ShapeError(f"{name} must be (n, d) with n and d at least 1; got {array.shape}")
    if not np.isfinite(array).all():
        bad = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise InvalidInput(f"{name} must be finite; row {bad} is not: the encoder diverged")
    return array


def unit(name: str, values: ArrayLike) -> NDArray[np.float32]:
    """Give `rows` scaled to length one, so that their products are cosines; zero rows stay zero."""
    array = rows(name, values)
    return slice_dims(array, array.shape[1])
