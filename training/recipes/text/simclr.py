"""SimCLR on text: NT-Xent between a documented function's summary and its body.

Chen et al., ICML 2020, arXiv:2002.05709, with a small token transformer.
"""

from dataclasses import dataclass
from functools import partial

from ...encoders.mlp import mlp
from ...loop import Training
from ...methods.siamese import Inputs
from ...objectives.nt_xent import nt_xent
from ...recipe import Recipe
from .common import PretrainingSettings, TextData, pretraining_claim, two_text_views


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(PretrainingSettings):
    """The recipe's numbers; rate and temperature were tried at one seed."""

    projector: int = 256  # width of the projection
    temperature: float = 0.1


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
    claim=pretraining_claim(build, Settings()),
    settings=Settings(),
    build=build,
    departures=(
        "the views are a docstring's summary and its body, for two distortions of an image",
        "a two-layer token transformer for ResNet-50; AdamW at batch 128, for LARS at 4096",
    ),
)
