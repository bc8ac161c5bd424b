"""TERA on tones: rebuild frames altered along time, frequency and magnitude.

Liu et al. 2021, arXiv:2007.06028, with a small transformer over log-mel frames.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from torch import Tensor, nn

from ...data.source import Source, embed
from ...data.spectrograms import Frames, spectrograms
from ...datasets.spoken_digits import spoken_digits
from ...datasets.tones import tones
from ...distributed import shard, step_generator
from ...encoders.spectrogram import SpectrogramConfig, SpectrogramEncoder
from ...encoders.transformer import TransformerConfig
from ...loop import Training, fit
from ...methods.masked_frames import MaskedFrames, MaskedFramesBatch
from ...optimisers import adamw
from ...probes.suite import evaluate
from ...recipe import Claim, Figures, Recipe
from ...sampler import Sampler
from ...schedules import warmup_cosine
from ...views.spectrogram import alter

BLOCKS = TransformerConfig(width=64, depth=3, heads=4, hidden=128, norm="pre", norm_eps=1e-5)
WAYS = {"time": (0.0, 0.0), "time_frequency": (0.2, 0.0), "all": (0.2, 0.15)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The recipe's numbers; the alterations are the paper's, but for shorter spans."""

    steps: int = 200
    seed: int = 0
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


def build(data: Source, settings: Settings) -> Training[MaskedFramesBatch]:
    """Compose the run; its probe gives RankMe and, with labels, accuracies."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(settings.seed)
        shape = SpectrogramConfig(mels=settings.frames.bands, transformer=settings.transformer)
        method = MaskedFrames(SpectrogramEncoder(shape))
    return further(data, method, settings)


def further(data: Source, method: MaskedFrames, settings: Settings) -> Training[MaskedFramesBatch]:
    """Compose a run that trains a method from what it has learnt so far."""
    seen = spectrograms(data, settings.frames)
    rows = Sampler(items=len(seen.train), batch_size=settings.batch_size, seed=settings.seed)

    def views(clean: Tensor, step: int) -> MaskedFramesBatch:
        altered = alter(
            clean,
            step_generator(settings.seed, step),
            time=settings.time,
            span=settings.span,
            frequency=settings.frequency,
            magnitude=settings.magnitude,
        )
        return MaskedFramesBatch(altered.data, clean, altered.params["hidden"])

    return Training(
        method=method,
        batches=lambda step: seen.train[shard(rows(step))],
        views=views,
        optimiser=adamw(method, weight_decay=settings.weight_decay),
        rate=warmup_cosine(settings.rate, settings.warmup, settings.steps),
        steps=settings.steps,
        seed=settings.seed,
        probe=lambda _made: probe(method.encoder, seen),
    )


def probe(encoder: nn.Module, seen: Source) -> dict[str, float]:
    """Probe an encoder on a source of spectrograms."""
    test = np.zeros((0, 1), np.float32) if seen.test is None else embed(encoder, seen.test)
    return evaluate(embed(encoder, seen.train), test, seen)


class MeanFrame(nn.Module):
    """The mean of a spectrogram's frames: what a linear probe is given without an encoder."""

    def forward(self, spectrogram: Tensor) -> Tensor:
        """Give (b, bands)."""
        return spectrogram.mean(2)


def trial(data: Source, seed: int) -> dict[str, float]:
    """Probe the mean frame, an encoder before training, and one after each set of alterations."""
    default = replace(Settings(), seed=seed)
    mean = probe(MeanFrame(), spectrograms(data, default.frames, plain=True))
    figures = {"mean_frame/linear": mean["linear"]}
    for name, (frequency, magnitude) in WAYS.items():
        settings = replace(default, frequency=frequency, magnitude=magnitude)
        rows = fit(build(data, settings), accelerator="cpu", progress=False).rows
        figures["untrained/linear"] = next(row["linear"] for row in rows if "linear" in row)
        figures[f"{name}/linear"] = rows[-1]["linear"]
    return figures


def digits_of(folder: Path, *, unheard: str) -> Source:
    """Give half-second clips of spoken digits for `trial`, one speaker's held out."""
    return spoken_digits(folder, length=4000, test_speakers=(unheard,))


def _holds(figures: Figures) -> bool:
    least = max(fmean(figures["mean_frame/linear"]), fmean(figures["untrained/linear"]))
    return fmean(figures["all/linear"]) > least


recipe = Recipe(
    paper="Liu et al. 2021, arXiv:2007.06028",
    family="align",
    modality="audio",
    claim=Claim(
        "a linear probe of which figure tones play is on average more accurate on the frozen "
        "encoder than on the mean log-mel frame, and than before training",
        tones,
        trial,
        _holds,
    ),
    settings=Settings(),
    build=build,
    departures=(
        "one-second synthetic tones, 40 bands every 32 ms, for speech and 80 bands every 10 ms",
        "a linear map rebuilds frames, for two layers; width 64 for 768",
        "spans of frames do not overlap",
    ),
)
