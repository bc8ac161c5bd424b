"""MAE: rebuild three quarters of an image's patches from the others.

He et al., CVPR 2022, arXiv:2111.06377.
"""

from dataclasses import dataclass
from typing import Final

from ...composing import step_views
from ...data.source import Source
from ...data.square import side_of
from ...encoders.encoder import TensorEncoder
from ...encoders.image import EncoderName, patches_of, vit_shape
from ...encoders.transformer import TransformerConfig
from ...loop import Training
from ...methods.masked_autoencoder import DECODER, SMALL_DECODER, MaskedAutoencoder, MaskedPatches
from ...recipe import Recipe
from .common import image_run
from .imagenet import epochs, passes
from .settings import ImageSettings
from .views import view_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ImageSettings):
    """The recipe's numbers."""

    encoder: EncoderName = "vit"
    steps: int = 400
    mask: float = 0.75  # of the patches
    decoder: TransformerConfig = SMALL_DECODER
    normalised: bool = True  # the pixels of each patch


SMALL: Final = Settings()
PAPER: Final = Settings(  # appendix A.1, table 8, and the decoder of section 4.1
    **passes(800, batch_size=4096),
    encoder="vit_large",
    views="crop",
    rate=1.5e-4 * 4096 / 256,
    warmup=epochs(40, batch_size=4096),
    weight_decay=0.05,
    decoder=DECODER,
)


def build(data: Source, settings: Settings) -> Training[MaskedPatches]:
    """Compose the run; raises InvalidInput for an encoder that has no patches."""
    patches = vit_shape(settings.encoder, channels=1, side=side_of(data)).patches
    masked = MaskedPatches.after(view_of(data, settings), patches=patches)

    def method(encoder: TensorEncoder) -> MaskedAutoencoder:
        vit = patches_of(encoder, settings.encoder)
        return MaskedAutoencoder(vit, settings.decoder, normalised=settings.normalised)

    return image_run(data, settings, method, step_views(masked, settings, "mask"))


recipe = Recipe(
    paper="He et al. 2022, arXiv:2111.06377",
    family="align",
    modality="image",
    settings=SMALL,
    published=PAPER,
    build=build,
    differences=(
        "small grey digits instead of photographs in colour",
        "learned positions, and AdamW's usual second moment",
    ),
)
