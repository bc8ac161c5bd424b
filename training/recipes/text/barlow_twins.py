"""Barlow Twins on text: summary and body are the two views of one documented function.

Zbontar et al., ICML 2021, arXiv:2103.03230, with a small token transformer.
"""

from dataclasses import dataclass
from functools import partial

from ...encoders.mlp import mlp
from ...loop import Training
from ...methods.siamese import Inputs
from ...objectives.barlow_twins import barlow_twins
from ...recipe import Recipe
from .common import PretrainingSettings, TextData, pretraining_claim, two_text_views


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(PretrainingSettings):
    """The recipe's numbers; rate and projector were tried at one seed."""

    projector: int = 1024  # width of the projector's two layers
    redundancy: float = 5e-3  # the paper's λ


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
    claim=pretraining_claim(build, Settings()),
    settings=Settings(),
    build=build,
    departures=(
        "the views are a docstring's summary and its body, for two distortions of an image",
        "a two-layer token transformer and a projector of two layers, for ResNet-50 and three",
        "AdamW at batch 128, for LARS at 2048",
    ),
)
