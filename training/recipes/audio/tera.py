"""TERA: rebuild frames altered along time, frequency and magnitude.

Liu et al. 2021, arXiv:2007.06028.
"""

from dataclasses import dataclass, field, replace
from typing import Final

from ...composing import RunSettings, compose_source, seeded, step_views
from ...data.audio import waveforms
from ...data.source import Source, item_shape
from ...encoders.log_mel import LogMelConfig
from ...encoders.spectrogram import SpectrogramConfig, SpectrogramEncoder
from ...encoders.transformer import SMALL_BLOCKS, TransformerConfig
from ...loop import Training
from ...methods.masked_frames import MaskedFrames, MaskedFramesBatch
from ...recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(RunSettings):
    """The recipe's numbers."""

    frames: LogMelConfig = field(default_factory=LogMelConfig)
    transformer: TransformerConfig = SMALL_BLOCKS
    time: float = 0.15  # share of the frames that are chosen
    span: int = 3  # frames: about 0.1 s, as the paper's 7 of 10 ms
    frequency: float = 0.2  # most of the bands that are zeroed
    magnitude: float = 0.15  # share of the spectrograms that noise is added to


SMALL: Final = Settings()
PAPER: Final = Settings(
    span=7, transformer=replace(SMALL_BLOCKS, width=768), frames=LogMelConfig(bands=80)
)


def build(data: Source, settings: Settings) -> Training[MaskedFramesBatch]:
    """Compose the run; its probe gives RankMe and, with labels, accuracies."""
    with seeded(settings.seed):
        sizes = settings.only("frames", "transformer")
        shape = SpectrogramConfig(mels=settings.frames.bands, **sizes)
        method = MaskedFrames(SpectrogramEncoder(shape))
    return further(data, method, settings)


def further(data: Source, method: MaskedFrames, settings: Settings) -> Training[MaskedFramesBatch]:
    """Compose a run that trains a method from what it has learnt so far, on waveforms.

    Raises InvalidInput for waveforms of another rate than the settings', or too short.
    """
    clips = waveforms(data, hertz=settings.frames.hertz)
    settings.frames.refuse_short(*item_shape(clips.train))
    shares = "time", "span", "frequency", "magnitude"
    views = step_views(method.altered, settings, *shares)
    return compose_source(method, settings, clips, views=views)


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
