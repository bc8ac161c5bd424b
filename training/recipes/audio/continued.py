"""Continued pretraining: a base from one group of voices goes on, unlabelled, with another's.

Nowakowski et al. 2023, arXiv:2301.07295, with TERA for wav2vec 2.0.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Final, cast

from ...data.source import Source
from ...groups import Groups, read_groups
from ...loop import Training
from ...methods.masked_frames import MaskedFrames, MaskedFramesBatch
from ...recipe import Recipe, Stage
from . import tera


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(tera.Settings):
    """The recipe's numbers: `steps` are those of the base."""

    further_steps: int = 200
    further_rate: float = 1e-3


SMALL: Final = Settings()
PAPER: Final = Settings()  # its numbers are wav2vec 2.0's, which no setting here has


def build(data: Groups, settings: Settings) -> Training[MaskedFramesBatch]:
    """Compose the first run: the base, TERA on the related group."""
    return tera.build(data.related, settings)


def further(data: Source, base: MaskedFrames, settings: Settings) -> Training[MaskedFramesBatch]:
    """Compose a run that goes on from a base, which it does not change, on another group."""
    longer = replace(settings, steps=settings.further_steps, rate=settings.further_rate)
    return tera.further(data, deepcopy(base), longer)


def stages(data: Groups, settings: Settings) -> Iterator[Stage]:
    """Give the two runs."""
    yield Stage("base", base := build(data, settings))
    yield Stage("continued", further(data.target, cast("MaskedFrames", base.method), settings))


recipe = Recipe(
    paper="Nowakowski et al. 2023, arXiv:2301.07295",
    family="align",
    modality="audio",
    settings=SMALL,
    published=PAPER,
    build=build,
    stages=stages,
    read=read_groups,
    differences=(
        "clips of two synthetic instruments instead of speech in Ainu and related languages",
        "TERA and a linear probe of classes instead of wav2vec fine-tuned to transcribe",
    ),
)
