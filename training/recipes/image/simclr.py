"""SimCLR: each view finds its partner among all the others.

Chen et al., ICML 2020, arXiv:2002.05709.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from torch import nn

from ...data.source import Source
from ...encoders.mlp import mlp
from ...loop import Training
from ...methods.siamese import Inputs, Siamese
from ...objectives.nt_xent import nt_xent
from ...recipe import Recipe
from .common import two_views
from .settings import SMALL_IMAGES, ImageSettings, epochs


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ImageSettings):
    """The recipe's numbers."""

    hidden: int = 256  # width inside the projector
    projection: int = 64
    temperature: float = 0.2


SMALL: Final = Settings()
PAPER: Final = Settings(  # section 2.2 and the official README's ImageNet command
    steps=epochs(100, batch_size=4096),
    batch_size=4096,
    rate=0.3 * 4096 / 256,
    warmup=epochs(10, batch_size=4096),
    weight_decay=1e-6,
    dim=2048,
    encoder="resnet50",
    views="natural",
    optimizer="lars",
    hidden=2048,
    projection=128,
    temperature=0.1,
)


def contrast(settings: Settings) -> Callable[[nn.Module], Siamese]:
    """Give what makes the method around an encoder."""
    projector = settings.dim, settings.hidden, settings.projection
    objective = partial(nt_xent, temperature=settings.temperature)
    return lambda encoder: Siamese(encoder, mlp(*projector), objective)


def build(data: Source, settings: Settings) -> Training[tuple[Inputs, Inputs]]:
    """Compose the run."""
    return two_views(data, settings, contrast(settings))


recipe = Recipe(
    paper="Chen et al. 2020, arXiv:2002.05709",
    family="contrast",
    modality="image",
    settings=SMALL,
    published=PAPER,
    build=build,
    differences=SMALL_IMAGES,
)
