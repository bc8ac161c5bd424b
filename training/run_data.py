"""The data of a run: read by name or path, and logged."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import torch

from attar.errors import InvalidInput

from . import distributed
from .data.arrays import Form
from .data.audio import waveforms
from .data.columns import read_table
from .data.document_pairs import Corpus, read_pairs
from .data.folder import TABLES, suffix_of
from .data.molecules import Molecules
from .data.objects import Objects
from .data.pairs import Split, split
from .data.riff import LOUDEST
from .data.source import Source
from .datasets import docstrings
from .encoders.encoder import TensorEncoder
from .encoders.spectrogram import SAMPLING_RATE
from .groups import Groups
from .overrides import override
from .reading import SHIPPED, LabelChoice, read
from .sampler import evenly
from .text_data import TextData

log = logging.getLogger("attar.training")

FORMS: Mapping[str, Form] = {
    "image": "image",
    "series": "series",
    "audio": "series",
    "table": "table",
}
"""What rows of numbers are to a modality."""
NUMBERS = (".npz", *TABLES, ".parquet")  # files of rows of numbers
CLIPS = 64  # that sound is judged by
HELD_OUT = 800  # pairs, or an eighth of a corpus smaller than eight times that


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The options of `--read`: how the data is read."""

    form: Form | None = None
    side: int | None = None
    rate: int | None = None
    length: int | None = None
    columns: tuple[str, ...] | None = None
    label: str | None = None
    labels: LabelChoice = "read"
    part: str | None = None
    test_last: int | None = None
    skip_bad: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TextReading:
    """The options of `--read` for texts."""

    column: str | None = None


def named(data: str) -> str:
    """Refuse an empty `--data`, as a shell's variable that is not set makes it."""
    if not data.strip():
        raise InvalidInput("--data is empty; pass a path or a name, or leave it out")
    return data


def read_source(
    data: str, choices: Sequence[str], *, modality: str, side: int | None = None
) -> Source:
    """Read items of a modality as `--read` says, and log them; `side` is used if it says none."""
    if "label=none" in choices:
        raise InvalidInput("--read label=none names no column; labels=none reads without labels")
    defaults = {"form": _form_of(data, modality), "side": side}
    source = read(data, **defaults | chosen(Reading(), choices))
    report(*(source.summary.lines() if source.summary else ()))
    if modality == "audio":
        _check_sound(data, source)
    return source


def read_for(encoder: TensorEncoder, data: str, choices: Sequence[str]) -> Source:
    """Read items as an encoder takes them: images of its side, sound as waveforms of its rate."""
    spec = encoder.input
    side = spec.shape[-1]
    sized = encoder.modality == "image" and data not in SHIPPED and isinstance(side, int)
    source = read_source(
        data, choices, modality=encoder.modality, side=cast("int", side) if sized else None
    )
    hertz = spec.extra.get(SAMPLING_RATE)
    return waveforms(source, hertz=hertz) if isinstance(hertz, int) else source


def chosen(reading: Reading | TextReading, choices: Sequence[str]) -> dict[str, Any]:
    """Give the options of `--read` that are not at their defaults, by name."""
    changed = override(reading, choices)
    every = ((field.name, getattr(changed, field.name), field.default) for field in fields(changed))
    return {name: value for name, value, default in every if value != default}


def corpus(data: str, choices: Sequence[str] = (), *, what: str, least: int = 3) -> Split:
    """Read the pairs or texts that `--data` names, hold some out and log both.

    `what` is said to be of texts where a word of `--read` is not about them. Raises InvalidInput
    for fewer than `least`: training compares the two that are left of three.
    """
    column = _column(choices, what)
    if data == "docstrings":
        if column is not None:
            raise InvalidInput(f"--read column={column}: docstrings have no columns; leave it out")
        read = Corpus(data, docstrings.read(), "pairs of summary and body")
        if Path(data).exists():
            report(f"{data} are shipped; what is called so in this folder is ./{data}")
    else:
        read = read_pairs(Path(data), column=column)
    pairs = read.pairs
    if len(pairs) < least:
        held_out = "one of which is" if least < 4 else "two of which are"
        raise InvalidInput(
            f"{data} has {len(pairs)} of the {least} pairs of texts that are needed, {held_out} "
            "held out; give more"
        )
    count = min(HELD_OUT, max(1, len(pairs) // 8))
    report(*read.lines(held_out=count))
    return split(pairs, held_out=count)


def report_cut(texts: TextData, *, max_length: int, option: str = "") -> None:
    """Show how many texts to train on are as long as an encoder reads, or longer.

    `option` is what changes that length, where something does.
    """
    rows = (*texts.pairs.first, *texts.pairs.second)
    if cut := sum(len(row) >= max_length for row in rows):
        how = f" ({option})" if option else ""
        report(
            f"{cut:,} of {len(rows):,} texts to train on reach {max_length} tokens: cut there{how}"
        )


def has_smiles(data: str, choices: Sequence[str]) -> bool:
    """Say whether `--data` is a table of molecules, of which no column of texts was named."""
    path = Path(data)
    return not choices and suffix_of(path) in TABLES and "smiles" in read_table(path).fields


def report_items(data: str, learnt: Any) -> None:
    """Show data that a recipe reads itself."""
    match learnt:
        case Molecules():
            report(f"{data}: {len(learnt.train):,} SMILES")
        case Objects():
            counts = f"{len(learnt.train_labels):,} train, {len(learnt.test_labels):,} test"
            report(f"{data}: objects in {', '.join(learnt.train)}; {counts}")
        case Groups():
            for source in (learnt.related, learnt.target):
                report(*(source.summary.lines() if source.summary else ()))


def report(*lines: str) -> None:
    """Log what a user should know of a run, in the first process of several."""
    if distributed.first():
        for line in lines:
            log.info("%s", line)


def _check_sound(data: str, source: Source) -> None:
    """Refuse sound in whole numbers, as int16 has it, judged by some clips from all over."""
    rows = torch.tensor(evenly(range(len(source.train)), CLIPS))
    loudest = float(source.train[rows].abs().max())
    if loudest >= LOUDEST:
        raise InvalidInput(
            f"{data} has samples up to {loudest:.4g}; sound is in [-1, 1], so divide by its full "
            "scale"
        )


def _column(choices: Sequence[str], what: str) -> str | None:
    for choice in choices:
        if choice.partition("=")[0].strip() != "column":
            raise InvalidInput(
                f"--read {choice} says nothing to {what}, of texts, which takes column=NAME; leave "
                "it out"
            )
    return override(TextReading(), choices).column


def _form_of(data: str, modality: str) -> Form | None:
    """Give the form of rows of numbers, where the file does not determine it."""
    path = Path(data) if Path(data).exists() else Path(data.rpartition("#")[0])  # FILE.npz#NAME
    numbers = suffix_of(path) in NUMBERS
    return FORMS.get(modality) if numbers else None
