"""Image encoders by name: what the setting `encoder` of an image recipe selects."""

from typing import Any, Literal, TypeAlias

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


def image_encoder(
    name: EncoderName, *, channels: int, side: int, dim: int | None = None
) -> TensorEncoder:
    """Make an encoder of images of one side: convolutions, scattering, or a transformer.

    `vit` sees sixteen patches of any side and is for small images; `vit_small` is ViT-S/16. The
    embeddings are the pooled features, of any length, which is what projectors see in the papers;
    `dim` adds a linear map to that width.
    """
    sizes: dict[str, Any] = {"channels": channels, "side": side, "dim": dim, "normalized": False}
    match name:
        case "tiny":
            return SmallConv(SmallConvConfig(**sizes, width=8))
        case "small":
            return SmallConv(SmallConvConfig(**sizes))
        case "resnet18":
            return ResNet(ResNetConfig(**sizes))
        case "resnet50":
            return ResNet(ResNetConfig(**sizes, blocks=(3, 4, 6, 3), bottleneck=True))
        case "scattering":
            grid = max(1, min(4, side // 4))  # as fine as what scattering leaves, at most 4 x 4
            shape = ScatteringConfig(**sizes, width=24, blocks=2, kernel=3, grid=grid)
            return ScatteringEncoder(shape)
        case "vit":
            if side < 4:
                raise InvalidInput(
                    f"vit sees sixteen patches, so side must be 4 or more; got {side}"
                )
            return VitEncoder(VitConfig(**sizes, patch=side // 4, transformer=VIT))
        case "vit_small":
            return VitEncoder(VitConfig(**sizes, patch=16, transformer=VIT_SMALL))


def patches_of(encoder: TensorEncoder, name: EncoderName) -> VitEncoder:
    """Give an encoder that has patches to hide; raises InvalidInput for another."""
    if not isinstance(encoder, VitEncoder):
        raise InvalidInput(
            f"this recipe hides patches, so encoder must be vit or vit_small; got {name}"
        )
    return encoder
