"""MoCo: a view finds its partner, embedded by a slowly moving copy, next to a queue of past keys.

He et al., CVPR 2020, arXiv:1911.05722.
"""

from dataclasses import dataclass
from functools import partial
from typing import Final

from ...data.source import Source
from ...loop import Training
from ...methods.momentum import Mixing, MomentumContrast
from ...methods.siamese import Inputs
from ...recipe import Recipe
from ...schedules import constant
from ...targets import Queue
from .common import two_views
from .imagenet import passes
from .settings import SMALL_IMAGES, ProjectorSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ProjectorSettings):
    """The recipe's numbers; the paper keeps the encoder of queries, `export_target` its EMA."""

    queue: int = 512
    momentum: float = 0.98  # of the copy
    export_target: bool = False
    temperature: float = 0.2


SMALL: Final = Settings()
PAPER: Final = Settings(  # section 3.3 and the official defaults; not given: warmup, hidden
    **passes(200, batch_size=256),
    rate=0.03,
    optimizer="sgd",
    encoder="resnet50",
    views="natural",
    projection=128,
    projector_depth=1,
    queue=65536,
    momentum=0.999,
    temperature=0.07,
)


def build(
    data: Source, settings: Settings, mixing: Mixing | None = None
) -> Training[tuple[Inputs, Inputs]]:
    """Compose the run; `mixing` adds harder negatives, made of those there are."""
    queue = Queue(settings.queue, settings.projection, seed=settings.seed)
    own = settings.only("temperature", "export_target") | {"queue": queue, "mixing": mixing}
    method = partial(MomentumContrast, momentum=constant(settings.momentum))
    return two_views(data, settings, lambda net: method(net, settings.projector_of(net), **own))


recipe = Recipe(
    paper="He et al. 2020, arXiv:1911.05722",
    family="contrast",
    modality="image",
    settings=SMALL,
    published=PAPER,
    build=build,
    differences=(
        *SMALL_IMAGES,
        "both views are queries, without shuffled batch norm",
        "a rate that falls along a cosine instead of in steps",
    ),
)
