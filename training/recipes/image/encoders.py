"""The encoders that image recipes know by a word."""

from typing import Literal, TypeAlias

from attar.errors import InvalidInput

from ...encoders.conv import SmallConv, SmallConvShape
from ...encoders.encoder import TensorEncoder
from ...encoders.resnet import ResNet, ResNetShape
from ...encoders.scattering import ScatteringEncoder, ScatteringShape
from ...encoders.transformer import TransformerShape
from ...encoders.vit import VitEncoder, VitShape

Word: TypeAlias = Literal["tiny", "small", "resnet18", "resnet50", "scattering", "vit", "vit_small"]

VIT = TransformerShape(width=64, depth=3, heads=4, hidden=128, norm="pre", norm_eps=1e-6)
VIT_SMALL = TransformerShape(width=384, depth=12, heads=6, hidden=1536, norm="pre", norm_eps=1e-6)


def image_encoder(word: Word, *, channels: int, side: int, dim: int) -> TensorEncoder:
    """Make an encoder of images of one side: convolutions, scattering, or a transformer.

    `vit` sees sixteen patches of any side and is for small images; `vit_small` is ViT-S/16.
    """
    match word:
        case "tiny":
            return SmallConv(SmallConvShape(channels=channels, side=side, dim=dim, width=8))
        case "small":
            return SmallConv(SmallConvShape(channels=channels, side=side, dim=dim))
        case "resnet18":
            return ResNet(ResNetShape(channels=channels, side=side, dim=dim))
        case "resnet50":
            blocks = (3, 4, 6, 3)
            return ResNet(
                ResNetShape(channels=channels, side=side, blocks=blocks, bottleneck=True, dim=dim)
            )
        case "scattering":
            shape = ScatteringShape(channels=channels, side=side, width=24, blocks=1, dim=dim)
            return ScatteringEncoder(shape)
        case "vit":
            if side < 4:
                raise InvalidInput(
                    f"vit sees sixteen patches, so side must be 4 or more; got {side}"
                )
            return VitEncoder(
                VitShape(channels=channels, side=side, patch=side // 4, transformer=VIT, dim=dim)
            )
        case "vit_small":
            return VitEncoder(
                VitShape(channels=channels, side=side, patch=16, transformer=VIT_SMALL, dim=dim)
            )
