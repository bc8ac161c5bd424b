"""SimCLR of texts: NT-Xent between a documented function's summary and its body.

Chen et al., ICML 2020, arXiv:2002.05709.
"""

from dataclasses import dataclass
from functools import partial
from typing import Final

from ...encoders.mlp import mlp
from ...loop import Training
from ...methods.siamese import Inputs
from ...objectives.nt_xent import nt_xent
from ...recipe import Recipe
from ...text_data import TextData
from .common import IMAGES_TO_TEXTS, PretrainingSettings, two_text_views


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(PretrainingSettings):
    """The recipe's numbers; rate and temperature were tried at one seed."""

    projector: int = 256  # width of the projection
    temperature: float = 0.1


SMALL: Final = Settings()
PAPER: Final = Settings(  # section 2.2, official README; not given: steps, warmup
    batch_size=4096,
    rate=0.3 * 4096 / 256,
    weight_decay=1e-6,
    projector=128,
    temperature=0.1,
)


def build(data: TextData, settings: Settings) -> Training[tuple[Inputs, Inputs]]:
    """Compose the run; its probe gives retrieval and RankMe."""
    return two_text_views(
        data,
        settings,
        projector=lambda dim: mlp(dim, dim, settings.projector),
        objective=partial(nt_xent, temperature=settings.temperature),
    )


recipe = Recipe(
    paper="Chen et al. 2020, arXiv:2002.05709",
    family="contrast",
    modality="text",
    settings=SMALL,
    published=PAPER,
    build=build,
    differences=IMAGES_TO_TEXTS,
)
