"""SwAV: predict from one view which prototypes the other is assigned to, in balance.

Caron et al., NeurIPS 2020, arXiv:2006.09882.
"""

from dataclasses import dataclass
from typing import Final

from ...data.source import Source
from ...loop import Training
from ...methods.siamese import Inputs
from ...methods.swav import Swav
from ...recipe import Recipe
from .common import two_views
from .imagenet import epochs
from .settings import SMALL_IMAGES, ProjectorSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ProjectorSettings):
    """The recipe's numbers."""

    colour: tuple[float, float, float, float] = (0.8, 0.8, 0.8, 0.2)  # the official code
    prototypes: int = 60
    temperature: float = 0.1
    epsilon: float = 0.05
    frozen: int = 20  # steps in which the prototypes stand still


SMALL: Final = Settings()
PAPER: Final = Settings(  # section 4 and the official defaults
    batch_size=4096,
    rate=4.8,
    warmup=epochs(10, batch_size=4096),
    weight_decay=1e-6,
    encoder="resnet50",
    views="natural",
    optimizer="lars",
    hidden=2048,
    projection=128,
    prototypes=3000,
    frozen=313,
)  # not given: steps, of which there are several schedules


def build(data: Source, settings: Settings) -> Training[tuple[Inputs, Inputs]]:
    """Compose the run."""
    own = settings.only("prototypes", "temperature", "epsilon", "frozen")
    own |= {"dim": settings.projection}
    return two_views(data, settings, lambda net: Swav(net, settings.projector_of(net), **own))


recipe = Recipe(
    paper="Caron et al. 2020, arXiv:2006.09882; Goyal et al. 2022, arXiv:2202.08360",
    family="cluster",
    modality="image",
    settings=SMALL,
    published=PAPER,
    build=build,
    differences=(*SMALL_IMAGES, "two views and no small crops, and no queue of features"),
)
