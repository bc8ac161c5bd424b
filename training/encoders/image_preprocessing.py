"""Images as they are decoded become the tensor an encoder was trained on, inside the network.

Resizing follows Pillow's: separable, with a filter as wide as the reduction (antialiased), in 8-bit
steps, horizontally and then vertically.  Torch and ONNX Runtime have the same filter for uint8, so
what one graph does to an image, a device and a server do alike.
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from attar.errors import InvalidInput

Filter: TypeAlias = Literal["bilinear", "bicubic"]


class Pixels(nn.Module):
    """Resize, cut out the centre and normalise RGB images of one size, whatever it is."""

    scale: Float[Tensor, "3 1 1"]
    shift: Float[Tensor, "3 1 1"]

    def __init__(
        self,
        *,
        size: int | tuple[int, int],
        crop: tuple[int, int] | None = None,
        resample: Filter = "bicubic",
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        """Fix the steps.

        `size` is that of the shorter side, the sides' ratio being kept, or (height, width); `crop`
        is the (height, width) of the centre that is kept. A channel of an image in [0, 1] loses its
        `mean` and is divided by its `std`. Raises InvalidInput when the crop is larger than what it
        is cut from, or a size or a deviation is not positive.
        """
        super().__init__()
        height, width = (size, size) if isinstance(size, int) else size
        sizes = (height, width, *(crop or ()))
        if min(sizes) < 1 or len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise InvalidInput(
                "size, crop and std must be positive, mean and std of 3 channels; got "
                f"size {size}, crop {crop}, mean {list(mean)}, std {list(std)}"
            )
        if isinstance(size, int) and crop is None:
            raise InvalidInput(
                f"the shorter side alone ({size}) leaves images of many sizes; pass crop too"
            )
        if crop and (crop[0] > height or crop[1] > width):
            raise InvalidInput(f"a crop of {crop} is larger than the resized image, {size}")
        self.size = size
        self.crop = crop or (height, width)
        self.resample = resample
        deviation = torch.tensor(std).view(3, 1, 1)
        self.register_buffer("scale", 1 / (255 * deviation))
        self.register_buffer("shift", torch.tensor(mean).view(3, 1, 1) / deviation)

    def forward(self, image: UInt8[Tensor, "b height width 3"]) -> Float[Tensor, "b 3 h w"]:
        """Give the encoder's tensor, (h, w) being the crop."""
        height, width = image.shape[1:3]
        if isinstance(self.size, int):
            short = torch.sym_min(height, width)  # type: ignore[no-untyped-call]  # torch's own
            to = (self.size * height // short, self.size * width // short)
        else:
            to = self.size
        resized = F.interpolate(
            image.permute(0, 3, 1, 2), size=to, mode=self.resample, antialias=True
        )
        # Picked by index: of a slice that starts where the image says, torch.export loses the size.
        rows, columns = (
            torch.arange(cropped, device=image.device) + (full - cropped) // 2
            for full, cropped in zip(to, self.crop, strict=True)
        )
        cut = resized.index_select(2, rows).index_select(3, columns)
        return cut.float() * self.scale - self.shift
