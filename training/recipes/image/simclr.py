"""SimCLR on digits: each view finds its partner among all the others.

Chen et al., ICML 2020, arXiv:2002.05709, with a small convolutional encoder.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from ...data.source import Source
from ...encoders.mlp import mlp
from ...loop import Training
from ...methods.siamese import Inputs, Siamese
from ...objectives.nt_xent import nt_xent
from ...recipe import Recipe
from .common import ImageSettings, scarce_claim, two_views


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ImageSettings):
    """The recipe's numbers."""

    hidden: int = 256  # width inside the projector
    projection: int = 64
    temperature: float = 0.2


def contrast(settings: Settings) -> Callable[[nn.Module], Siamese]:
    """Give what makes the method around an encoder."""
    return lambda encoder: Siamese(
        encoder,
        mlp(settings.dim, settings.hidden, settings.projection),
        partial(nt_xent, temperature=settings.temperature),
    )


def build(data: Source, settings: Settings) -> Training[tuple[Inputs, Inputs]]:
    """Compose the run."""
    return two_views(data, settings, contrast(settings))


recipe = Recipe(
    paper="Chen et al. 2020, arXiv:2002.05709",
    family="contrast",
    modality="image",
    claim=scarce_claim(build, Settings()),
    settings=Settings(),
    build=build,
    departures=(
        "8x8 grey digits and affine, erasing and noise views, for ImageNet and its colour views",
        "three convolutions, for ResNet-50; AdamW at batch 128, for LARS at 4096",
    ),
)
