"""DirectPred on digits: BYOL's predictor set from the projections' spectrum, not trained.

Tian et al., ICML 2021, arXiv:2102.06810, with a small convolutional encoder.
"""

from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal

from torch import nn

from ...data.source import Source
from ...datasets.digits import digits
from ...encoders.mlp import mlp
from ...loop import Training, fit
from ...methods.asymmetric import Asymmetric
from ...methods.siamese import Inputs
from ...predictors import DirectPred
from ...recipe import Claim, Figures, Recipe
from ...schedules import constant, cosine_ramp
from .common import ImageSettings, two_views


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ImageSettings):
    """The recipe's numbers."""

    hidden: int = 256  # width inside the projector
    projection: int = 64
    momentum: float = 0.98  # of the target at the first step; 1 at the last
    predictor: Literal["direct", "linear", "identity"] = "direct"
    correlation: float = 0.3  # the share of the moving average that each step keeps


def predictor(settings: Settings) -> nn.Module:
    """Make the predictor: set from the projections, trained, or none."""
    width = settings.projection
    match settings.predictor:
        case "direct":
            return DirectPred(width, momentum=constant(settings.correlation))
        case "linear":
            return nn.Linear(width, width, bias=False)
        case "identity":
            return nn.Identity()


def build(data: Source, settings: Settings) -> Training[tuple[Inputs, Inputs]]:
    """Compose the run."""
    return two_views(
        data,
        settings,
        lambda encoder: Asymmetric(
            encoder,
            mlp(settings.dim, settings.hidden, settings.projection),
            predictor(settings),
            momentum=cosine_ramp(settings.momentum, 1.0, settings.steps),
        ),
    )


def trial(data: Source, seed: int) -> dict[str, float]:
    """Train with the predictor set, trained, and left out."""
    default = replace(Settings(), seed=seed)
    runs = {
        "direct": default,
        "linear": replace(default, predictor="linear"),
        "identity": replace(default, predictor="identity"),
    }
    figures: dict[str, float] = {}
    for name, settings in runs.items():
        row = fit(build(data, settings), accelerator="cpu", progress=False).rows[-1]
        figures |= {f"{name}/{what}": row[what] for what in ("scarce", "rankme")}
    return figures


def _holds(figures: Figures) -> bool:
    means = {name: fmean(values) for name, values in figures.items()}
    return (
        means["direct/scarce"] > means["linear/scarce"]
        and means["direct/scarce"] > means["identity/scarce"]
    )


recipe = Recipe(
    paper="Tian et al. 2021, arXiv:2102.06810",
    family="align",
    modality="image",
    claim=Claim(
        "1-NN accuracy on held-out digits from five labels a class is on average above that with a "
        "trained linear predictor, and that without any",
        digits,
        trial,
        _holds,
    ),
    settings=Settings(),
    build=build,
    departures=(
        "8x8 grey digits and affine, erasing and noise views, for ImageNet and its colour views",
        "the predictor is set at every step",
        "AdamW at batch 128, for SGD",
    ),
)
