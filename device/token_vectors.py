"""Token vectors: one for each part of an item, such as a patch of an image or a word of a text."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .encodings import Encoding, Vectors, slice_dims
from .errors import InvalidInput, NotSupported
from .manifest import Manifest, TokenOutput

Grid: TypeAlias = tuple[int, int]
"""Rows and columns."""

Pooling: TypeAlias = Literal["none", "grid"]
"""What becomes of an item's tokens: each has its vector, or each cell of a grid their mean."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TokenEmbeddings:
    """The token vectors of some items, in the items' order: `embeddings[i]` are those of item i.

    `lengths` is how many rows of `vectors` each item has, and `grid` the rows and columns that they
    lie in, in reading order; None for a text.
    """

    vectors: NDArray[Any]  # (sum of lengths, dim) in the encoding's dtype
    lengths: NDArray[np.int32]  # (n,)
    truncated: NDArray[np.bool_]  # (n,)
    grid: Grid | None
    encoding: Encoding
    dim: int
    fingerprint: str
    variant: str

    def __len__(self) -> int:
        """Count the items."""
        return len(self.lengths)

    def __getitem__(self, item: int) -> NDArray[Any]:
        """Give an item's vectors, one a row."""
        return of_item(self.vectors, self.lengths, item)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Be the vectors of all items wherever numpy expects an array."""
        return np.array(self.vectors, dtype=dtype, copy=copy)


def of_item(vectors: NDArray[Any], lengths: NDArray[np.int32], item: int) -> NDArray[Any]:
    """Cut one item's rows out of those of all."""
    start = int(lengths[: range(len(lengths))[item]].sum())
    rows: NDArray[Any] = vectors[start : start + int(lengths[item])]
    return rows


def check_pooling(manifest: Manifest, pooling: object, grid: object) -> tuple[TokenOutput, Grid]:
    """Give a bundle's token output, and the rows and columns that `pooling` leaves of it.

    Those of a text, whose tokens are in a row, are (0, 0): as many as there are. Raises
    NotSupported for a bundle without token vectors, InvalidInput for a pooling or a grid that it
    does not have.
    """
    if (tokens := manifest.tokens) is None:
        raise NotSupported(
            f"{manifest.name} has no token vectors; export its encoder with them (--tokens)"
        )
    if not isinstance(pooling, str) or pooling not in get_args(Pooling):
        names = ", ".join(get_args(Pooling))
        raise InvalidInput(f"pooling must be one of {names}; got {pooling!r:.80}")
    if pooling == "none":
        if grid is not None:
            raise InvalidInput(f"grid is {grid!r:.80}, and pooling none; pass pooling='grid'")
        return tokens, tokens.grid or (0, 0)
    if tokens.grid is None:
        raise InvalidInput(f"{manifest.name} takes texts, whose tokens lie in no grid")
    rows, columns = tokens.grid
    whole = (
        isinstance(grid, tuple | list)
        and len(grid) == 2
        and all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in grid)
    )
    if not whole or not (1 <= grid[0] <= rows and 1 <= grid[1] <= columns):  # type: ignore[index]
        raise InvalidInput(
            f"grid must be the rows and columns to pool to, from (1, 1) to ({rows}, {columns}); "
            f"got {grid!r:.80}"
        )
    return tokens, (int(grid[0]), int(grid[1]))  # type: ignore[index]


def grid_means(tokens: Vectors, of: Grid, to: Grid) -> Vectors:
    """Average tokens that lie in one grid, (rows * columns, d), to the cells of a coarser one.

    Where cells do not divide the rows or columns, neighbours share those between them: cell i of n
    has rows floor(i * rows / n) up to ceil((i + 1) * rows / n), as torch's adaptive pooling.

    Example:
        >>> grid_means(np.array([[1.0], [3.0], [5.0], [7.0]], np.float32), (2, 2), (1, 2))
        array([[3.],
               [5.]], dtype=float32)
    """
    if of == to:
        return tokens
    down, across = (_means(n, m) for n, m in zip(of, to, strict=True))
    maps = tokens.reshape(*of, -1)
    cells: Vectors = np.einsum("ir,jc,rcd->ijd", down, across, maps, optimize=True)
    return cells.reshape(to[0] * to[1], -1)


def at_unit_length(tokens: Vectors) -> Vectors:
    """Bring rows to unit length; a row of zeros stays."""
    return slice_dims(tokens, tokens.shape[1])


def _means(length: int, cells: int) -> Vectors:
    """Give the matrix that averages `length` values to `cells`: (cells, length)."""
    weights = np.zeros((cells, length), np.float32)
    for i in range(cells):
        start, stop = i * length // cells, -(-(i + 1) * length // cells)
        weights[i, start:stop] = 1 / (stop - start)
    return weights
