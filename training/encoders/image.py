"""Image encoders by name: what the setting `encoder` of an image recipe selects."""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from attar.errors import InvalidInput

from ..backbones.network import PRETRAINED, is_backbone
from .backbone import Backbone, BackboneConfig
from .conv import SmallConv, SmallConvConfig
from .encoder import TensorEncoder
from .resnet import ResNet, ResNetConfig
from .scattering import ScatteringConfig, ScatteringEncoder
from .transformer import TransformerConfig
from .vit import VitConfig, VitEncoder

EncoderName: TypeAlias = str
"""One of `NAMES`, or a network of another library: timm:NAME or torch:MODULE:FACTORY."""

PRE_NORM: Final[Mapping[str, Any]] = {"norm": "pre", "norm_eps": 1e-6}
TRANSFORMERS: Final[Mapping[str, TransformerConfig]] = {
    "vit": TransformerConfig(width=64, depth=3, heads=4, hidden=128, **PRE_NORM),
    "vit_small": TransformerConfig(width=384, depth=12, heads=6, hidden=1536, **PRE_NORM),
    "vit_large": TransformerConfig(width=1024, depth=24, heads=16, hidden=4096, **PRE_NORM),
}
"""Vision transformers by name (Dosovitskiy et al. 2021, table 1; Touvron et al. 2021, table 1)."""
NAMES: Final = ("tiny", "small", "resnet18", "resnet50", "scattering", *TRANSFORMERS)


def image_encoder(
    name: EncoderName,
    *,
    channels: int,
    side: int,
    dim: int | None = None,
    weights: str = PRETRAINED,
) -> TensorEncoder:
    """Make an encoder of images of one side: convolutions, scattering, or a transformer.

    The embeddings are the pooled features, of any length, which is what projectors see in the
    papers; `dim` adds a linear map to that width. See `vit_shape` for transformers. `weights` are
    those that a network of another library starts from; see `load_network`. Raises InvalidInput for
    a name that there is not, and for weights of an encoder that has none.
    """
    sizes: dict[str, Any] = {"channels": channels, "side": side, "dim": dim, "normalized": False}
    if is_backbone(name):
        return Backbone(BackboneConfig(name=name, **sizes), weights=weights)
    if weights != PRETRAINED:
        raise InvalidInput(
            f"weights are those of timm:NAME or torch:MODULE:FACTORY; {name} has none, so leave "
            f"out weights={weights}"
        )
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
        case "vit" | "vit_small" | "vit_large":
            return VitEncoder(vit_shape(name, channels=channels, side=side, dim=dim))
    raise InvalidInput(
        f"encoder is one of {', '.join(NAMES)}, timm:NAME or torch:MODULE:FACTORY; got {name!r}"
    )


def vit_shape(name: EncoderName, *, channels: int, side: int, dim: int | None = None) -> VitConfig:
    """Give the sizes of a vision transformer by name, for images of one side.

    `vit` sees sixteen patches of any side and is for small images; `vit_small` and `vit_large` are
    ViT-S/16 and ViT-L/16. Raises InvalidInput for an encoder without patches, and for a side that
    patches do not fill.
    """
    if name not in TRANSFORMERS:
        names = ", ".join(TRANSFORMERS)
        raise InvalidInput(f"this recipe hides patches, so encoder is one of {names}; got {name}")
    if name == "vit" and side < 4:
        raise InvalidInput(f"vit sees sixteen patches, so side must be 4 or more; got {side}")
    return VitConfig(
        channels=channels,
        side=side,
        patch=side // 4 if name == "vit" else 16,
        transformer=TRANSFORMERS[name],
        dim=dim,
        normalized=False,
    )


def patches_of(encoder: TensorEncoder, name: EncoderName) -> VitEncoder:
    """Give an encoder that has patches to hide; raises InvalidInput for another."""
    if not isinstance(encoder, VitEncoder):
        names = ", ".join(TRANSFORMERS)
        raise InvalidInput(f"this recipe hides patches, so encoder is one of {names}; got {name}")
    return encoder
