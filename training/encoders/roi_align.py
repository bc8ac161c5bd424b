"""RoIAlign: a box of a feature map, resampled to a grid.

He et al. 2017 (Mask R-CNN), arXiv:1703.06870, section 3.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def roi_align(
    maps: Float[Tensor, "n c h w"], boxes: Float[Tensor, "n 4"], *, size: tuple[int, int]
) -> Float[Tensor, "n c rows columns"]:
    """Divide a box of each map into `size` = (rows, columns) bins, and give the value at each.

    A box is left, top, right and bottom as shares of the map's sides, from 0 to 1. The value of a
    bin is interpolated bilinearly at its centre, and that of the nearest cell where the centre is
    outside of all cells' centres. RoIAlign takes the mean of several points in a bin that is larger
    than a cell; smaller ones have one there too.

    Example:
        >>> whole = torch.arange(4.0).view(1, 1, 2, 2)
        >>> roi_align(whole, torch.tensor([[0.0, 0.0, 1.0, 1.0]]), size=(2, 2)).flatten()
        tensor([0., 1., 2., 3.])
    """
    left, top, right, bottom = boxes.to(maps)[:, :, None].unbind(1)  # (n, 1)
    down, across = (
        (torch.arange(count, device=maps.device, dtype=maps.dtype) + 0.5) / count for count in size
    )
    x = 2 * (left + (right - left) * across) - 1  # (n, columns), in [-1, 1]
    y = 2 * (top + (bottom - top) * down) - 1
    rows, columns = size
    grid = torch.stack([x[:, None].expand(-1, rows, -1), y[:, :, None].expand(-1, -1, columns)], -1)
    return F.grid_sample(maps, grid, padding_mode="border", align_corners=False)
