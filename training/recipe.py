"""A recipe: a paper's method composed from parts, with a claim that can be checked."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from .loop import Training

Data = TypeVar("Data")
Settings = TypeVar("Settings")

Family = Literal["contrast", "decorrelate", "align", "cluster", "classify", "distribute"]
Modality = Literal["text", "image", "series", "audio", "table", "molecule", "many"]
Figures: TypeAlias = Mapping[str, tuple[float, ...]]  # by name, a value a seed
SEEDS = (0, 1, 2)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a claim held, and the figures that say so."""

    holds: bool
    figures: Figures


@dataclass(frozen=True, slots=True)
class Claim(Generic[Data]):
    """A sentence about a recipe, and the seeded runs that check it.

    `data` gives what there is without a download, `trial` one seed's figures by name on that or
    other data, and `holds` looks at the figures of all seeds.
    """

    statement: str
    data: Callable[[], Data]
    trial: Callable[[Data, int], Mapping[str, float]]
    holds: Callable[[Figures], bool]

    def check(self, seeds: Sequence[int] = SEEDS, data: Data | None = None) -> Verdict:
        """Run a trial a seed, on `data` or the claim's own, and judge."""
        shown = self.data() if data is None else data
        trials = [self.trial(shown, seed) for seed in seeds]
        figures = {name: tuple(trial[name] for trial in trials) for name in trials[0]}
        return Verdict(holds=self.holds(figures), figures=figures)


@dataclass(frozen=True, slots=True)
class Stage:
    """One run of a recipe that has several, by name."""

    name: str
    training: Training[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe(Generic[Data, Settings]):
    """What a method's module declares; the catalogue and the command line read it.

    `settings` are the defaults, a frozen dataclass with at least `steps` and `seed`; change some
    with `dataclasses.replace`. `build` composes a run from data and settings and starts nothing; of
    a method that has several runs it is the first. `stages` gives each of those once the one before
    it is done. `read` reads a path as the data where that is not one `Source`. `departures` says,
    a sentence each, where this differs from the paper.
    """

    paper: str
    family: Family
    modality: Modality
    claim: Claim[Any]
    settings: Settings
    build: Callable[[Data, Settings], Training[Any]]
    stages: Callable[[Data, Settings], Iterator[Stage]] | None = None
    read: Callable[[Path], Data] | None = None
    departures: tuple[str, ...] = ()

    def runs(self, data: Data, settings: Settings) -> Iterator[Stage]:
        """Give the runs one after another; fit each before asking for the next."""
        if self.stages is None:
            yield Stage("pretrain", self.build(data, settings))
        else:
            yield from self.stages(data, settings)
