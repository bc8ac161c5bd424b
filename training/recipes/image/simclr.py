"""SimCLR: each view finds its partner among all the others.

Chen et al., ICML 2020, arXiv:2002.05709.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from ...data.source import Source
from ...encoders.encoder import TensorEncoder
from ...loop import Training
from ...methods.siamese import Inputs, Siamese
from ...objectives.nt_xent import nt_xent
from ...recipe import Recipe
from .common import two_views
from .imagenet import lars
from .settings import SMALL_IMAGES, ProjectorSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ProjectorSettings):
    """The recipe's numbers."""

    colour: tuple[float, float, float, float] = (0.8, 0.8, 0.8, 0.2)  # appendix A
    temperature: float = 0.2


SMALL: Final = Settings()
PAPER: Final = Settings(  # section 2.2 and the official README's ImageNet command
    **lars(batch_size=4096, rate=0.3 * 4096 / 256, weight_decay=1e-6, count=100),
    encoder="resnet50",
    hidden=2048,
    projection=128,
    temperature=0.1,
)


def contrast(settings: Settings) -> Callable[[TensorEncoder], Siamese]:
    """Give what makes the method around an encoder."""
    objective = partial(nt_xent, temperature=settings.temperature)
    return lambda encoder: Siamese(encoder, settings.projector_of(encoder), objective)


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
