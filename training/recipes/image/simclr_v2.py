"""SimCLRv2 whole: pretrain without labels, fine-tune on a few, distil into a small student.

Chen et al., NeurIPS 2020, arXiv:2006.10029.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from ...data.source import Source
from ...loop import Training
from ...methods.siamese import Inputs, Siamese
from ...objectives.nt_xent import nt_xent
from ...objectives.soft_labels import soft_labels
from ...recipe import Recipe, Stage
from .common import two_views
from .imagenet import lars
from .settings import SMALL_IMAGES
from .students import StudentSettings, distil, taught


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(StudentSettings):
    """The recipe's numbers."""

    colour: tuple[float, float, float, float] = (0.8, 0.8, 0.8, 0.2)  # SimCLR's
    projector_depth: int = 3
    temperature: float = 0.2
    distil_temperature: float = 1.0


SMALL: Final = Settings()
PAPER: Final = Settings(  # official code; not given: steps, widths, those of the student's run
    **lars(batch_size=4096, rate=0.075 * 4096**0.5, weight_decay=1e-4),
    projection=128,
    temperature=0.1,
    tuning_rate=0.005 * 1024**0.5,
)


def build(data: Source, settings: Settings) -> Training[tuple[Inputs, Inputs]]:
    """Compose the first run: SimCLR with a deeper projector."""
    loss = partial(nt_xent, temperature=settings.temperature)
    return two_views(data, settings, lambda net: Siamese(net, settings.projector_of(net), loss))


def stages(data: Source, settings: Settings) -> Iterator[Stage]:
    """Give the runs, with fine-tuning between them."""
    objective = partial(soft_labels, temperature=settings.distil_temperature)
    return taught(data, settings, build(data, settings), partial(distil, objective=objective))


recipe = Recipe(
    paper="Chen et al. 2020, arXiv:2006.10029",
    family="contrast",
    modality="image",
    settings=SMALL,
    published=PAPER,
    build=build,
    stages=stages,
    differences=(
        *SMALL_IMAGES,
        "three convolutions, the student's a quarter as wide, instead of selective-kernel ResNets",
        "the teacher is not distilled into itself first",
        "fine-tuning with AdamW instead of LARS",
    ),
)
