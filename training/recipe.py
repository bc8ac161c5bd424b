"""A recipe: a paper's method composed from parts, with a claim that can be checked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from .loop import Training

Data = TypeVar("Data")
Settings = TypeVar("Settings")

Family = Literal["contrast", "decorrelate", "align", "cluster", "classify", "distribute"]
Modality = Literal["text", "image"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a claim held, and the figures that say so."""

    holds: bool
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence about a recipe, and the seeded run on small data that checks it."""

    statement: str
    check: Callable[[], Verdict]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe(Generic[Data, Settings]):
    """What a method's module declares; the catalogue and the command line read it.

    `settings` are the defaults, a frozen dataclass with at least `steps` and `seed`; change some
    with `dataclasses.replace`. `build` composes a run from data and settings and starts nothing.
    `departures` says, a sentence each, where this differs from the paper.
    """

    paper: str
    family: Family
    modality: Modality
    claim: Claim
    settings: Settings
    build: Callable[[Data, Settings], Training[Any]]
    departures: tuple[str, ...] = ()
