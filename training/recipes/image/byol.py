"""BYOL: predict a slowly moving copy's projection of another view, without negatives.

Grill et al., NeurIPS 2020, arXiv:2006.07733.
"""

from dataclasses import dataclass
from typing import Final

from ...data.source import Source
from ...encoders.mlp import mlp
from ...loop import Training
from ...methods.asymmetric import Asymmetric
from ...methods.siamese import Inputs
from ...recipe import Recipe
from ...schedules import cosine_ramp
from .common import two_views
from .imagenet import lars
from .settings import SMALL_IMAGES, ProjectorSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ProjectorSettings):
    """The recipe's numbers; `hidden` is the width inside the predictor too.

    The paper keeps the encoder that learns (section 3.1); `export_target` keeps its EMA.
    """

    steps: int = 400  # without negatives it takes longer
    blur: tuple[float, float] = (1.0, 0.1)  # appendix B
    solarise: tuple[float, float] = (0.0, 0.2)
    momentum: float = 0.98  # of the target at the first step; 1 at the last
    export_target: bool = False


SMALL: Final = Settings()
PAPER: Final = Settings(  # section 3.3 and the official configuration
    **lars(batch_size=4096, rate=0.2 * 4096 / 256, weight_decay=1.5e-6, count=1000),
    encoder="resnet50",
    hidden=4096,
    projection=256,
    momentum=0.996,
)


def build(data: Source, settings: Settings) -> Training[tuple[Inputs, Inputs]]:
    """Compose the run."""
    return two_views(
        data,
        settings,
        lambda encoder: Asymmetric(
            encoder,
            settings.projector_of(encoder),
            mlp(settings.projection, settings.hidden, settings.projection),
            momentum=cosine_ramp(settings.momentum, 1.0, settings.steps),
            export_target=settings.export_target,
        ),
    )


recipe = Recipe(
    paper="Grill et al. 2020, arXiv:2006.07733",
    family="align",
    modality="image",
    settings=SMALL,
    published=PAPER,
    build=build,
    differences=SMALL_IMAGES,
)
