"""A static encoder by contrast: InfoNCE between the two texts of a pair, over several widths.

There is no paper. The method is that of Aarsen 2025, huggingface.co/blog/static-embeddings: a
table of tokens that starts from noise, in-batch negatives, Matryoshka widths. `attar distill
--student static` starts the table from a teacher (`training.static_init`).
"""

from dataclasses import dataclass
from typing import Final

from ...composing import RunSettings, compose_rows, seeded
from ...encoders.static import StaticConfig, StaticEncoder
from ...encoders.students import STATIC, VOCABULARY
from ...loop import Training
from ...methods.siamese import TwoViews, nested
from ...recipe import Recipe
from ...text_data import TextData

SOURCES = (
    "Tulkens and van Dongen 2024, github.com/MinishLab/model2vec; Arora et al. 2017; Aarsen 2025"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(RunSettings):
    """The recipe's numbers; `widths` are smaller ones that an embedding may be cut to."""

    steps: int = 280  # 15 epochs of the demo's pairs
    batch_size: int = 256
    rate: float = 3e-3
    weight_decay: float = 0.0
    temperature: float = 0.05
    widths: tuple[int, ...] = (128, 64, 32)
    shape: StaticConfig = STATIC


SMALL: Final = Settings()
PAPER: Final = Settings(  # static-retrieval-mrl-en-v1: one epoch, a tenth of it warm-up
    batch_size=2048,
    rate=0.2,
    temperature=1 / 20,  # the library's scale
    widths=(512, 256, 128, 64, 32),
    shape=StaticConfig(vocabulary=VOCABULARY, dim=1024),
)


def build(data: TextData, settings: Settings) -> Training[TwoViews]:
    """Compose the run of a table that starts from noise."""
    with seeded(settings.seed):
        return contrast(data, StaticEncoder(settings.shape), settings)


def contrast(data: TextData, encoder: StaticEncoder, settings: Settings) -> Training[TwoViews]:
    """Compose the run that contrasts pairs in `encoder`, wherever it starts."""
    method = nested(encoder, **settings.only("widths", "temperature"))
    return compose_rows(method, settings, data.pairs, probe=lambda: data.probe(encoder))


recipe = Recipe(
    paper="Aarsen 2025, huggingface.co/blog/static-embeddings",
    family="contrast",
    modality="text",
    settings=SMALL,
    published=PAPER,
    build=build,
    differences=(
        "pairs of one corpus instead of many public sets of pairs",
        "a passage finds its query too, as a query its passage",
    ),
)
