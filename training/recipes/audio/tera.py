"""TERA: rebuild frames altered along time, frequency and magnitude.

Liu et al. 2021, arXiv:2007.06028.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from torch import Tensor

from ...composing import RunSettings, compose_rows, seeded
from ...data.source import Source
from ...data.spectrograms import Frames, spectrograms
from ...distributed import step_generator
from ...encoders.spectrogram import SpectrogramConfig, SpectrogramEncoder
from ...encoders.transformer import TransformerConfig
from ...loop import Training
from ...methods.masked_frames import MaskedFrames, MaskedFramesBatch
from ...probes.encoder import probe_encoder
from ...recipe import Recipe
from ...views.spectrogram import alter

BLOCKS = TransformerConfig(width=64, depth=3, heads=4, hidden=128, norm="pre", norm_eps=1e-5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(RunSettings):
    """The recipe's numbers."""

    steps: int = 200
    batch_size: int = 64
    rate: float = 2e-3
    warmup: int = 20  # steps
    weight_decay: float = 0.01
    frames: Frames = field(default_factory=Frames)
    transformer: TransformerConfig = BLOCKS
    time: float = 0.15  # share of the frames that are chosen
    span: int = 3  # frames: about 0.1 s, as the paper's 7 of 10 ms
    frequency: float = 0.2  # most of the bands that are zeroed
    magnitude: float = 0.15  # share of the spectrograms that noise is added to


SMALL: Final = Settings()
PAPER: Final = Settings(span=7, transformer=replace(BLOCKS, width=768), frames=Frames(bands=80))


def build(data: Source, settings: Settings) -> Training[MaskedFramesBatch]:
    """Compose the run; its probe gives RankMe and, with labels, accuracies."""
    with seeded(settings.seed):
        shape = SpectrogramConfig(mels=settings.frames.bands, transformer=settings.transformer)
        method = MaskedFrames(SpectrogramEncoder(shape))
    return further(data, method, settings)


def further(data: Source, method: MaskedFrames, settings: Settings) -> Training[MaskedFramesBatch]:
    """Compose a run that trains a method from what it has learnt so far."""
    seen = spectrograms(data, settings.frames)
    shares = settings.only("time", "span", "frequency", "magnitude")

    def views(clean: Tensor, step: int) -> MaskedFramesBatch:
        view = alter(clean, step_generator(settings.seed, step), **shares)
        return MaskedFramesBatch(view.data, clean, view.params["hidden"])

    probe = partial(probe_encoder, method.encoder, seen)
    return compose_rows(method, settings, seen.train, views=views, probe=probe)


recipe = Recipe(
    paper="Liu et al. 2021, arXiv:2007.06028",
    family="align",
    modality="audio",
    settings=SMALL,
    published=PAPER,
    build=build,
    differences=(
        "short synthetic tones instead of speech",
        "a linear map rebuilds frames instead of two layers; spans of frames do not overlap",
    ),
)
