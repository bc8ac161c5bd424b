"""Square images: the side of a source's."""

import torch

from attar.errors import InvalidInput

from .source import Source


def side_of(data: Source) -> int:
    """Give the side of a source's images; raises InvalidInput where they are not square."""
    height, width = data.train[torch.tensor([0])].shape[-2:]
    if height != width:
        raise InvalidInput(
            f"the recipe learns from square images; got {height} x {width} pixels: cut and resize "
            f"them by side={min(height, width)} as they are read (--read), or another side"
        )
    return height
