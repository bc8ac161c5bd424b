"""Fusion: one embedding for each object, from the modalities that it has."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attar.errors import InvalidInput, ShapeError

from ._rows import unit


def fused(
    modalities: Mapping[str, ArrayLike], *, seen: Mapping[str, ArrayLike] | None = None
) -> NDArray[np.float32]:
    """Give the mean of each object's unit embeddings, (n, d), scaled to unit length.

    `modalities` are (n, d) each, of one shared space; `seen` says of some of them, (n,) each, which
    objects have them, and the row of one that does not is left out of its mean. Source: Rizhko and
    Bloom 2024 (AstroM3, arXiv:2411.08842).

    Raises:
        ShapeError: modalities differ in shape, or `seen` is not (n,).
        InvalidInput: there is no modality, `seen` names another, or an object has none.
    """
    parts = {name: unit(name, rows) for name, rows in modalities.items()}
    present = {name: np.asarray(mask, np.bool_) for name, mask in (seen or {}).items()}
    if not parts or not present.keys() <= parts.keys():
        raise InvalidInput(
            f"there must be modalities, and seen be of them; got {list(parts)} and {list(present)}"
        )
    shapes = {name: part.shape for name, part in parts.items()}
    n = next(iter(shapes.values()))[0]
    if len(set(shapes.values())) > 1 or any(mask.shape != (n,) for mask in present.values()):
        raise ShapeError(
            f"modalities must be (n, d) alike and seen (n,); got {shapes} and "
            f"{ {name: mask.shape for name, mask in present.items()} }"
        )
    masks = np.stack([present.get(name, np.ones(n, np.bool_)) for name in parts])  # (m, n)
    if not masks.any(axis=0).all():
        row = int(np.flatnonzero(~masks.any(axis=0))[0])
        raise InvalidInput(f"object {row} has no modality; leave it out")
    summed = np.einsum("mn,mnd->nd", masks.astype(np.float32), np.stack(list(parts.values())))
    return unit("the fused rows", summed)
