"""A small convolutional encoder: images of one size to unit embeddings."""

from torch import Tensor, nn
from torch.nn import functional as F


class SmallConv(nn.Module):
    """Three 3x3 convolutions with batch norm, then a linear map, for images of one `side`."""

    def __init__(self, *, side: int, dim: int, channels: int = 1, width: int = 32) -> None:
        super().__init__()
        half = (side + 1) // 2
        self.layers = nn.Sequential(
            *_block(channels, width, stride=1),
            *_block(width, 2 * width, stride=2),
            *_block(2 * width, 2 * width, stride=1),
            nn.Flatten(),
            nn.Linear(2 * width * half * half, dim),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Give (n, dim) embeddings of length one for (n, channels, side, side) images in [0, 1]."""
        return F.normalize(self.layers(image), dim=1)


def _block(inward: int, outward: int, *, stride: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inward, outward, 3, stride=stride, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(outward), nn.ReLU()
