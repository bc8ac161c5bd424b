"""EEGFormer: series as codes, and anomalies as codes that were not expected.

Chen et al. 2024, arXiv:2401.10278.
"""

from dataclasses import dataclass, replace
from typing import Final

from torch import Tensor

from ...composing import RunSettings, compose_rows, seeded
from ...data.source import Source, item_shape
from ...encoders.series import BLOCKS, SeriesConfig, SeriesEncoder
from ...encoders.transformer import TransformerConfig
from ...loop import Training
from ...methods.vector_quantised import VectorQuantised
from ...probes.code_surprise import code_probe
from ...recipe import Recipe
from ...targets import Codebook


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(RunSettings):
    """The recipe's numbers."""

    steps: int = 300
    batch_size: int = 32
    rate: float = 1e-3
    window: int = 64  # samples a token sees
    hop: int = 32  # samples to the next one
    transformer: TransformerConfig = BLOCKS
    size: int = 256  # codes
    hidden: int = 128  # width inside the decoder
    commitment: float = 0.25
    order: int = 2  # codes of an n-gram
    run: int = 4  # tokens: a segment is as strange as its strangest run


SMALL: Final = Settings()
PAPER: Final = Settings(transformer=replace(BLOCKS, width=128, depth=6))  # others: not given


def build(data: Source, settings: Settings) -> Training[Tensor]:
    """Compose the run; labels are 0 of normal segments and 1 of strange ones (InvalidInput)."""
    sizes = settings.only("window", "hop", "transformer")
    own = settings.only("hidden", "commitment", "order", "run")
    with seeded(settings.seed):
        shape = SeriesConfig.of(item_shape(data.train), instance_norm=True, **sizes)
        encoder = SeriesEncoder(shape)
        method = VectorQuantised(encoder, Codebook(settings.size, encoder.width), **own)
    return compose_rows(method, settings, data.train, probe=code_probe(method, data))


recipe = Recipe(
    paper="Chen et al. 2024, arXiv:2401.10278",
    family="align",
    modality="series",
    settings=SMALL,
    published=PAPER,
    build=build,
    differences=(
        "one channel of synthetic EEG instead of the Temple University corpus",
        "a token is a window of samples, and mixes all channels, instead of the spectrum of one",
        "unused codes are restarted from a state",
        "the surprise of n-grams of codes, as a score of anomalies, is attar's own",
    ),
)
