"""SimCSE: a text finds itself again under another dropout, among the texts of the batch.

Gao et al., EMNLP 2021, arXiv:2104.08821, the unsupervised models.
"""

from dataclasses import dataclass, replace
from typing import Final

from torch import nn

from ...composing import seeded
from ...encoders.students import BERT_BASE
from ...encoders.text import TextEncoder
from ...loop import Training
from ...methods.simcse import SimCse
from ...recipe import Recipe
from ...text_data import TextData
from ...views.text import Tokens
from .common import PretrainingSettings
from .single_texts import single_texts


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(PretrainingSettings):
    """The recipe's numbers."""

    temperature: float = 0.05
    dropout: float = 0.1


SMALL: Final = Settings()
PAPER: Final = Settings(  # section 3, appendix A and the authors' code: BERT-base
    steps=1_000_000 // 64,  # one epoch of a million sentences
    batch_size=64,
    rate=3e-5,
    warmup=0,
    weight_decay=0.0,
    shape=replace(BERT_BASE, max_length=32),
)


def build(data: TextData, settings: Settings) -> Training[Tokens]:
    """Compose the run; its probe gives retrieval and RankMe."""
    with seeded(settings.seed):
        encoder = TextEncoder(settings.shape)
        projector = nn.Sequential(nn.Linear(encoder.dim, encoder.dim), nn.Tanh())
        method = SimCse(encoder, projector, **settings.only("temperature", "dropout"))
    return single_texts(method, data, settings)


recipe = Recipe(
    paper="Gao et al. 2021, arXiv:2104.08821",
    family="contrast",
    modality="text",
    settings=SMALL,
    published=PAPER,
    build=build,
    differences=(
        "an encoder from noise instead of BERT; `attar adapt --rule two_dropouts` starts from one",
        "the mean of the tokens instead of [CLS]; attention weights are not dropped",
        "whole documents instead of sentences of Wikipedia",
    ),
)
