"""MoCHi: MoCo with negatives mixed from the hardest.

Kalantidis et al., NeurIPS 2020, arXiv:2010.01028.
"""

from dataclasses import dataclass
from typing import Final

from ...data.source import Source
from ...loop import Training
from ...methods.momentum import Mixing
from ...methods.siamese import Inputs
from ...recipe import Recipe
from . import moco


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(moco.Settings):
    """The recipe's numbers, in addition to MoCo's."""

    hardest: int = 64
    mixed: int = 64
    harder: int = 16
    mixing_after: int = 40  # steps


SMALL: Final = Settings()
PAPER: Final = Settings(  # MoCo's; the others, its own too, are not given for sure
    batch_size=256, views="natural", optimizer="sgd", queue=65536, momentum=0.999
)


def build(data: Source, settings: Settings) -> Training[tuple[Inputs, Inputs]]:
    """Compose the run."""
    mixing = Mixing(
        hardest=settings.hardest,
        mixed=settings.mixed,
        harder=settings.harder,
        warmup=settings.mixing_after,
    )
    return moco.build(data, settings, mixing)


recipe = Recipe(
    paper="Kalantidis et al. 2020, arXiv:2010.01028",
    family="contrast",
    modality="image",
    settings=SMALL,
    published=PAPER,
    build=build,
    differences=moco.recipe.differences,
)
