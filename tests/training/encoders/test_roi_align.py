"""RoIAlign gives what a loop over its bins gives, and its laws."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from attar.training.encoders.roi_align import roi_align

SIDE = 4
BOXES = [
    [0.0, 0.0, 1.0, 1.0],
    [0.25, 0.5, 0.75, 1.0],
    [0.1, 0.0, 0.35, 0.9],
    [0.0, 0.0, 0.05, 0.05],  # all of it nearer to the edge than the first cell's centre
]


def bilinear(cells: NDArray[np.float64], y: float, x: float) -> float:
    """Give the value at a place, in cells from the first one's centre; the edge's beyond it."""
    y, x = (min(max(at, 0.0), SIDE - 1.0) for at in (y, x))
    top, left = math.floor(y), math.floor(x)
    total = 0.0
    for row, share in ((top, 1 - (y - top)), (top + 1, y - top)):
        for column, part in ((left, 1 - (x - left)), (left + 1, x - left)):
            if share * part:
                total += share * part * cells[row, column]
    return total


@pytest.mark.parametrize("size", [(4, 4), (2, 3)])
def test_it_is_the_value_at_the_centre_of_each_bin(size: tuple[int, int]) -> None:
    maps = torch.randn(
        len(BOXES), 2, SIDE, SIDE, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    expected = np.zeros((len(BOXES), 2, *size))
    for n, (left, top, right, bottom) in enumerate(BOXES):
        for channel, row, column in np.ndindex(2, *size):
            y = (top + (bottom - top) * (row + 0.5) / size[0]) * SIDE - 0.5
            x = (left + (right - left) * (column + 0.5) / size[1]) * SIDE - 0.5
            expected[n, channel, row, column] = bilinear(maps[n, channel].numpy(), y, x)
    given = roi_align(maps, torch.tensor(BOXES), size=size)
    np.testing.assert_allclose(given.numpy(), expected, rtol=1e-6, atol=1e-7)


def test_all_of_a_map_is_the_map_and_its_gradient_reaches_each_cell_once() -> None:
    maps = torch.randn(2, 3, SIDE, SIDE, requires_grad=True)
    whole = roi_align(maps, torch.tensor([BOXES[0]] * 2), size=(SIDE, SIDE))
    torch.testing.assert_close(whole, maps)
    (pull,) = torch.autograd.grad(whole.sum(), maps)
    torch.testing.assert_close(pull, torch.ones_like(maps))


def test_a_mirrored_box_of_a_mirrored_map_is_the_mirrored_area() -> None:
    maps, box = torch.randn(1, 1, SIDE, SIDE), torch.tensor([BOXES[2]])
    mirrored = torch.stack([1 - box[:, 2], box[:, 1], 1 - box[:, 0], box[:, 3]], 1)
    given = roi_align(maps.flip(3), mirrored, size=(3, 3)).flip(3)
    torch.testing.assert_close(given, roi_align(maps, box, size=(3, 3)))
