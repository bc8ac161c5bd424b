"""A claim: a sentence about a recipe, and the seeded runs that check it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

Data = TypeVar("Data")

Figures: TypeAlias = Mapping[str, tuple[float, ...]]  # by name, a value a seed
SEEDS = (0, 1, 2)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a claim held, and the figures that say so."""

    holds: bool
    figures: Figures


@dataclass(frozen=True, slots=True)
class Claim(Generic[Data]):
    """A paper's effect, made small.

    `data` gives what there is without a download, `trial` one seed's figures by name on that or
    other data, and `holds` decides by the figures of all seeds.
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
