"""Adapt a text encoder to a corpus: queries made of the documents find their passages.

Karpukhin et al. 2020 (arXiv:2004.04906) on pairs made by rule instead of judged ones, at the widths
of a Matryoshka embedding (Kusupati et al. 2022, arXiv:2205.13147).
"""

from dataclasses import dataclass
from typing import Final

from torch import Tensor

from ...adaptation.passage_pairs import PassagePairs
from ...composing import RunSettings, compose, uniform
from ...encoders.text import TextEncoder, freeze_below
from ...loop import Training
from ...methods.dense_retrieval import DenseRetrieval, DenseRetrievalBatch
from ...probes.text_retrieval import Retrieval

SOURCES = "Karpukhin et al. 2020, arXiv:2004.04906; Kusupati et al. 2022, arXiv:2205.13147"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(RunSettings):
    """The recipe's numbers; temperature and rate were tried at one seed.

    `layers` is how many of the last layers learn; the others and the token table stay as they are.
    None lets all weights learn. `negatives` are the hard negatives of a query in a batch. `dropout`
    is for pairs of equal texts, which teach nothing without.
    """

    steps: int = 75
    batch_size: int = 64
    rate: float = 5e-5
    warmup: int = 8  # steps
    weight_decay: float = 0.01
    temperature: float = 0.05
    widths: tuple[int, ...] | None = None  # None is the full width alone
    layers: int | None = None
    negatives: int = 0
    dropout: float = 0.0


SMALL: Final = Settings()
PAPER: Final = Settings(  # DPR, sections 3.2 and 5; widths of Matryoshka BERT, section 4.1
    steps=40 * 58_880 // 128,  # 40 epochs of Natural Questions
    batch_size=128,
    rate=1e-5,
    warmup=1237,  # the authors' code
    weight_decay=0.0,
    temperature=1.0,  # inner products, not cosines
    negatives=1,
    dropout=0.1,
)


def build(
    data: PassagePairs, probe: Retrieval, encoder: TextEncoder, settings: Settings
) -> Training[DenseRetrievalBatch]:
    """Compose the run that trains `encoder` in place."""
    freeze_below(encoder, settings.layers)
    widths = settings.widths or (encoder.dim,)
    method = DenseRetrieval(encoder, widths=widths, **settings.only("temperature", "dropout"))

    def items(rows: Tensor) -> DenseRetrievalBatch:
        return data.batch(rows, negatives=settings.negatives)

    rows = uniform(len(data), settings, lengths=data.lengths)
    return compose(method, settings, items=items, rows=rows, probe=lambda: probe(encoder))
