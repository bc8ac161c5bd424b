"""A static encoder by contrast: InfoNCE between the two texts of a pair, over several widths.

There is no paper. The method is that of Aarsen 2025, huggingface.co/blog/static-embeddings: a
table of tokens that starts from noise, in-batch negatives, Matryoshka widths. `attar distill
--student static` starts the table from a teacher (`training.static_init`).
"""

from dataclasses import dataclass
from functools import partial
from typing import Final

from torch import nn

from ...composing import RunSettings, compose, seeded, uniform
from ...encoders.static import StaticConfig, StaticEncoder
from ...encoders.students import STATIC, VOCABULARY
from ...loop import Training
from ...methods.siamese import Inputs, Siamese
from ...objectives.matryoshka import matryoshka
from ...optimisers import adamw
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
    warmup: int = 20  # steps
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


def build(data: TextData, settings: Settings) -> Training[tuple[Inputs, Inputs]]:
    """Compose the run of a table that starts from noise."""
    with seeded(settings.seed):
        encoder = StaticEncoder(settings.shape)
    return contrast(data, encoder, settings)


def contrast(
    data: TextData, encoder: StaticEncoder, settings: Settings
) -> Training[tuple[Inputs, Inputs]]:
    """Compose the run that contrasts pairs in `encoder`, wherever it starts.

    Widths from the encoder's own on are left out.
    """
    widths = (encoder.dim, *(width for width in settings.widths if width < encoder.dim))
    objective = partial(matryoshka, widths=widths, temperature=settings.temperature)
    method = Siamese(encoder, nn.Identity(), objective)
    return compose(
        method,
        settings,
        items=data.pairs.batch,
        rows=uniform(len(data.pairs.first), settings),
        optimiser=adamw(method, weight_decay=settings.weight_decay),
        probe=lambda: data.probe(encoder),
    )


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
