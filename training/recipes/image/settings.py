"""The settings that every image recipe has, and the encoder that they name."""

from dataclasses import dataclass

from torch import nn

from ...backbones.network import PRETRAINED
from ...composing import RunSettings, seeded
from ...data.source import Source, item_shape
from ...data.square import side_of
from ...encoders.encoder import TensorEncoder
from ...encoders.image import EncoderName, image_encoder
from ...encoders.mlp import projector
from ...optimisers import OptimizerName
from ...views.image import ViewName

SMALL_IMAGES = (
    "small grey digits with affine, erasing and noise views instead of photographs in colour",
)
"""Where the recipes on digits differ from papers on photographs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSettings(RunSettings):
    """The numbers of every run on images; a recipe adds those of its objective.

    They are for small images and hundreds of steps; a large set wants another encoder, natural
    views and more steps. The embedding is the encoder's pooled features, which are probed and which
    the projector sees; `dim` adds a linear map to that width. `weights` are those that a timm: or
    torch: encoder starts from: "pretrained", "random", or a file. `colour` (brightness, contrast,
    saturation and hue), `blur` and `solarise` are strengths of natural views; the last two are
    shares of the images, in the first and in the second view of a pair.
    """

    batch_size: int = 128
    weight_decay: float = 1e-4
    dim: int | None = None
    encoder: EncoderName = "small"
    weights: str = PRETRAINED  # of an encoder of another library
    views: ViewName = "affine"
    colour: tuple[float, float, float, float] = (0.4, 0.4, 0.2, 0.1)
    blur: tuple[float, float] = (0.5, 0.5)
    solarise: tuple[float, float] = (0.0, 0.0)
    optimizer: OptimizerName = "adamw"
    final_weight_decay: float | None = None  # at the last step, along half a cosine
    clip: float | None = None  # largest norm of the gradient


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectorSettings(ImageSettings):
    """The numbers of a run with a projector."""

    hidden: int = 256  # width inside the projector
    projection: int = 64
    projector_depth: int = 2  # linear layers

    def projector_of(self, encoder: TensorEncoder, *, norm_output: bool = False) -> nn.Sequential:
        """Make the projector of an encoder's features; see `mlp` for `norm_output`."""
        widths, depth = (encoder.dim, self.hidden, self.projection), self.projector_depth
        return projector(*widths, depth=depth, norm_output=norm_output)


def new_encoder(data: Source, settings: ImageSettings) -> TensorEncoder:
    """Make the encoder that the settings name, for a source's images, always the same of a seed."""
    channels, side = item_shape(data.train)[0], side_of(data)
    with seeded(settings.seed):
        return image_encoder(
            settings.encoder,
            channels=channels,
            side=side,
            dim=settings.dim,
            weights=settings.weights,
        )
