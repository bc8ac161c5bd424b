"""A backbone to import: a network of another library, with the preparation of its images inside."""

from jaxtyping import Float, UInt8
from torch import Tensor, nn

from attar.manifest import AxisRange, Cost, Limits, TensorSpec
from attar.training.backbones.network import PRETRAINED, load_network
from attar.training.encoders.attention import unit
from attar.training.encoders.backbone import pooled
from attar.training.encoders.image_preprocessing import Pixels
from attar.training.huggingface.vision_audio import (
    MOST_PIXELS,
    MOST_RATIO,
    MOST_SIDE,
    PIXELS_PER_TOKEN,
    Tower,
)

PATCH = 16  # pixels: a network costs a run what patches of its images would


class PhotographEncoder(nn.Module):
    """Decoded images to embeddings of unit length: the pooled features of a network."""

    def __init__(self, pixels: Pixels, network: nn.Module) -> None:
        super().__init__()
        self.pixels = pixels
        self.network = network

    def forward(self, image: UInt8[Tensor, "b height width 3"]) -> Float[Tensor, "b dim"]:
        """Embed RGB images of one size."""
        return unit(pooled(self.network(self.pixels(image))))


def backbone_tower(name: str, *, weights: str = PRETRAINED, licence: str | None = None) -> Tower:
    """Give the network `timm:NAME` or `torch:MODULE:FACTORY`, ready for inference.

    `weights` are as `load_network` takes them, and `licence` is what the network does not say of
    them. Raises InvalidInput and MissingExtra as `load_network` does.
    """
    network = load_network(name, weights)
    config = network.config
    pixels = Pixels(
        size=config.resize,
        crop=(config.side, config.side),
        resample=config.interpolation,
        mean=config.mean,
        std=config.std,
    )
    sides, side = AxisRange(min=1, max=MOST_SIDE), config.side
    return Tower(
        encoder=PhotographEncoder(pixels, network.module).eval(),
        spec=TensorSpec(name="image", dtype="uint8", shape=("batch", "height", "width", 3)),
        limits=Limits(
            axes={"height": sides, "width": sides},
            max_elements=3 * MOST_PIXELS,
            max_ratio=MOST_RATIO,
            cost=Cost(tokens=(side // PATCH) ** 2 + 1, elements=3 * PIXELS_PER_TOKEN),
        ),
        modality="image",
        shapes=((side, side, 3), (2 * side, side + 3, 3), (side + 5, 3 * side // 2, 3)),
        lineage={"imported": name, "weights": weights},
        licence=licence or config.licence,
    )
