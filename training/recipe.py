"""A recipe: a paper's method composed from parts, with the paper's numbers and those used here."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from .loop import Training

Data = TypeVar("Data")
Settings = TypeVar("Settings")

Family = Literal["contrast", "decorrelate", "align", "cluster", "classify", "distribute"]
Modality = Literal["text", "image", "series", "audio", "table", "molecule", "multimodal"]


@dataclass(frozen=True, slots=True)
class Stage:
    """One run of a recipe that has several, by name."""

    name: str
    training: Training[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe(Generic[Data, Settings]):
    """What a method's module declares; the catalogue and the command line read it.

    `paper` names the publication and `published` are its settings, as far as they are known for
    sure. `settings` are the defaults, for small data on a CPU: a frozen dataclass with at least
    `steps` and `seed`; change some with `dataclasses.replace`. `build` composes a run from data and
    settings and starts nothing; of a method that has several runs it is the first. `stages` gives
    each of those once the one before it is done. `read` reads a path as the data where that is not
    one `Source`. `differences` says, a sentence each, what no setting expresses: data, networks.
    """

    paper: str
    family: Family
    modality: Modality
    settings: Settings
    published: Settings
    build: Callable[[Data, Settings], Training[Any]]
    stages: Callable[[Data, Settings], Iterator[Stage]] | None = None
    read: Callable[[Path], Data] | None = None
    differences: tuple[str, ...] = ()

    @property
    def departures(self) -> tuple[str, ...]:
        """Say where the defaults differ from the paper, a sentence each."""
        return (*self.differences, *changed(self.settings, self.published))

    def runs(self, data: Data, settings: Settings) -> Iterator[Stage]:
        """Give the runs one after another; fit each before asking for the next."""
        if self.stages is None:
            yield Stage("pretrain", self.build(data, settings))
        else:
            yield from self.stages(data, settings)


def changed(settings: Any, published: Any, group: str = "") -> Iterator[str]:
    """Give a sentence for each setting that the paper has another value of, in their order."""
    for field in fields(settings):
        name = f"{group}{field.name}"
        here, there = (getattr(of, field.name) for of in (settings, published))
        if is_dataclass(here) and is_dataclass(there):
            yield from changed(here, there, f"{name}.")
        elif here != there:
            yield f"{name} is {_shown(here)}, in the paper {_shown(there)}"


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_shown, value))})"
    return str(value)
