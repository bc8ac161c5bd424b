"""RankMe: choose a run's numbers without a label, by the rank of its projector's outputs.

Garrido et al., ICML 2023, arXiv:2210.02885, with Barlow Twins.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from ...data.source import Source
from ...loop import Training
from ...methods.siamese import Inputs
from ...recipe import Recipe, Stage
from . import barlow_twins


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(barlow_twins.Settings):
    """The recipe's numbers: those of Barlow Twins, and what is tried of two of them."""

    redundancies: tuple[float, ...] = (2e-3, 2e-2, 2e-1)
    rates: tuple[float, ...] = (1e-3, 2e-3, 4e-3)


SMALL: Final = Settings()
PAPER: Final = Settings(encoder="resnet50", views="natural")  # others: not given


def build(data: Source, settings: Settings) -> Training[tuple[Inputs, Inputs]]:
    """Compose one run, at the settings' own redundancy and rate."""
    return barlow_twins.build(data, settings)


def grid(settings: Settings) -> list[Settings]:
    """Give the settings that are compared: every redundancy with every rate."""
    return [
        replace(settings, redundancy=redundancy, rate=rate)
        for redundancy in settings.redundancies
        for rate in settings.rates
    ]


def stages(data: Source, settings: Settings) -> Iterator[Stage]:
    """Give a run for each of the grid, and the best by RankMe of the projector once more, last."""
    unlabelled = replace(data, train_labels=None, test_labels=None)
    ranks = []
    for point in grid(settings):
        training = build(unlabelled, point)
        yield Stage(f"redundancy_{point.redundancy:g}_rate_{point.rate:g}", training)
        assert training.probe is not None
        training.method.eval()
        ranks.append(training.probe(point.steps)["rankme_projector"])
    yield Stage("chosen", build(data, grid(settings)[ranks.index(max(ranks))]))


recipe = Recipe(
    paper="Garrido et al. 2023, arXiv:2210.02885",
    family="decorrelate",
    modality="image",
    settings=SMALL,
    published=PAPER,
    build=build,
    stages=stages,
    differences=(
        "small grey digits instead of ImageNet",
        "a small grid over Barlow Twins instead of larger sweeps of five methods",
    ),
)
