"""Continued pretraining helps with few labels, on another instrument's figures."""

from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Final, cast

import numpy as np

from ...claim import Claim, difference
from ...data.audio import waveforms
from ...data.source import Source, embed
from ...data.split import held_out, split_by_mask
from ...datasets.spoken_digits import spoken_digits
from ...datasets.tones import tones
from ...encoders.spectrogram import SpectrogramEncoder
from ...groups import Groups
from ...loop import fit
from ...methods.masked_frames import MaskedFrames
from ...probes.few_shot import few_rows
from ...probes.linear import linear_accuracy
from ...recipes.audio.continued import SMALL, Settings, build, further

FEW, DRAWS = 5, 5  # labels a class of the target, and how often they are drawn


def trial(data: Groups, seed: int) -> dict[str, float]:
    """Give errors on the target's test part with few of its labels, and all of the related group.

    Encoders are the base, that continued on the target, and that continued on what it knew.
    """
    settings = replace(SMALL, seed=seed)
    first = replace(build(data, settings), probe=None)
    fit(first, accelerator="cpu", progress=False)
    base = cast("MaskedFrames", first.method)
    encoders = {"base": base.encoder}
    for name, source in (("continued", data.target), ("longer", data.related)):
        run = replace(further(source, base, settings), probe=None)
        fit(run, accelerator="cpu", progress=False)
        encoders[name] = cast("MaskedFrames", run.method).encoder
    figures: dict[str, float] = {}
    for name, encoder in encoders.items():
        alone, together = errors(encoder.eval(), data, settings)
        figures |= {f"{name}/target": alone, f"{name}/target_and_related": together}
    return figures


def errors(encoder: SpectrogramEncoder, data: Groups, settings: Settings) -> tuple[float, float]:
    """Give a linear probe's mean error with few labels of the target: alone, and with the others'.

    Both groups must have labels, and the target a test part.
    """
    hertz = settings.frames.hertz
    related, target = (waveforms(clips, hertz=hertz) for clips in (data.related, data.target))
    assert target.test is not None
    assert related.train_labels is not None
    assert target.train_labels is not None
    assert target.test_labels is not None
    related_rows, some, test_rows = (
        embed(encoder, s) for s in (related.train, target.train, target.test)
    )
    alone, together = [], []
    for draw in range(DRAWS):
        rows = few_rows(target.train_labels, FEW, seed=draw)
        few, labels = some[rows], target.train_labels[rows]
        alone.append(1 - linear_accuracy(few, labels, test_rows, target.test_labels))
        both = np.concatenate([few, related_rows]), np.concatenate([labels, related.train_labels])
        together.append(1 - linear_accuracy(*both, test_rows, target.test_labels))
    return fmean(alone), fmean(together)


def instruments() -> Groups:
    """Give the same figures played by a flute, and by a reed, which is the target."""
    return Groups(related=tones("flute"), target=tones("reed"))


def speakers(folder: Path, *, target: str) -> Groups:
    """Give half-second spoken digits of all other speakers, and of the target, for `trial`.

    A part of the target's, three in ten of each digit, is its test part.
    """
    every = spoken_digits(folder, length=4000, test_speakers=(target,))
    assert every.test is not None
    assert every.test_labels is not None
    own = split_by_mask(every.test, every.test_labels, held_out(every.test_labels))
    related = Source(train=every.train, train_labels=every.train_labels, rate=every.rate)
    return Groups(related=related, target=own)


claim: Final = Claim(
    f"a linear probe with {FEW} labels a class of a second instrument has on average a lower "
    "error after pretraining is continued on unlabelled clips of that instrument than before, "
    "and than after as many further steps on the first instrument",
    instruments,
    trial,
    effects=(
        difference("base/target", "continued/target"),
        difference("longer/target", "continued/target"),
    ),
)
