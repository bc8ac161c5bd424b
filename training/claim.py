"""A claim: a sentence about a recipe, and the seeded runs that check it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from .probes.interval import Interval, interval

Data = TypeVar("Data")

Figures: TypeAlias = Mapping[str, tuple[float, ...]]  # by name, a value a seed
SEEDS = (0, 1, 2)


@dataclass(frozen=True, slots=True)
class Effect:
    """A number that a seed's figures give, and what it is to be above."""

    name: str
    of: Callable[[Mapping[str, float]], float]
    above: float = 0.0

    def over(self, figures: Figures) -> Interval:
        """Give its mean over the seeds with the 95 % interval; of one seed, the number alone."""
        values = [self.of(seed) for seed in _by_seed(figures)]
        if len(values) == 1:
            return Interval(mean=values[0], low=values[0], high=values[0], count=1)
        return interval(values)

    def holds(self, figures: Figures) -> bool:
        """Say whether the lower end of the interval is above `above`."""
        return self.over(figures).low > self.above


def difference(first: str, second: str, *, above: float = 0.0) -> Effect:
    """Give the effect that is one figure less another, paired by seed."""
    return Effect(f"{first} - {second}", lambda seed: seed[first] - seed[second], above)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a claim held, and the figures that say so."""

    holds: bool
    figures: Figures


@dataclass(frozen=True, slots=True)
class Claim(Generic[Data]):
    """A paper's effect, made small.

    `data` gives what there is without a download, and `trial` one seed's figures by name on that or
    other data. The claim holds when each of its `effects` does.
    """

    statement: str
    data: Callable[[], Data]
    trial: Callable[[Data, int], Mapping[str, float]]
    effects: Sequence[Effect]

    def holds(self, figures: Figures) -> bool:
        """Judge the figures of all seeds."""
        return all(effect.holds(figures) for effect in self.effects)

    def check(self, seeds: Sequence[int] = SEEDS, data: Data | None = None) -> Verdict:
        """Run a trial a seed, on `data` or the claim's own, and judge."""
        shown = self.data() if data is None else data
        trials = [self.trial(shown, seed) for seed in seeds]
        figures = {name: tuple(trial[name] for trial in trials) for name in trials[0]}
        return Verdict(holds=self.holds(figures), figures=figures)


def _by_seed(figures: Figures) -> Iterator[Mapping[str, float]]:
    for values in zip(*figures.values(), strict=True):
        yield dict(zip(figures, values, strict=True))
