"""Masked language modelling: an encoder from noise predicts the masked tokens of documents.

Devlin et al., NAACL 2019 (BERT), arXiv:1810.04805. For a language that no teacher knows.
"""

from dataclasses import dataclass
from typing import Final

from ...composing import seeded
from ...encoders.students import BERT_BASE
from ...encoders.text import TextEncoder
from ...loop import Training
from ...methods.masked_language import MaskedLanguage, MaskedLanguageBatch, mask_batches
from ...recipe import Recipe
from ...text_data import TextData
from .common import PretrainingSettings
from .single_texts import single_texts, with_mask


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(PretrainingSettings):
    """The recipe's numbers."""

    hide: float = 0.15  # share of the tokens that are predicted


SMALL: Final = Settings()
PAPER: Final = Settings(  # sections 3 and 3.1, appendix A.2: BERT-base
    steps=1_000_000,
    batch_size=256,
    rate=1e-4,
    warmup=10_000,
    shape=BERT_BASE,
)


def build(data: TextData, settings: Settings) -> Training[MaskedLanguageBatch]:
    """Compose the run; its probe gives retrieval and RankMe."""
    mask = settings.shape.vocabulary
    with seeded(settings.seed):
        method = MaskedLanguage(TextEncoder(with_mask(settings.shape)))
    views = mask_batches(settings.seed, blank=mask, vocabulary=mask, rate=settings.hide)
    return single_texts(method, data, settings, views=views)


recipe = Recipe(
    paper="Devlin et al. 2019, arXiv:1810.04805",
    family="classify",
    modality="text",
    settings=SMALL,
    published=PAPER,
    build=build,
    differences=(
        "no next-sentence prediction; a text is one document, cut, instead of two segments",
        "an output layer of its own instead of the token table's; no dropout",
        "the probes see the mean of the tokens instead of [CLS]",
    ),
)
