"""Barlow Twins of texts: summary and body are the two views of one documented function.

Zbontar et al., ICML 2021, arXiv:2103.03230.
"""

from dataclasses import dataclass
from functools import partial
from typing import Final

from ...encoders.mlp import mlp
from ...loop import Training
from ...methods.siamese import Inputs
from ...objectives.barlow_twins import barlow_twins
from ...recipe import Recipe
from ...text_data import TextData
from .common import IMAGES_TO_TEXTS, PretrainingSettings, two_text_views


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(PretrainingSettings):
    """The recipe's numbers; rate and projector were tried at one seed."""

    projector: int = 1024  # width of the projector's two layers
    redundancy: float = 5e-3  # λ


SMALL: Final = Settings()
PAPER: Final = Settings(  # sections 2.2, 2.3; not given: steps, warmup (epochs of images)
    batch_size=2048,
    rate=0.2 * 2048 / 256,
    weight_decay=1e-6,
    projector=8192,
    redundancy=0.0051,
)


def build(data: TextData, settings: Settings) -> Training[tuple[Inputs, Inputs]]:
    """Compose the run; its probe gives retrieval and RankMe."""
    return two_text_views(
        data,
        settings,
        projector=lambda dim: mlp(dim, settings.projector, settings.projector),
        objective=partial(barlow_twins, redundancy=settings.redundancy),
    )


recipe = Recipe(
    paper="Zbontar et al. 2021, arXiv:2103.03230",
    family="decorrelate",
    modality="text",
    settings=SMALL,
    published=PAPER,
    build=build,
    differences=(*IMAGES_TO_TEXTS, "a projector of two layers instead of three"),
)
