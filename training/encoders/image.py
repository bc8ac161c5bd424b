"""Image encoders by name: what the setting `encoder` of an image recipe selects."""

from typing import Literal, TypeAlias

from attar.errors import InvalidInput

from .conv import SmallConv, SmallConvConfig
from .encoder import TensorEncoder
from .resnet import ResNet, ResNetConfig
from .scattering import ScatteringConfig, ScatteringEncoder
from .transformer import TransformerConfig
from .vit import VitConfig, VitEncoder

EncoderName: TypeAlias = Literal[
    "tiny", "small", "resnet18", "resnet50", "scattering", "vit", "vit_small"
]

VIT = TransformerConfig(width=64, depth=3, heads=4, hidden=128, norm="pre", norm_eps=1e-6)
VIT_SMALL = TransformerConfig(width=384, depth=12, heads=6, hidden=1536, norm="pre", norm_eps=1e-6)


def image_encoder(name: EncoderName, *, channels: int, side: int, dim: int) -> TensorEncoder:
    """Make an encoder of images of one side: convolutions, scattering, or a transformer.

    `vit` sees sixteen patches of any side and is for small images; `vit_small` is ViT-S/16.
    """
    match name:
        case "tiny":
            return SmallConv(SmallConvConfig(channels=channels, side=side, dim=dim, width=8))
        case "small":
            return SmallConv(SmallConvConfig(channels=channels, side=side, dim=dim))
        case "resnet18":
            return ResNet(ResNetConfig(channels=channels, side=side, dim=dim))
        case "resnet50":
            blocks = (3, 4, 6, 3)
            return ResNet(
                ResNetConfig(channels=channels, side=side, blocks=blocks, bottleneck=True, dim=dim)
            )
        case "scattering":
            shape = ScatteringConfig(channels=channels, side=side, width=24, blocks=1, dim=dim)
            return ScatteringEncoder(shape)
        case "vit":
            if side < 4:
                raise InvalidInput(
                    f"vit sees sixteen patches, so side must be 4 or more; got {side}"
                )
            return VitEncoder(
                VitConfig(channels=channels, side=side, patch=side // 4, transformer=VIT, dim=dim)
            )
        case "vit_small":
            return VitEncoder(
                VitConfig(channels=channels, side=side, patch=16, transformer=VIT_SMALL, dim=dim)
            )


def patches_of(encoder: TensorEncoder, name: EncoderName) -> VitEncoder:
    """Give an encoder that has patches to hide; raises InvalidInput for another."""
    if not isinstance(encoder, VitEncoder):
        raise InvalidInput(
            f"this recipe hides patches, so encoder must be vit or vit_small; got {name}"
        )
    return encoder
