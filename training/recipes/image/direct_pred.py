"""DirectPred: BYOL's predictor set from the projections' spectrum, not trained.

Tian et al., ICML 2021, arXiv:2102.06810.
"""

from dataclasses import dataclass
from typing import Final, Literal

from torch import nn

from ...data.source import Source
from ...encoders.encoder import TensorEncoder
from ...encoders.mlp import mlp
from ...loop import Training
from ...methods.asymmetric import Asymmetric
from ...methods.siamese import Inputs
from ...predictors import DirectPred
from ...recipe import Recipe
from ...schedules import constant, cosine_ramp
from .common import two_views
from .settings import SMALL_IMAGES, ProjectorSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ProjectorSettings):
    """The recipe's numbers; `hidden` is the width inside the predictor of two layers too."""

    steps: int = 400  # without negatives it takes longer
    momentum: float = 0.98  # of the target at the first step; 1 at the last
    predictor: Literal["direct", "mlp", "linear", "identity"] = "direct"
    correlation: float = 0.3  # the share of the moving average that each step keeps


SMALL: Final = Settings()
PAPER: Final = Settings(views="natural", optimizer="sgd", momentum=0.996)  # official code alone


def predictor(settings: Settings) -> nn.Module:
    """Make the predictor: set from the projections, trained (BYOL's, or linear), or none."""
    width = settings.projection
    match settings.predictor:
        case "direct":
            return DirectPred(width, momentum=constant(settings.correlation))
        case "mlp":
            return mlp(width, settings.hidden, width)
        case "linear":
            return nn.Linear(width, width, bias=False)
        case "identity":
            return nn.Identity()


def build(data: Source, settings: Settings) -> Training[tuple[Inputs, Inputs]]:
    """Compose the run; the predictor is set at every step."""
    ema = cosine_ramp(settings.momentum, 1.0, settings.steps)

    def method(net: TensorEncoder) -> Asymmetric:
        return Asymmetric(net, settings.projector_of(net), predictor(settings), momentum=ema)

    return two_views(data, settings, method)


recipe = Recipe(
    paper="Tian et al. 2021, arXiv:2102.06810",
    family="align",
    modality="image",
    settings=SMALL,
    published=PAPER,
    build=build,
    differences=SMALL_IMAGES,
)
